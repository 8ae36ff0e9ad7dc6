"""The cluster clock of a keeper whose time is moved by hand."""

from __future__ import annotations

import asyncio

from agentkeeper.server.clock import ClusterClock


class HandMovedClock(ClusterClock):
    """As the loop's time: however far that moves at once, all of it counts.

    Nobody has stood still meanwhile, as everybody lives by the same loop. Kept in whole
    microseconds, so that a deadline is reached exactly.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, wall_start_ms: int) -> None:
        """The wall clock shows `wall_start_ms` when the loop's time is 0."""
        super().__init__(loop.time, lambda: wall_start_ms + _microseconds(loop.time()) // 1000)
        self._loop = loop
        self._ahead_us = 0

    def start(self, time_ms: int) -> None:
        """See `ClusterClock.start`."""
        self._ahead_us = time_ms * 1000 - _microseconds(self._loop.time())

    def now_ms(self) -> int:
        """See `ClusterClock.now_ms`."""
        return (_microseconds(self._loop.time()) + self._ahead_us) // 1000

    def loop_s(self, time_ms: int) -> float:
        """When this clock reaches `time_ms`, on the loop's."""
        return (time_ms * 1000 - self._ahead_us) / 1_000_000


def _microseconds(seconds: float) -> int:
    return round(seconds * 1_000_000)
