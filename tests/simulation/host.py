"""One machine: a disk, a monotonic clock and a wall clock, which outlive what runs on it."""

from __future__ import annotations

import random
from collections import deque
from typing import TYPE_CHECKING

from tests.simulation.clock import DriftingClock
from tests.simulation.simulated_disk import SimulatedDisk

if TYPE_CHECKING:
    from tests.simulation.replica import Process
    from tests.simulation.world import World

SYNC_S = (0.0005, 0.004)
"""How long a disk takes to sync."""
WALL_START_MS = 1_767_225_600_000


class PowerCutError(BaseException):
    """The machine has no power any more: whoever runs on it does nothing else."""


class Host:
    """A machine. Its disk and clocks outlive the processes that run on it."""

    def __init__(self, world: World, node_id: str, rng: random.Random) -> None:
        self.world = world
        self.node_id = node_id
        self.rng = rng
        self.disk = SimulatedDisk(random.Random(rng.random()), node_id)
        self.disk.before = self._disk_operation
        self.clock = self._new_clock()
        self.wall_jump_ms = 0
        self.process: Process | None = None
        self.paused = False
        self.resumed_s = 0.0
        self.off = False
        self.slow_disk = 1.0
        self.cut_in: int | None = None
        """Disk operations until the power is cut."""
        self.disk_lost = False
        """Whether it was wiped and is not a voter again yet."""
        self.damaged = False
        """Whether a bit of its files was flipped: then it may refuse to start."""
        self.may_fail = False
        """Whether its engine may stop by itself, as its disk has failed."""
        self.failed_sync = ""
        """The log's or ballot's file of which the present process knows that it was not stored."""
        self._durable: deque[tuple[float, int]] = deque([(0.0, 0)], maxlen=8)
        """From when on entries were stored, up to which one."""

    def _new_clock(self) -> DriftingClock:
        rate = 1 + self.rng.uniform(-1, 1) * 200e-6
        return DriftingClock(self.world.time_s, self.rng.uniform(10.0, 10_000.0), rate)

    def reboot(self) -> None:
        """A monotonic clock begins anew with its machine."""
        self.clock = self._new_clock()

    def wall_ms(self) -> int:
        return WALL_START_MS + int(self.world.now_s() * 1000) + self.wall_jump_ms

    def stored(self, index: int) -> None:
        """A flush has just ended: all up to `index` is on the disk."""
        if index != self._durable[-1][1]:
            self._durable.append((self.world.now_s(), index))

    def stored_index(self) -> int:
        """What it can have told others to be stored by now."""
        now_s = self.world.now_s()
        return next((index for at_s, index in reversed(self._durable) if at_s <= now_s), 0)

    @property
    def running(self) -> Process | None:
        """The process, if it has power and is not paused."""
        return None if self.paused else self.process

    def _disk_operation(self, operation: str, name: str) -> None:
        if self.off:
            raise PowerCutError
        if self.cut_in is not None and self.process is not None:
            self.cut_in -= 1
            if self.cut_in <= 0:
                self.cut_in = None
                self.off = True
                raise PowerCutError
        if operation == "sync" and self.disk.fail_syncs and name.endswith(("log", "ballot")):
            self.failed_sync = name
        if operation in ("sync", "sync_folder"):
            self.world.ahead_s += self.rng.uniform(*SYNC_S) * self.slow_disk
