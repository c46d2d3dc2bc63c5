"""`make bench`: run the benchmarks, all or those that are named, and write their results.

`python -m tests.benchmarks [NAME …]`; with `peers` among the names, `relay` measures LiteLLM too.
"""

from __future__ import annotations

import sys
from functools import partial

from tests.benchmarks import disconnects, growth, many, observing, relay, streaming, turn
from tests.benchmarks.results import keep, write_page

BENCHMARKS = {
    "streaming": streaming.run,
    "observing": observing.run,
    "relay": relay.run,
    "peers": partial(relay.run, with_peers=True),
    "turn": turn.run,
    "many": many.run,
    "disconnects": disconnects.run,
    "growth": growth.run,
}


def main(names: list[str]) -> None:
    """Run them one after the other."""
    for name in names or [name for name in BENCHMARKS if name != "peers"]:
        result = BENCHMARKS[name]()
        keep("relay" if name == "peers" else name, result)
        print(result.page(), flush=True)  # noqa: T201  (a program's output)
    write_page()


if __name__ == "__main__":
    main(sys.argv[1:])
