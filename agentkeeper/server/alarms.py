"""Many deadlines with one timer."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from typing import Final, Generic, TypeVar

TIMER_S: Final = 3_600.0
"""The farthest ahead that the timer is set."""
PASS_ALARMS: Final = 64
"""Deadlines that are seen to in one pass of the event loop."""
TIDY_FROM: Final = 64

Item = TypeVar("Item")


class Alarms(Generic[Item]):
    """Calls `ring` with each item in time, in the order of their deadlines.

    Items that want no ringing any more (`live` tells) are dropped when their time comes, or sooner
    when they are most of what is kept here; so nothing need be done to take one out.
    """

    def __init__(self, live: Callable[[Item], bool], ring: Callable[[Item], object]) -> None:
        self._live = live
        self._ring = ring
        self._loop = asyncio.get_running_loop()
        self._heap: list[tuple[float, int, Item]] = []
        self._tickets = 0
        self._tidy_at = TIDY_FROM
        self._timer: asyncio.Handle | None = None
        self._timer_s = 0.0

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, when_s: float, item: Item) -> None:
        """Ring for `item` at `when_s`, on the loop's clock."""
        self._tickets += 1
        heapq.heappush(self._heap, (when_s, self._tickets, item))
        if len(self._heap) > self._tidy_at:
            self._heap = [entry for entry in self._heap if self._live(entry[2])]
            heapq.heapify(self._heap)
            self._tidy_at = TIDY_FROM + 2 * len(self._heap)
        if self._heap and (self._timer is None or when_s < self._timer_s):
            self._set_timer()

    def close(self) -> None:
        """Ring no more."""
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_s = min(self._heap[0][0], self._loop.time() + TIMER_S)
        self._timer = self._loop.call_at(self._timer_s, self._look)

    def _look(self) -> None:
        self._timer = None
        now_s = self._loop.time()
        for _ in range(PASS_ALARMS):
            if not self._heap:
                return
            when_s, _, item = self._heap[0]
            live = self._live(item)
            if live and when_s > now_s:
                self._set_timer()
                return
            heapq.heappop(self._heap)
            if live:
                self._ring(item)
        if self._heap:
            # The rest when others have had their turn.
            self._timer_s = now_s
            self._timer = self._loop.call_soon(self._look)
