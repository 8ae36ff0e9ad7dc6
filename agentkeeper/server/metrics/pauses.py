"""How late the event loop runs what is due, and how long collecting garbage stops everything."""

from __future__ import annotations

import asyncio
import gc
import time
from collections import deque
from collections.abc import Iterator
from typing import Final

from agentkeeper.consensus.distribution import Distribution
from agentkeeper.server.metrics.families import Reading, gauge, histogram

LOOK_S: Final = 0.1
PAUSE_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
MAX_OF_S: Final = 60
"""The maximum is of so many seconds: whoever scrapes once in that time misses none."""


class Pauses:
    """Measures from `start` to `stop`, on the event loop."""

    def __init__(self) -> None:
        self._lag_s = Distribution(PAUSE_S)
        self._collection_s = Distribution(PAUSE_S)
        self._collecting_since_s: float | None = None
        self._worst_s = 0.0
        self._worst_of: deque[float] = deque(maxlen=MAX_OF_S)
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to measure."""
        gc.callbacks.append(self._on_collection)
        self._wait(asyncio.get_running_loop())

    def stop(self) -> None:
        """End it; harmless when repeated, or never begun."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            gc.callbacks.remove(self._on_collection)

    def worst_s(self) -> float:
        """The longest lag since this was last asked; asked once a second, by one caller."""
        worst_s, self._worst_s = self._worst_s, 0.0
        self._worst_of.append(worst_s)
        return worst_s

    def read(self) -> Iterator[Reading]:
        """See `Source.read`."""
        yield histogram(
            "agentkeeper_event_loop_lag_seconds",
            f"How late the event loop ran what was due, looked at every {LOOK_S} s",
            self._lag_s.counted(),
        )
        yield gauge(
            "agentkeeper_event_loop_lag_max_seconds",
            f"The longest of those of the last {MAX_OF_S} s",
            max(self._worst_s, *self._worst_of, 0.0),
        )
        yield histogram(
            "agentkeeper_gc_pause_duration_seconds",
            "How long collecting garbage stopped all threads",
            self._collection_s.counted(),
        )

    def _wait(self, loop: asyncio.AbstractEventLoop) -> None:
        due_s = loop.time() + LOOK_S
        self._timer = loop.call_at(due_s, self._look, loop, due_s)

    def _look(self, loop: asyncio.AbstractEventLoop, due_s: float) -> None:
        lag_s = max(0.0, loop.time() - due_s)
        self._lag_s.add(lag_s)
        self._worst_s = max(self._worst_s, lag_s)
        self._wait(loop)

    def _on_collection(self, phase: str, info: dict[str, int]) -> None:
        now_s = time.perf_counter()
        if phase == "start":
            self._collecting_since_s = now_s
        elif self._collecting_since_s is not None:
            self._collection_s.add(now_s - self._collecting_since_s)
