"""A deterministic world for N real engines: one clock, one network, one source of randomness."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import msgpack
import pytest
from pysyncobj import syncobj
from raft_network import Network, SimulatedTransport, Sockets
from simulated_disk import SimulatedDisk

from agentkeeper.consensus.config import Durability, RaftConfig
from agentkeeper.consensus.disk import Disk
from agentkeeper.consensus.engine import RaftEngine
from agentkeeper.consensus.journal import Journal
from agentkeeper.consensus.port import Outcome, Role
from agentkeeper.consensus.raft import HardenedRaft
from agentkeeper.consensus.segments import Contents

STEP_S = 0.01


class SmallSegments(Journal):
    """A log whose old entries go soon, to be put in place of the usual one."""

    def __init__(
        self, disk: Disk, contents: Contents, durability: Durability, segment_bytes: int
    ) -> None:
        super().__init__(disk, contents, durability, segment_bytes=3000)


class PowerCutError(BaseException):
    """Raised by a disk whose replica loses its power in the middle of something."""


class Recorder:
    """A listener whose state is the list of what was delivered, checked as it comes."""

    def __init__(self, world: World, node_id: str) -> None:
        self.world = world
        self.node_id = node_id
        self.state: list[tuple[int, bytes]] = []
        self.wanted_since_s: float | None = None
        self.failure: str | None = None
        self.received_messages: list[tuple[str, bytes]] = []

    def committed(self, index: int, term: int, payload: bytes) -> None:
        if self.state and index <= self.state[-1][0]:
            self.world.violations.append(f"{self.node_id}: entry {index} delivered out of order")
        self.state.append((index, payload))
        self.world.agreed(self.node_id, index, payload)

    def restored(self, index: int, term: int, snapshot: bytes) -> None:
        if self.state and index < self.state[-1][0]:
            self.world.violations.append(f"{self.node_id}: restored backwards to {index}")
        self.state = [tuple(entry) for entry in msgpack.unpackb(snapshot)]
        for at, payload in self.state:
            self.world.agreed(self.node_id, at, payload)

    def role_changed(self, role: Role, term: int, leader_id: str | None) -> None:
        if (
            role is Role.LEADER
            and self.world.leaders.setdefault(term, self.node_id) != self.node_id
        ):
            self.world.violations.append(f"two leaders in term {term}")

    def received(self, sender_id: str, payload: bytes) -> None:
        self.received_messages.append((sender_id, payload))

    def snapshot_wanted(self) -> None:
        self.wanted_since_s = self.world.now()

    def failed(self, reason: str) -> None:
        self.failure = reason
        if self.world.disks[self.node_id].fail_syncs == 0 and "the disk failed" in reason:
            self.world.broken.append(self.node_id)  # as it should, after a sync that failed
        else:
            self.world.failures.append(f"{self.node_id}: {reason}")


@dataclass
class Asked:
    """A proposal and what has become of it."""

    payload: bytes
    deadline_s: float
    outcomes: list[Outcome] = field(default_factory=list)


class World:
    def __init__(
        self,
        folder: Path,
        *,
        seed: int = 0,
        ids: str = "abc",
        raft_factory: Callable[..., HardenedRaft] = HardenedRaft,
        snapshot_entries: int = 10**6,
        drop: float = 0.0,
        snapshot_takes_s: float = 0.0,
    ) -> None:
        self.time_s = 1000.0
        self.seed = seed
        self.rng = random.Random(seed)
        self.network = Network(self.now, random.Random(seed + 1), drop)
        self.disks: dict[str, SimulatedDisk] = {}
        self.ids = list(ids)
        self.raft_factory = raft_factory
        self.snapshot_entries = snapshot_entries
        self.snapshot_takes_s = snapshot_takes_s
        self.written: list[tuple[float, RaftEngine, Callable[[], None]]] = []
        self.engines: dict[str, RaftEngine] = {}
        self.recorders: dict[str, Recorder] = {}
        self.canon: dict[int, bytes] = {}
        self.leaders: dict[int, str] = {}
        self.asked: list[Asked] = []
        self.acknowledged_index = 0
        self.reads: list[int | None] = []
        self.wiped: str | None = None
        """Who came with an empty disk and does not vote yet."""
        self.broken: list[str] = []
        """Who has stopped since a sync failed."""
        self.violations: list[str] = []
        self.failures: list[str] = []

    def now(self) -> float:
        self.time_s += 2e-5
        return self.time_s

    # --- replicas --------------------------------------------------------------------------------
    def start(self, *node_ids: str) -> None:
        for node_id in node_ids or self.ids:
            self._powered(node_id, partial(self._start, node_id))

    def _start(self, node_id: str) -> None:
        disk = self.disks.setdefault(node_id, SimulatedDisk(random.Random(f"{self.seed}{node_id}")))
        config = RaftConfig(
            node_id=node_id,
            peers=dict.fromkeys(self.ids, "localhost:1"),
            election_timeout_ms=(400, 800),
            snapshot_entries=self.snapshot_entries,
        )
        engine = RaftEngine(
            config,
            transport=lambda node: SimulatedTransport(self.network, node),
            raft_factory=self.raft_factory,
            disk=disk,
            draw_incarnation=lambda: f"{self.rng.getrandbits(64):016x}",
        )
        recorder = Recorder(self, node_id)
        self.engines[node_id], self.recorders[node_id] = engine, recorder
        engine.open(recorder)
        raft = self.raft(node_id)
        raft._poller = Sockets(self.network, node_id)
        if self.snapshot_takes_s:
            raft.snapshots._run = partial(self._write_later, engine)
        self.network.ends[node_id] = raft.transport

    def raft(self, node_id: str) -> HardenedRaft:
        raft = self.engines[node_id]._raft
        assert raft is not None
        return raft

    def crash(self, node_id: str, *, wipe: bool = False, power_cut: bool = False) -> None:
        """Kill a replica; its disk keeps what was written, or what was synced, or nothing."""
        disk = self.disks[node_id]
        disk.before = disk.fail_syncs = None
        if power_cut:
            disk.power_cut()
        else:
            disk.kill()
        if wipe:
            disk.wipe()
            self.wiped = node_id
        for peer in self.ids:
            self.network.cut(node_id, peer)
        self.network.ends.pop(node_id, None)
        del self.recorders[node_id]
        self.engines.pop(node_id).stop()

    def cut_power_after(self, node_id: str, operations: int) -> None:
        """Let a replica lose its power at one of the next operations of its disk."""
        left = operations

        def before(operation: str, name: str) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise PowerCutError(operation, name)

        self.disks[node_id].before = before

    def _powered(self, node_id: str, action: Callable[[], None]) -> None:
        try:
            action()
        except PowerCutError:
            self.crash(node_id, power_cut=True)

    def _write_later(self, engine: RaftEngine, job: Callable[[], None]) -> None:
        self.written.append((self.time_s + self.snapshot_takes_s, engine, job))

    def connect_all(self) -> None:
        for one, other in itertools.combinations(self.ids, 2):
            self.network.connect(one, other)

    def isolate(self, node_id: str) -> None:
        for peer in self.ids:
            self.network.cut(node_id, peer)

    def leader(self) -> str | None:
        """The leader of the highest term among those that claim to lead."""
        claims = [
            (engine.status().term, node_id)
            for node_id, engine in self.engines.items()
            if engine.status().role is Role.LEADER
        ]
        return max(claims)[1] if claims else None

    # --- time ------------------------------------------------------------------------------------
    def step(self) -> None:
        self.time_s += STEP_S
        for due in [due for due in self.written if due[0] <= self.time_s]:
            self.written.remove(due)
            for node_id, engine in list(self.engines.items()):
                if engine is due[1]:
                    self._powered(node_id, due[2])
        for node_id in sorted(self.engines):
            self._powered(node_id, partial(self._step, node_id))
        while self.broken:
            self.crash(self.broken.pop())
        if self.wiped in self.engines and self.raft(self.wiped).votes:
            self.wiped = None

    def _step(self, node_id: str) -> None:
        self.engines[node_id].step()
        self._answer_snapshot(node_id)

    def run(self, for_s: float, until: Callable[[], Any] = lambda: False) -> bool:
        end_s = self.time_s + for_s
        while self.time_s < end_s:
            if until():
                return True
            self.step()
        return bool(until())

    def elect(self) -> str:
        assert self.run(10, lambda: self.leader() is not None), "nobody was elected"
        leader = self.leader()
        assert leader is not None
        return leader

    def _answer_snapshot(self, node_id: str) -> None:
        recorder = self.recorders[node_id]
        if recorder.wanted_since_s is None or not recorder.state:
            return
        if self.time_s < recorder.wanted_since_s + 0.05:
            return
        # The daemon packs in the background: the snapshot lies behind what is delivered.
        recorder.wanted_since_s = None
        kept = recorder.state[: max(1, len(recorder.state) - self.rng.randrange(5))]
        self.engines[node_id].save_snapshot(kept[-1][0], [msgpack.packb(kept)])

    # --- requests --------------------------------------------------------------------------------
    def propose(self, node_id: str, payload: bytes | None = None, timeout_s: float = 2.0) -> Asked:
        number = len(self.asked)
        asked = Asked(payload or b"%d" % number + b"." * 40, self.time_s + timeout_s)
        self.asked.append(asked)

        def on_outcome(outcome: Outcome) -> None:
            asked.outcomes.append(outcome)
            if outcome is Outcome.COMMITTED:
                index = next((at for at, p in self.canon.items() if p == asked.payload), 0)
                self.acknowledged_index = max(self.acknowledged_index, index)

        self.engines[node_id].propose(asked.payload, timeout_s, on_outcome)
        return asked

    def read(self, node_id: str) -> None:
        least = self.acknowledged_index

        def on_result(index: int | None) -> None:
            self.reads.append(index)
            if index is not None and index < least:
                self.violations.append(f"{node_id}: read index {index} precedes write {least}")

        self.engines[node_id].read_index(2.0, on_result)

    # --- checks ----------------------------------------------------------------------------------
    def agreed(self, node_id: str, index: int, payload: bytes) -> None:
        if self.canon.setdefault(index, payload) != payload:
            self.violations.append(f"{node_id}: diverges at entry {index}")

    def check_end(self) -> None:
        """After healing: everything acknowledged is everywhere, nothing refused is anywhere."""
        for node_id, recorder in self.recorders.items():
            if not self.raft(node_id).votes:
                self.violations.append(f"{node_id}: does not vote")
            if dict(recorder.state) != self.canon:
                self.violations.append(f"{node_id}: differs from what was agreed upon")
        present = list(self.canon.values())
        if len(present) != len(set(present)):
            self.violations.append("an entry was delivered twice")
        for asked in self.asked:
            if len(asked.outcomes) != 1:
                self.violations.append(f"a proposal ended {len(asked.outcomes)} times")
            elif asked.outcomes[0] is Outcome.COMMITTED and asked.payload not in set(present):
                self.violations.append("an acknowledged write is lost")
            elif asked.outcomes[0] is Outcome.REJECTED and asked.payload in set(present):
                self.violations.append("a rejected write took effect")


@contextmanager
def world(folder: Path, **settings: Any) -> Iterator[World]:
    """Make a world whose clock and randomness the library uses instead of the real ones."""
    made = World(folder, **settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(syncobj, "monotonicTime", made.now)
        patch.setattr(syncobj, "random", random.Random(settings.get("seed", 0) + 2))
        try:
            yield made
        finally:
            for engine in made.engines.values():
                engine.stop()
