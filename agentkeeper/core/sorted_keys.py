"""Keys in order, where adding one costs little however many there are."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import Final

PART_KEYS: Final = 100
"""Keys that are taken out of a run at a time to be looked at."""
RUN_KEYS: Final = 1_024
"""Keys after which a run is cut in two. One is moved about at each change."""


class SortedKeys:
    """A set of strings in order of their code points, as runs of bounded length."""

    __slots__ = ("_lasts", "_runs")

    def __init__(self) -> None:
        self._runs: list[list[str]] = []
        self._lasts: list[str] = []
        """The last key of each run."""

    def add(self, key: str) -> None:
        """Add a key that is not there."""
        if not self._runs:
            self._runs.append([key])
            self._lasts.append(key)
            return
        at = min(bisect_left(self._lasts, key), len(self._runs) - 1)
        run = self._runs[at]
        insort(run, key)
        if len(run) > RUN_KEYS:
            half = len(run) // 2
            self._runs.insert(at, run[:half])
            self._lasts.insert(at, run[half - 1])
            del run[:half]
            at += 1
        self._lasts[at] = run[-1]

    def remove(self, key: str) -> None:
        """Remove a key that is there."""
        at = bisect_left(self._lasts, key)
        run = self._runs[at]
        del run[bisect_left(run, key)]
        if run:
            self._lasts[at] = run[-1]
        else:
            del self._runs[at], self._lasts[at]

    def beginning_with(self, prefix: str, after: str = "") -> Iterator[str]:
        """The keys with a prefix, those up to `after` left out.

        Keys may be added and removed meanwhile: those that come later are found, or not, as they
        are by then.
        """
        # Nothing lies between a string and itself with the lowest of all characters behind it.
        start = max(prefix, after + "\0") if after else prefix
        while part := self._part(start):
            for key in part:
                if not key.startswith(prefix):
                    return
                yield key
            start = part[-1] + "\0"

    def _part(self, start: str) -> list[str]:
        """Some keys from `start` on; none at the end."""
        at = bisect_left(self._lasts, start)
        if at == len(self._runs):
            return []
        run = self._runs[at]
        first = bisect_left(run, start)
        return run[first : first + PART_KEYS]
