"""The cluster clock, as the leader runs it.

It continues from the state's time when a leader takes over and advances with the leader's
monotonic clock only: it stands still while nobody leads, and jumps of the wall clock don't touch
it. A span in which this process itself stood still (paused, or stalled for longer than
`STALL_MS`) does not count, since clients could not have been heard meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

STALL_MS: Final = 500


class ClusterClock:
    """Time in milliseconds while leading. Must be looked at more often than `STALL_MS`."""

    def __init__(self, monotonic_s: Callable[[], float], wall_ms: Callable[[], int]) -> None:
        self._monotonic_s = monotonic_s
        self._wall_ms = wall_ms
        self.stamped_ms = 0
        """The cluster time last given to a batch."""
        self._time_ms = 0.0
        self._looked_s: float | None = None

    def start(self, time_ms: int) -> None:
        """Go on from `time_ms`."""
        self._time_ms = float(time_ms)
        self._looked_s = self._monotonic_s()

    def now_ms(self) -> int:
        """The present cluster time."""
        if self._looked_s is None:
            return int(self._time_ms)
        now_s = self._monotonic_s()
        elapsed_ms = (now_s - self._looked_s) * 1000
        self._looked_s = now_s
        if 0 < elapsed_ms <= STALL_MS:
            self._time_ms += elapsed_ms
        return int(self._time_ms)

    def stamp(self) -> tuple[int, int]:
        """Cluster and wall time for a batch that is about to go into the log."""
        self.stamped_ms = self.now_ms()
        return self.stamped_ms, self._wall_ms()

    def wall_ms(self) -> int:
        """This machine's wall clock: for labels only."""
        return self._wall_ms()
