"""One chat turn, from its request to its stored answer: flow.py reads top to bottom."""
