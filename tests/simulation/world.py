"""The world: true time, what happens next in it, machines, network, clients and faults."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any, Final

import pytest
import structlog
from pysyncobj import syncobj
from pysyncobj.node import Node

from agentkeeper.consensus.port import Role, StartError
from agentkeeper.server import machine, reads
from tests.simulation.checks import Checks
from tests.simulation.host import Host, PowerCutError
from tests.simulation.network import Network
from tests.simulation.replica import Process

START_S: Final = 1000.0
OFF_S: Final = (0.3, 3.0)
"""How long a machine or a process that has died stays away."""
IDS: Final = ("a", "b", "c", "d", "e")
BEATS_S: Final = (0.03, 0.06, 0.09)
"""Clients act together, on beats this far apart: so their commands share entries."""


class World:
    """Everything there is. The same seed makes the same world, and the same happens in it.

    Events are functions with the time at which they happen; those of one replica run as its turns,
    in which time goes on a little (`ahead_s`) with every look at the clock and every sync.
    """

    def __init__(self, seed: int, replicas: int) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.time_s = START_S
        self.ahead_s = 0.0
        self.host: Host | None = None
        """Whose turn it is."""
        self.ids = IDS[:replicas]
        self.snapshot_entries = self.rng.choice((30, 100, 10_000))
        self._beat_s = self.rng.choice(BEATS_S)
        self.happened = 0
        self._agenda: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = itertools.count()
        self._digest = blake2b(digest_size=16)
        self._dead: list[Process] = []
        self.checks = Checks(self.now_s, self.record)
        self.network = Network(self, random.Random(self.rng.random()))
        self.hosts = {
            node_id: Host(self, node_id, random.Random(self.rng.random())) for node_id in self.ids
        }
        self.seen: Counter[str] = Counter()
        """What the hosts went through, beside the faults that were planned."""

    # --- time ------------------------------------------------------------------------------------
    def now_s(self) -> float:
        return self.time_s + self.ahead_s

    def at(self, when_s: float, act: Callable[..., None], *args: Any) -> None:
        """Let `act` happen at a true time."""
        heapq.heappush(self._agenda, (when_s, next(self._order), act, args))

    def beat(self, earliest_s: float) -> float:
        """The next moment at which clients act."""
        return math.ceil(earliest_s / self._beat_s) * self._beat_s

    def run(self, until_s: float, done: Callable[[], bool] = lambda: False) -> bool:
        """Let everything happen up to a time, or until `done`; False if it never was."""
        agenda = self._agenda
        while agenda and agenda[0][0] <= until_s:
            when_s, _, act, args = heapq.heappop(agenda)
            self.time_s = max(self.time_s, when_s)
            act(*args)
            self.happened += 1
            if self.checks.violations:
                return False
            if not self.happened % 16 and done():
                return True
        self.time_s = max(self.time_s, until_s)
        return done()

    def turn(self, host: Host, work: Callable[[], object]) -> float:
        """Let a host work, as one who has its clock and its disk; returns when it has finished."""
        before = self.host, self.ahead_s
        self.host, self.ahead_s = host, 0.0
        lost_power = False
        try:
            work()
        except PowerCutError:
            lost_power = True
        finally:
            end_s = self.time_s + self.ahead_s
            self.host, self.ahead_s = before
        if lost_power and host.process is not None:
            self.seen["power cut in the middle of a step"] += 1
            self.kill(host, power_cut=True)
            self.at(self.time_s + host.rng.uniform(*OFF_S), self.start, host)
        return end_s

    def monotonic_s(self) -> float:
        """The clock of the host whose turn it is."""
        self.ahead_s += 1e-6
        now_s = self.time_s + self.ahead_s
        return now_s if self.host is None else self.host.clock.local_s(now_s)

    def record(self, data: bytes) -> None:
        """Let something that happened count in the run's digest."""
        self._digest.update(b"%r%b" % (self.time_s, data))

    def digest(self) -> str:
        return self._digest.hexdigest()

    # --- machines --------------------------------------------------------------------------------
    def start(self, host: Host) -> None:
        """Start the daemon, unless it runs. What lost its data comes back empty."""
        if host.process is not None or self.checks.violations:
            return
        host.off = False
        try:
            self.turn(host, lambda: self._start(host))
        except StartError as error:
            self.record(str(error).encode())
            if host.may_fail:
                self._restart_machine(host)
                return
            if not host.damaged:
                self.checks.violated(f"{host.node_id} refuses to start: {error}")
                return
            self.seen["refused to start with a damaged file"] += 1
            self.wipe(host)
            self.at(self.now_s() + 0.5, self.start, host)
        else:
            if host.damaged:
                self.seen["started over a damaged file"] += 1
            host.damaged = False

    def _start(self, host: Host) -> None:
        host.failed_sync = ""
        process = Process(self, host)
        try:
            process.start()
        except BaseException:
            process.end()
            raise
        host.process = process
        self.record(b"start" + host.node_id.encode())

    def kill(self, host: Host, *, power_cut: bool = False) -> None:
        """End the process, as `kill -9` does, or with the power of its machine."""
        process = host.process
        if process is None:
            return
        host.process = None
        if host.paused:
            host.paused = False
            host.clock.thaw(self.now_s())
        host.off = True
        self.network.leave(host.node_id, told=not power_cut)
        if power_cut:
            host.disk.power_cut()
            host.reboot()
        else:
            host.disk.kill()
        self.turn(host, process.end)
        host.cut_in = None
        self._dead.append(process)
        self.record(b"end" + host.node_id.encode())

    def wipe(self, host: Host) -> None:
        """Empty the disk of a host that does not run."""
        host.disk.wipe()
        host.stored(0)
        host.damaged = False
        host.disk_lost = True

    def failed(self, process: Process) -> None:
        """A daemon stopped by itself."""
        host = process.host
        if host.process is not process:
            return
        if not host.may_fail:
            self.checks.violated(f"{host.node_id} stopped: {process.failure}")
            return
        self.kill(host, power_cut=True)
        self._restart_machine(host)

    def _restart_machine(self, host: Host) -> None:
        """A disk has failed: what it did not take must be in no later process's sight."""
        self.seen["stopped by a failed disk"] += 1
        host.disk.power_cut()
        host.disk.fail_syncs = None
        host.may_fail = False
        self.at(self.time_s + host.rng.uniform(*OFF_S), self.start, host)

    def leader(self) -> Host | None:
        """The host whose engine leads in the highest term."""
        claims = [
            (status.term, node_id)
            for node_id, host in self.hosts.items()
            if host.process is not None
            and (status := host.process.engine.status()).role is Role.LEADER
        ]
        return self.hosts[max(claims)[1]] if claims else None

    def end(self) -> None:
        """Leave nothing behind that would go on by itself."""
        for host in self.hosts.values():
            if host.process is not None:
                host.off = True
                host.disk.kill()
                self.turn(host, host.process.end)


