"""Faults of the wall clock, which must not matter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from chaos.faults.base import Fault, Span, World


@dataclass
class ClockShifted(Fault):
    """The wall clock of replicas jumps by hours, forth or back."""

    needs: ClassVar = frozenset({"clocks"})
    who: str = "leader"
    hours: Span = (1.0, 48.0)
    for_s: Span = (2.0, 6.0)

    def inject(self, world: World) -> str:
        """Let it jump."""
        assert world.backend.clocks is not None
        if not self._take(world, self.who):
            return ""
        hours = world.rng.uniform(*self.hours) * world.rng.choice((-1, 1))
        for name in self.targets:
            world.backend.clocks.shift(name, hours * 3600)
        return f"wall clock of {', '.join(self.targets)} ({self.who}) jumps by {hours:+.1f} h"

    def heal(self, world: World) -> None:
        """Let it jump back."""
        assert world.backend.clocks is not None
        for name in self.targets:
            world.backend.clocks.shift(name, 0.0)
