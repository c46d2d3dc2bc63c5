"""`calls.Schemas`: JSON checked against JSON Schema in child processes, within a limit.

Built by the composition root; called for the arguments of tools and for structured answers. The checks themselves are
loaded by the children alone: reading the standard's own schemas is a tenth of a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from service.errors import InvalidAnswer
from service.runtime.child import Child
from service.runtime.lending import Lending

_CHECK = str(Path(__file__).with_name("schema_check.py"))
LIMIT = 1.0  # seconds for one check, the wait for its turn included; an honest one takes about a millisecond


def _child() -> Child:
    return Child("-I", _CHECK)


class ProcessSchemas:
    """Checks in `workers` processes: as many at once, the next one waits for its turn."""

    def __init__(self, *, workers: int, limit: float = LIMIT) -> None:
        self._limit = limit
        self._processes = Lending(_child, size=workers, name="schemas", refusal=InvalidAnswer)

    async def warm(self) -> None:
        """Start every process, so that no request waits for that; raise OSError if it cannot be started."""
        await self._processes.open()
        await self._processes.use(lambda process: process.ask([{}, "null"]))

    async def problem(self, schema: Mapping[str, Any], text: str) -> str | None:
        """Return what is wrong with the JSON `text`, in words for the model; None if it is valid.

        Raises:
            InvalidAnswer: it cannot be told within the limit; the process is replaced.
        """
        return await self._ask([schema, text])

    async def problem_of_schema(self, schema: Mapping[str, Any]) -> str | None:
        """Return what is wrong with a schema itself, without its own words; None if nothing is."""
        return await self._ask([schema, None])

    async def _ask(self, question: list[Any]) -> str | None:
        try:
            async with asyncio.timeout(self._limit):
                answer: str | None = await self._processes.use(lambda process: process.ask(question))
        except (TimeoutError, OSError, ValueError) as error:
            raise InvalidAnswer("The answer could not be checked against its schema") from error
        return answer

    async def close(self) -> None:
        """Kill every process, within a few seconds."""
        await self._processes.close()
