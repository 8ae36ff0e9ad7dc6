"""How many calls of a client have ended, and how fast: counters in a file that others map.

They are there while the client runs, paused or not, and after it was killed, and cost no more than
looking at a few hundred bytes.
"""

from __future__ import annotations

import bisect
import mmap
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from chaos.history import Outcome

OUTCOMES = list(Outcome)
LATENCY_BOUNDS_S = [0.0005 * 1.35**step for step in range(39)]
"""Upper bounds of the classes of latencies; what is slower than the last one is in one more."""
_CLASSES = len(LATENCY_BOUNDS_S) + 1
_FORMAT = f"={len(OUTCOMES) + _CLASSES}Q"
_SIZE_BYTES = struct.calcsize(_FORMAT)


class Counter:
    """Counts one client's calls in a file."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(bytes(_SIZE_BYTES))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _SIZE_BYTES)
        self._numbers = memoryview(self._map).cast("Q")

    def count(self, outcome: Outcome, latency_s: float | None) -> None:
        """Count a call that has ended; without a latency if it was to wait for something."""
        self._numbers[OUTCOMES.index(outcome)] += 1
        if latency_s is not None:
            self._numbers[len(OUTCOMES) + latency_class(latency_s)] += 1


@dataclass
class Counts:
    """Calls that have ended, since the beginning."""

    by_outcome: dict[Outcome, int] = field(default_factory=lambda: dict.fromkeys(OUTCOMES, 0))
    latencies: list[int] = field(default_factory=lambda: [0] * _CLASSES)
    """Calls by class of latency, see `LATENCY_BOUNDS_S`; without those that waited on purpose."""

    @property
    def total(self) -> int:
        """All calls that have ended."""
        return sum(self.by_outcome.values())

    @property
    def answered(self) -> int:
        """Those that the cluster has answered: granted or refused."""
        return self.by_outcome[Outcome.OK] + self.by_outcome[Outcome.REFUSED]

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            {outcome: self.by_outcome[outcome] + other.by_outcome[outcome] for outcome in OUTCOMES},
            [a + b for a, b in zip(self.latencies, other.latencies, strict=True)],
        )

    def __sub__(self, other: Counts) -> Counts:
        """What has come since `other`."""
        return Counts(
            {outcome: self.by_outcome[outcome] - other.by_outcome[outcome] for outcome in OUTCOMES},
            [a - b for a, b in zip(self.latencies, other.latencies, strict=True)],
        )

    def latency_s(self, share: float) -> float:
        """The latency that `share` of the calls did not exceed, rounded up; 0 without calls."""
        return latency_of(self.latencies, share)


def latency_class(latency_s: float) -> int:
    """Return the number of the class of a latency."""
    return bisect.bisect_left(LATENCY_BOUNDS_S, latency_s)


def latency_of(classes: Sequence[int], share: float) -> float:
    """Return the latency in s that `share` of the calls in classes did not exceed, rounded up.

    0 without calls; what is slower than the last bound counts as that.
    """
    left = share * sum(classes)
    if left == 0:
        return 0.0
    for bound_s, calls in zip(LATENCY_BOUNDS_S, classes, strict=False):
        left -= calls
        if left <= 0:
            return bound_s
    return LATENCY_BOUNDS_S[-1]


def read_counts(path: Path) -> Counts:
    """Read a client's counters; all 0 while there are none."""
    try:
        numbers = struct.unpack(_FORMAT, path.read_bytes())
    except (FileNotFoundError, struct.error):  # not there yet, or just being made
        return Counts()
    outcomes = dict(zip(OUTCOMES, numbers, strict=False))
    return Counts(outcomes, list(numbers[len(OUTCOMES) :]))
