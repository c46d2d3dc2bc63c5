"""`make bench`: run the benchmarks, all or those that are named, and write their results.

`python -m tests.benchmarks [NAME …]`. `peers`, which is `relay` with LiteLLM beside it, runs only when it is named.
"""

from __future__ import annotations

import sys
from functools import partial

from tests.benchmarks import disconnects, growth, many, memory, observing, overload, relay, streaming, turn
from tests.benchmarks.noise import heard
from tests.benchmarks.results import here, keep, section, write_page

BENCHMARKS = {
    "streaming": streaming.run,
    "observing": observing.run,
    "relay": relay.run,
    "peers": partial(relay.run, 1, with_peers=True),
    "turn": turn.run,
    "many": many.run,
    "memory": memory.run,
    "disconnects": disconnects.run,
    "growth": growth.run,
    "overload": overload.run,
}


def main(names: list[str]) -> None:
    """Run them one after the other."""
    for name in names or [name for name in BENCHMARKS if name != "peers"]:
        where = here()
        with heard() as noise:
            result = BENCHMARKS[name]()
        print(section(keep(name, result, where, noise)), flush=True)  # noqa: T201  (a program's output)
    write_page(list(BENCHMARKS))


if __name__ == "__main__":
    main(sys.argv[1:])
