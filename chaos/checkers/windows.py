"""Times in which something may have been so."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable


class Windows:
    """A union of closed intervals."""

    def __init__(self, intervals: Iterable[tuple[int, int]]) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start_ns, end_ns in sorted(intervals):
            if self._ends and start_ns <= self._ends[-1]:
                self._ends[-1] = max(self._ends[-1], end_ns)
            else:
                self._starts.append(start_ns)
                self._ends.append(end_ns)

    def meet(self, start_ns: int, end_ns: int) -> bool:
        """Whether any of them has a moment in common with [start_ns, end_ns]."""
        place = bisect_right(self._starts, end_ns)
        return place > 0 and self._ends[place - 1] >= start_ns
