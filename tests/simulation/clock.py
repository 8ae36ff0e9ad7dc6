"""A machine's monotonic clock: it runs a little fast or slow, and stands still when it is told to.

Everything else in the simulation is on true time, in seconds.
"""

from __future__ import annotations

MAX_DRIFT = 500e-6
"""How far a clock's rate may be from that of true time."""


class DriftingClock:
    """Local seconds as a function of true ones, in straight pieces."""

    def __init__(self, at_s: float, local_s: float, rate: float) -> None:
        self._from_s = at_s
        self._local_s = local_s
        self._rate = rate
        self._frozen = False

    def local_s(self, at_s: float) -> float:
        """What it shows at a true time, not before the last change."""
        if self._frozen:
            return self._local_s
        return self._local_s + (at_s - self._from_s) * self._rate

    def true_s(self, local_s: float) -> float:
        """When it shows `local_s`, if nothing changes."""
        return self._from_s + (local_s - self._local_s) / self._rate

    def run_at(self, at_s: float, rate: float) -> None:
        """Run at another rate from `at_s` on."""
        self._local_s = self.local_s(at_s)
        self._from_s, self._rate = at_s, rate

    def freeze(self, at_s: float) -> None:
        """Stand still, as the clock of a suspended virtual machine does."""
        self._local_s = self.local_s(at_s)
        self._frozen = True

    def thaw(self, at_s: float) -> None:
        """Go on from where it stood."""
        self._frozen = False
        self._from_s = at_s
