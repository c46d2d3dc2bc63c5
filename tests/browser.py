"""A real browser for tests of the pages: headless Chromium, driven by its own protocol over a pair of pipes."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

from tests.support import PATIENCE, require

FLAGS = (
    "--headless", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage", "--proxy-server=direct://",
)  # fmt: skip


class Browser:
    """One page. `said` are the lines of its console, errors and refusals of the content policy included; `asked`
    the addresses that it asked for."""

    def __init__(self, width: int = 1360, height: int = 860) -> None:
        program = require("chromium", "apt-get install chromium")
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        command_out, self._out = map(_above, os.pipe())
        self._in, events_in = map(_above, os.pipe())
        self.process = subprocess.Popen(
            ["bash", "-c", f'exec "$0" "$@" 3<&{command_out} 4>&{events_in}', program, *FLAGS,
             f"--user-data-dir={self._folder.name}", f"--window-size={width},{height}", "about:blank"],
            pass_fds=(command_out, events_in),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        os.close(command_out)
        os.close(events_in)
        os.set_blocking(self._in, False)
        self._buffer = b""
        self._ids = 0
        self._session: str | None = None
        self.said: list[str] = []
        self.asked: list[str] = []
        try:
            self._take_page(width, height)
        except BaseException:
            self.close()
            raise

    def _take_page(self, width: int, height: int) -> None:
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command of the DevTools protocol and return its result."""
        self._ids += 1
        message = {"id": self._ids, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE
        while True:
            answer = self._next(deadline)
            if answer.get("id") == self._ids:
                assert "error" not in answer, answer
                return answer["result"]

    def _next(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            assert time.monotonic() < deadline, f"the browser is silent: {self.said}"
            try:
                self._buffer += os.read(self._in, 1 << 20)
            except BlockingIOError:
                time.sleep(0.005)  # real time: another process, which tells nobody when it has written
        line, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(line)
        self._note(message.get("method"), message.get("params", {}))
        return message

    def _note(self, method: str | None, what: dict[str, Any]) -> None:
        if method == "Runtime.consoleAPICalled":
            self.said.append(" ".join(str(argument.get("value")) for argument in what["args"]))
        elif method == "Runtime.exceptionThrown":
            self.said.append(json.dumps(what["exceptionDetails"]))
        elif method == "Log.entryAdded":
            self.said.append(f"{what['entry']['text']} {what['entry'].get('url', '')}")
        elif method == "Network.requestWillBeSent":
            self.asked.append(what["request"]["url"])

    def open(self, url: str) -> None:
        self.send("Page.navigate", url=url)
        self.until("document.readyState === 'complete'")

    def run(self, script: str) -> Any:
        """What a script comes to, a promise's value included."""
        result = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def until(self, condition: str, seconds: float = PATIENCE) -> None:
        """Wait until a script comes to something true."""
        deadline = time.monotonic() + seconds
        while not self.run(f"Boolean({condition})"):
            assert time.monotonic() < deadline, f"it did not happen: {condition}\n{self.said}\n{self.text()[:2000]}"
            time.sleep(0.02)  # real time: a page in another process

    def text(self, selector: str = "body") -> str:
        return self.run(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''")

    def click(self, selector: str) -> None:
        self.run(f"document.querySelector({json.dumps(selector)}).click()")

    def fill(self, selector: str, text: str) -> None:
        """Write into a field, as a person who then goes on to the next."""
        self.run(
            f"{{ const field = document.querySelector({json.dumps(selector)}); field.value = {json.dumps(text)};"
            "field.dispatchEvent(new Event('change')) }"
        )

    def screenshot(self, path: Path, scheme: str = "light") -> None:
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))

    def close(self) -> None:
        os.close(self._out)
        os.close(self._in)
        try:
            self.process.wait(5)  # it ends when its pipe does
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(PATIENCE)
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _above(descriptor: int) -> int:
    """The same pipe under a number that the browser does not use: 3 and 4 are its own."""
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD, 10)
    os.close(descriptor)
    return moved
