"""Faults of the disks."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import ClassVar

from chaos.backends import Disks
from chaos.faults.base import Fault, NotRecovered, Span, World
from chaos.faults.processes import processes_of


def _disks(world: World) -> Disks:
    assert world.backend.disks is not None
    return world.backend.disks


@dataclass
class DiskFull(Fault):
    """There is no room left: the replica steps aside, and goes on when there is."""

    needs: ClassVar = frozenset({"disks"})
    who: str = "leader"
    for_s: Span = (3.0, 6.0)

    def inject(self, world: World) -> str:
        """Fill it."""
        for name in self._take(world, self.who):
            _disks(world).fill(name)
        return f"disk full: {', '.join(self.targets)} ({self.who})" if self.targets else ""

    def heal(self, world: World) -> None:
        """Make room."""
        for name in self.targets:
            _disks(world).free(name)


@dataclass
class PowerCut(Fault):
    """What was not synced is gone, and the daemons with it; they start on what is left."""

    needs: ClassVar = frozenset({"disks", "processes"})
    who: str = "all"
    for_s: Span = (0.5, 3.0)

    def inject(self, world: World) -> str:
        """Cut the power."""
        if not self._take(world, self.who):
            return ""
        _disks(world).cut_power(self.targets)
        return f"power cut: {', '.join(self.targets)} ({self.who})"

    def heal(self, world: World) -> None:
        """Give it back."""
        processes_of(world).start(self.targets)


@dataclass
class Damaged(Fault):
    """A replica is killed, and starts on a file with a wrong byte or a torn tail.

    It must make that good by itself, or refuse to start and say why; then its folder is emptied.
    Alone, because a torn tail may have held what was acknowledged: if another one is away, too few
    are left that know of it.
    """

    needs: ClassVar = frozenset({"disks", "processes"})
    alone: ClassVar = True
    how: str = "flip"
    who: str = "follower"
    for_s: Span = (0.5, 1.5)

    def inject(self, world: World) -> str:
        """Kill it, and damage one of its files."""
        if not self._take(world, self.who):
            return ""
        (name,) = self.targets
        processes_of(world).kill([name])
        damage = {"flip": _disks(world).flip, "tear": _disks(world).tear}[self.how]
        return f"{self.how} of {name} ({self.who}): {damage(name, world.rng)}"

    def heal(self, world: World) -> None:
        """Start it; if it refuses, start it empty."""
        for name in self.targets:
            processes_of(world).start([name])
            self._await_start(world, name)
            if processes_of(world).running(name):
                continue
            said = processes_of(world).log_tail(name)
            if "remove (or move away) the whole data folder" not in said:
                raise NotRecovered(f"{name} ended without saying what is damaged: {said}")
            _disks(world).wipe(name)
            processes_of(world).start([name])

    @staticmethod
    def _await_start(world: World, name: str) -> None:
        """Wait until it serves, or has refused to."""

        def decided() -> bool:
            return not processes_of(world).running(name) or not world.backend.unready_reason(name)

        world.await_(decided, f"{name} starts or refuses to")


@dataclass
class WipedWhileIsolated(Fault):
    """The leader is cut off, and a follower comes back with nothing on its disk.

    Were that one to vote, a leader could be elected that lacks what was acknowledged.
    """

    needs: ClassVar = frozenset({"disks", "network", "processes"})
    alone: ClassVar = True
    for_s: Span = (3.0, 8.0)

    def inject(self, world: World) -> str:
        """Do both."""
        assert world.backend.network is not None
        (leader,) = world.choose("leader")
        world.hurt.add(leader)
        (wiped,) = world.choose("follower")
        self.targets, self.began_ns = [leader, wiped], time.monotonic_ns()
        world.hurt.add(wiped)
        world.backend.network.isolate(leader)
        processes_of(world).kill([wiped])
        _disks(world).wipe(wiped)
        processes_of(world).start([wiped])
        return f"isolate {leader} (leader), wipe {wiped}"

    def heal(self, world: World) -> None:
        """Let the leader back."""
        assert world.backend.network is not None
        world.backend.network.heal()
