"""Becomes an MCP server's program, as a child that ends with its parent. Started by mcp_link.py, as a file.

It ends with its parent however that ends: the kernel sends a kill (on Linux), and its standard input is closed. What it
writes on its standard error may quote what it was asked: nobody reads that.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def main() -> None:
    """Replace this process by the program and arguments that it was given."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 -- the operator's program, and no shell between


if __name__ == "__main__":
    main()
