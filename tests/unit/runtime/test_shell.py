"""The application is opened before the first request, and closed whatever becomes of it."""

import asyncio

import pytest

from service.runtime.shell import Shell
from tests.virtual_loop import run


class Inside:
    """Something to open; its application answers with what it is asked."""

    def __init__(self, error=None):
        self.error, self.told = error, []

    async def open(self):
        self.told.append("open")
        if self.error:
            raise self.error

        async def app(scope, receive, send):
            await send({"type": "answer", "path": scope["path"]})

        return app

    async def close(self):
        self.told.append("close")


def lifespan(shell):
    """Start the lifespan; return its task, the queue to it and the list of what it sent."""
    inbox, sent = asyncio.Queue(), []

    async def send(message):
        sent.append(message)

    return asyncio.create_task(shell({"type": "lifespan"}, inbox.get, send)), inbox, sent


def test_requests_go_to_the_application_that_was_opened_and_shutdown_closes_it():
    async def scene():
        inside = Inside()
        shell = Shell(inside)
        task, inbox, sent = lifespan(shell)
        inbox.put_nowait({"type": "lifespan.startup"})
        await asyncio.sleep(1)
        assert [message["type"] for message in sent] == ["lifespan.startup.complete"]
        answers = []

        async def send(message):
            answers.append(message["path"])

        await shell({"type": "http", "path": "/x"}, None, send)
        assert answers == ["/x"]
        assert inside.told == ["open"]
        inbox.put_nowait({"type": "lifespan.shutdown"})
        await task
        assert inside.told == ["open", "close"]
        assert sent[-1]["type"] == "lifespan.shutdown.complete"

    run(scene())


def test_what_cannot_be_opened_is_closed_and_the_server_is_told_why():
    async def scene():
        inside = Inside(OSError("no such port"))
        task, inbox, sent = lifespan(Shell(inside))
        inbox.put_nowait({"type": "lifespan.startup"})
        with pytest.raises(OSError, match="port"):
            await task
        assert inside.told == ["open", "close"]
        assert sent == [{"type": "lifespan.startup.failed", "message": "OSError: no such port"}]

    run(scene())
