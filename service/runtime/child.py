"""A child process that answers lines of JSON on its pipes: for what may hang or burn, and must be killable.

Plain children on pipes, not `multiprocessing`: its children import the parent's main module again (the whole service,
40 MB and 0.4 s each). Lent out by `lending`; a child whose caller left or ran out of time is killed and replaced.
"""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from typing import IO, Any

STOP_SECONDS = 1.0
"""How long a killed process may take to be gone."""


class Child:
    """One child of our own interpreter. It ignores the terminal's Ctrl-C (a session of its own) and ends with us.

    Args:
        arguments: what the interpreter is given: its options and the path of a script that reads a line, writes a
            line, and ends as soon as its input does.
    """

    def __init__(self, *arguments: str) -> None:
        self._child = subprocess.Popen(  # noqa: S603 - our interpreter and our file
            [sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # an exception's text may quote what it was given
            text=True,
            encoding="ascii",
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._child.pid

    def ask(self, question: Any) -> Any:
        """Return the child's answer to a JSON value; block until it is there. Raise OSError if the child has died."""
        given, taken = _pipe(self._child.stdin), _pipe(self._child.stdout)
        given.write(json.dumps(question) + "\n")
        given.flush()
        line = taken.readline()
        if not line.endswith("\n"):
            raise BrokenPipeError("the child process has ended")
        return json.loads(line)

    def interrupt(self) -> None:
        """Kill the child: whoever waits for its answer gets the end of the pipe."""
        self._child.kill()

    def close(self) -> None:
        """Kill the child, collect it, and close its pipes."""
        self._child.kill()
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(STOP_SECONDS)
        for pipe in (self._child.stdin, self._child.stdout):
            with suppress(OSError):  # what was still buffered has no reader any more
                _pipe(pipe).close()


def _pipe(pipe: IO[str] | None) -> IO[str]:
    if pipe is None:
        raise BrokenPipeError("the child process has no pipe")
    return pipe
