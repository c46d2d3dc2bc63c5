"""The tools that ship, a file each; registry.py has their row. A tool knows its own arguments and nothing of a turn."""