def _hash(node: Any) -> int:
    return ord(node._id)


class _Secrets:
    def __init__(self, rng: random.Random) -> None:
        self.randbits = rng.getrandbits


class _NoCollector:
    """Stands for the garbage collector, which a run has turned off."""

    @staticmethod
    def disable() -> None: ...

    freeze = enable = disable


@contextmanager
def _silence() -> Iterator[None]:
    """Let nothing be logged: what goes on is told by the run itself."""
    level, configured = logging.root.manager.disable, structlog.get_config()
    logging.disable(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**configured)
        logging.disable(level)


@contextmanager
def made(seed: int, replicas: int) -> Iterator[tuple[World, pytest.MonkeyPatch]]:
    """A world whose clock and randomness the product and the library use."""
    world = World(seed, replicas)
    with _silence(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(syncobj, "monotonicTime", world.monotonic_s)
        patch.setattr(syncobj, "random", random.Random(world.rng.random()))
        secrets = _Secrets(random.Random(world.rng.random()))
        patch.setattr(reads, "secrets", secrets, raising=False)
        # Nothing may depend on where objects lie in memory, or on how text is hashed.
        patch.setattr(Node, "__hash__", _hash)
        patch.setattr(machine, "gc", _NoCollector)
        try:
            yield world, patch
        finally:
            world.end()
            asyncio._set_running_loop(None)
