"""One run: a cluster, its clients, its faults; then everything heals and must be whole."""

from __future__ import annotations

import gc
import random
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field

import pytest

from agentkeeper.core.commands import SetPolicy
from agentkeeper.core.records import Policy
from agentkeeper.server.caller import Caller
from agentkeeper.server.errors import CallError
from tests.simulation.clients import Client
from tests.simulation.faults import Faults
from tests.simulation.operations import Work
from tests.simulation.plants import PLANTS, PROVOKED
from tests.simulation.replica import Process
from tests.simulation.watchers import Watcher
from tests.simulation.world import START_S, World, made

OPERATIONS = 2000
FAULTS = 11
CLIENTS = 76
FAULTS_WITHIN_S = 8.0
LONGEST_S = 180.0
"""Simulated time after which clients that have not done their work yet are stuck."""
CONVERGES_S = 20.0
"""Simulated time in which a healed cluster is whole again."""


@dataclass
class Report:
    """What a run was and what it found."""

    seed: int
    replicas: int
    plant: str | None
    operations: int = OPERATIONS
    planned: int = FAULTS
    """How many operations and faults were asked for."""
    digest: str = ""
    violations: list[str] = field(default_factory=list)
    simulated_s: float = 0.0
    cpu_s: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    seen: Counter[str] = field(default_factory=Counter)
    counted: Counter[str] = field(default_factory=Counter)

    @property
    def command(self) -> str:
        """The command that runs this run again."""
        words = ["python -m tests.simulation", f"--seed {self.seed}", f"--replicas {self.replicas}"]
        if (self.operations, self.planned) != (OPERATIONS, FAULTS):
            words += [f"--operations {self.operations}", f"--faults {self.planned}"]
        if self.plant:
            words.append(f"--plant {self.plant!r}")
        return " ".join(words)


def run(
    seed: int,
    plant: str | None = None,
    *,
    replicas: int | None = None,
    operations: int = OPERATIONS,
    faults: int = FAULTS,
) -> Report:
    """Let a cluster of 3 or 5 (by the seed, unless told) live through it all."""
    count = replicas or (5 if seed % 6 == 5 else 3)
    report = Report(seed, count, plant, operations, faults)
    began_s = time.process_time()
    gc.collect()
    gc.disable()  # what a run leaves behind is small, and cheap to find once it is over
    with made(seed, count) as (world, patch):
        if plant is not None:
            PLANTS[plant](patch)
        try:
            _live(world, patch, report, operations, faults)
        except Exception as error:
            where = traceback.format_exc()
            world.checks.violated(f"the simulation itself failed: {error!r}\n{where}")
        report.digest = world.digest()
        report.violations = world.checks.violations
        report.simulated_s = world.time_s - START_S
        report.seen = world.seen
        report.counted = Counter(world.checks.counted)
    gc.enable()
    gc.collect()
    report.cpu_s = time.process_time() - began_s
    return report


def _live(
    world: World, patch: pytest.MonkeyPatch, report: Report, operations: int, faults: int
) -> None:
    for host in world.hosts.values():
        world.start(host)
    if not world.run(world.time_s + 30.0, lambda: world.leader() is not None):
        world.checks.violated("nobody was elected")
        return
    world.at(world.time_s, _look_at_disks, world)
    work = Work(world, operations)
    clients = [
        Client(world, f"worker-{number}", random.Random(world.rng.random()), work.next)
        for number in range(CLIENTS)
    ]
    for client in clients:
        world.at(world.time_s + client.rng.random(), client.begin)
    watchers = [Watcher(world, random.Random(world.rng.random())) for _ in range(3)]
    trouble = Faults(world, random.Random(world.rng.random()))
    report.faults = trouble.counts
    if report.plant in PROVOKED:
        PROVOKED[report.plant](world, clients)
    trouble.schedule(faults, world.time_s + 1.5, world.time_s + 1.5 + FAULTS_WITHIN_S)

    def enough() -> bool:
        return world.checks.counted["operations"] >= operations and not trouble.open

    if not world.run(world.time_s + LONGEST_S, enough):
        if not world.checks.violations:
            done = world.checks.counted["operations"]
            world.checks.violated(f"only {done} operations were possible")
        return
    for client in clients:
        client.stopped = True
    trouble.heal()
    what = _converge(world, clients, watchers)
    if what and not world.checks.violations:
        world.checks.violated(what)


def _look_at_disks(world: World) -> None:
    """A replica that was wiped has its data back once it is a voter again."""
    for host in world.hosts.values():
        if host.disk_lost and host.process is not None and host.process.engine.status().voter:
            host.disk_lost = False
            world.seen["wiped replicas that are voters again"] += 1
    world.at(world.time_s + 0.05, _look_at_disks, world)


def _converge(world: World, clients: list[Client], watchers: list[Watcher]) -> str:
    """Everything is answered, a write works on every replica, all states are the same.

    Returns what is not as it must be.
    """
    checks = world.checks

    def whole() -> bool:
        processes = _processes(world)
        return (
            len(processes) == len(world.ids)
            and world.leader() is not None
            and all(process.engine.status().voter for process in processes)
        )

    if not world.run(world.time_s + CONVERGES_S, whole):
        up = [process.node_id for process in _processes(world)]
        return f"the cluster is not whole after all was healed; up: {up}"
    asked: list[Process] = []
    written: list[Process] = []

    def quiet() -> bool:
        processes = _processes(world)
        for process in processes:
            if process not in asked:  # a last restart may have been on its way
                asked.append(process)
                process.loop.call_soon_threadsafe(_write, process, written)
        machines = [process.stack.machine for process in processes]
        return (
            len(machines) == len(world.ids)
            and all(process in written for process in processes)
            and not any(client.busy for client in clients)
            and all(machine.applied_index == checks.last_index for machine in machines)
            and all(watcher.last == len(checks.events) for watcher in watchers)
        )

    if not world.run(world.time_s + CONVERGES_S, quiet):
        indexes = [process.stack.machine.applied_index for process in _processes(world)]
        return (
            f"no rest after all was healed: {len(written)} writes, "
            f"{sum(client.busy for client in clients)} calls open, applied {indexes} of "
            f"{checks.last_index}, watched {[w.last for w in watchers]} of {len(checks.events)}"
        )
    states = [process.stack.machine.state for process in _processes(world)]
    if len({state.digest() for state in states}) != 1:
        return "the states differ in the end"
    if checks.acknowledged_index > checks.last_index:
        return "what was acknowledged is gone"
    gone = [owner for owner in checks.owners if any(owner not in s.agents for s in states)]
    return f"agents are gone: {gone}" if gone else ""


def _write(process: Process, written: list[Process]) -> None:
    async def write() -> None:
        policy = Policy(f"end-{process.node_id}", "*", "*", "*", 1)
        while True:
            try:
                await process.stack.replica.submit(SetPolicy(policy), Caller())
            except CallError:
                continue
            written.append(process)
            return

    process.loop.create_task(write())


def _processes(world: World) -> list[Process]:
    return [host.process for host in world.hosts.values() if host.process is not None]
