"""How values are spread, counted in buckets: cheap to add to, cheap to read from another thread."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Counted:
    """What a distribution held at one moment. `counts` has one number more than there are bounds:
    that of the values above them all.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float
    """Sum of all values."""

    @property
    def count(self) -> int:
        """How many values there were."""
        return sum(self.counts)

    def since(self, earlier: Counted) -> Counted:
        """What came after `earlier`, an older moment of the same distribution."""
        counts = tuple(now - then for now, then in zip(self.counts, earlier.counts, strict=True))
        return Counted(self.bounds, counts, self.total - earlier.total)

    def quantile(self, share: float) -> float | None:
        """The value below which `share` (0 to 1) of all are, found within its bucket by
        interpolation; None if there are none. Of values above all bounds the highest bound.
        """
        rank = share * self.count
        if not self.count:
            return None
        below, lower = 0, 0.0
        for bound, count in zip(self.bounds, self.counts, strict=False):
            if count and below + count >= rank:
                return lower + (bound - lower) * max(0.0, rank - below) / count
            below, lower = below + count, bound
        return self.bounds[-1]


class Distribution:
    """Counts values by the lowest of `bounds`, which rise, that they do not exceed.

    One thread adds; any may ask what was `counted`, which may then lack a value just being added.
    """

    __slots__ = ("_bounds", "_counts", "_total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._total = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value

    def counted(self) -> Counted:
        """All so far."""
        return Counted(self._bounds, tuple(self._counts), self._total)
