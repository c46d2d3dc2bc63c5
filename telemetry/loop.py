"""How late the event loop is, always; and in development, what kept it.

A blocked loop is every stream's hiccup at once, and nothing else shows it. The composition root starts both.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from pathlib import PurePath
from types import FrameType

from telemetry.catalogue import EVENT_LOOP_LAG_SECONDS, LOG_BLOCKED_LOOP
from telemetry.log_processors import place
from telemetry.observe import Observer

SAMPLE_EVERY = 0.25  # seconds
BLOCKED_AFTER = 0.05  # seconds
MAX_FRAMES = 20


class LoopLag:
    """Records how late a timer of the running loop fires, four times a second."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(SAMPLE_EVERY, self._sample)

    def stop(self) -> None:
        """Take no more samples."""
        self._timer.cancel()

    def _sample(self) -> None:
        late = self._loop.time() - self._timer.when()
        self._observer.record(EVENT_LOOP_LAG_SECONDS, max(0.0, late))
        self._timer = self._loop.call_later(SAMPLE_EVERY, self._sample)


class Watchdog:
    """Logs the stack of a call that blocks the running loop: for development.

    The loop shows a sign of life at every beat. A thread sleeps until the last one that it has seen is too long ago; if
    none has come since, it tells what the loop's thread is doing, once for each blocking call. A call that takes a
    fifth longer than `blocked_after` is always told of, one that takes a fifth less never.
    """

    def __init__(self, observer: Observer, blocked_after: float = BLOCKED_AFTER) -> None:
        self._observer = observer
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._beat_every = blocked_after / 2.5
        self._longest_silence = blocked_after + self._beat_every / 2  # a call may begin anywhere between two beats
        self._stopped = threading.Event()
        self._last_beat = time.perf_counter()
        self._reported = 0.0
        self._timer = self._loop.call_soon(self._beat)
        threading.Thread(target=self._watch, name="loop-watchdog", daemon=True).start()

    def stop(self) -> None:
        """Stop watching; the thread ends at once."""
        self._stopped.set()
        self._timer.cancel()

    def _beat(self) -> None:
        self._last_beat = time.perf_counter()
        self._timer = self._loop.call_later(self._beat_every, self._beat)

    def _watch(self) -> None:
        pause = self._longest_silence
        while not self._stopped.wait(pause):
            pause = self._look(time.perf_counter())

    def _look(self, now: float) -> float:
        """Report what blocks the loop, if it does; return the seconds until it has to be looked at again."""
        beat = self._last_beat
        due = beat + self._longest_silence - now
        if due > 0:
            return due
        if beat != self._reported:
            stack = _stack(sys._current_frames().get(self._loop_thread))  # noqa: SLF001  # there is no other way
            if stack and beat == self._last_beat:  # still the same call, so the stack is its own
                self._reported = beat
                self._observer.log(LOG_BLOCKED_LOOP, blocked_ms=round((now - beat) * 1000), stack=stack)
        return self._beat_every


def _stack(frame: FrameType | None) -> list[str]:
    """Return the frames of a thread, outermost first, as `file:line in function`; [] if it only waits for events."""
    if frame is None or PurePath(frame.f_code.co_filename).name in {"selectors.py", "runners.py", "base_events.py"}:
        return []
    frames = []
    while frame is not None:
        frames.append(place(frame.f_code, frame.f_lineno))
        frame = frame.f_back
    return frames[:MAX_FRAMES][::-1]
