"""The library as it is, in the simulation: replicas, files, and the writer of its dumps.

`python tests/simulation/stock.py ACCIDENT --seed N` runs an accident of `accidents.py` and prints
what it broke.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import pickle
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from accidents import ACCIDENTS, happen
from platter import Platter, platters
from pysyncobj import FAIL_REASON, SyncObj, SyncObjConf, replicated, syncobj
from pysyncobj.config import SERIALIZER_STATE
from pysyncobj.node import Node
from pysyncobj.serializer import Serializer
from raft_network import Network, SimulatedTransport, Sockets
from raft_world import Asked

from agentkeeper.consensus.port import EngineStatus, Outcome, Role

STEP_S = 0.01
WRITE_BACK = 0.02
"""How likely the system writes back some file in a step: each one every few seconds."""


class PicklingTransport(SimulatedTransport):
    """The library's messages are made to be pickled."""

    def send(self, node: Node, message: object) -> bool:
        return super().send(node, pickle.dumps(message))

    def receive(self, sender_id: str, message: object) -> None:
        assert isinstance(message, bytes)
        super().receive(sender_id, pickle.loads(message))


class DumpWriter(Serializer):
    """The library's forked writer in simulated time.

    It holds the state as of the fork, takes a while, and outlives a replica that is killed, as a
    process does. It is the library's own code that writes.
    """

    later: Callable[[DumpWriter], None]

    def __init__(self, *settings: Any) -> None:
        super().__init__(*settings)
        self.file: str | None = self._Serializer__fileName
        self._forked: bytes | None = None

    def serialize(self, data: Any, id: int) -> None:
        if self.file is None:
            super().serialize(data, id)
        elif self._forked is None:
            self._forked = pickle.dumps((data, id))
            self.later(self)

    def checkSerializing(self) -> Any:  # noqa: N802
        if self._forked is not None:
            return SERIALIZER_STATE.SERIALIZING, None
        return super().checkSerializing()

    def getTransmissionData(self, transmissionID: Any) -> Any:  # noqa: N802, N803
        return None if self._forked is not None else super().getTransmissionData(transmissionID)

    def write(self) -> None:
        assert self._forked is not None
        forked, self._forked = self._forked, None
        super().serialize(*pickle.loads(forked))


class Stock(SyncObj):
    """A replica of the library, replicating a list. Settings are its defaults if not given."""

    def __init__(
        self, network: Network, node_id: str, others: list[str], conf: SyncObjConf
    ) -> None:
        transport = PicklingTransport(network, Node(node_id))
        super().__init__(
            Node(node_id), [Node(other) for other in others], conf, transport=transport
        )
        network.ends[node_id] = transport
        self._poller = Sockets(network, node_id)
        self.values: list[bytes] = []  # made last: what is here before is not in the dump

    @replicated
    def put(self, value: bytes) -> None:
        self.values.append(value)

    def status(self) -> EngineStatus:
        leader = self._getLeader()
        return EngineStatus(
            node_id=self.selfNode.id,
            role=[Role.FOLLOWER, Role.CANDIDATE, Role.LEADER][self._SyncObj__raftState],
            term=self.raftCurrentTerm,
            leader_id=leader and leader.id,
            commit_index=self.raftCommitIndex,
            delivered_index=self.raftLastApplied,
            last_log_index=self._SyncObj__raftLog[-1][1],
            peers={},
        )

    def holds(self) -> set[bytes]:
        """All that it has applied or has in its log."""
        log = [command for command, _, _ in self._SyncObj__raftLog[:]]
        regular = [pickle.loads(command[1:]) for command in log if command[0] == 0]
        return {*self.values, *(arguments[0] for _, arguments in regular)}

    def kill(self) -> None:
        """End without a word to anybody; what was written to files stays, unsynced."""
        file = self._SyncObj__raftLog._FileJournal__journalFile
        file._ResizableFile__mm.close()
        file._ResizableFile__f.close()


class StockWorld:
    """The library in place of the engine in `raft_world.World`, driven in the same way."""

    def __init__(
        self,
        disks: dict[str, Platter],
        *,
        seed: int = 0,
        snapshot_entries: int = 10**6,
        snapshot_takes_s: float = 0.0,
        dumps: bool = True,
        **library: Any,
    ) -> None:
        self.time_s = 1000.0
        self.rng = random.Random(seed)
        self.network = Network(self.now, random.Random(seed + 1))
        self.disks = disks
        self.ids = list(disks)
        self.dumps = dumps
        self.library = {"logCompactionMinEntries": snapshot_entries, **library}
        self.snapshot_takes_s = snapshot_takes_s
        self.engines: dict[str, Stock] = {}
        self.canon: list[bytes] = []
        self.asked: list[Asked] = []
        self.acknowledged: set[bytes] = set()
        self.violations: list[str] = []
        self.failures: list[str] = []
        self._leaders: dict[int, str] = {}
        self._checked: dict[str, tuple[list[bytes], int]] = {}
        self._writers: list[tuple[float, DumpWriter]] = []

    def now(self) -> float:
        self.time_s += 2e-6
        return self.time_s

    # --- replicas --------------------------------------------------------------------------------
    def start(self, *node_ids: str) -> None:
        for node_id in node_ids or self.ids:
            folder = self.disks[node_id].folder
            folder.mkdir(exist_ok=True)
            dump = str(folder / "dump") if self.dumps else None
            conf = SyncObjConf(
                autoTick=False,
                useFork=False,  # `DumpWriter` is the other process
                journalFile=str(folder / "journal"),
                fullDumpFile=dump,
                **self.library,
            )
            others = [peer for peer in self.ids if peer != node_id]
            self.engines[node_id] = Stock(self.network, node_id, others, conf)

    def crash(self, node_id: str, *, wipe: bool = False, power_cut: bool = False) -> None:
        """Kill a replica; its disk keeps what was written, or what was synced, or nothing."""
        self.isolate(node_id)
        self.network.ends.pop(node_id, None)
        self._checked.pop(node_id, None)
        if node_id in self.engines:
            self.engines.pop(node_id).kill()
        disk = self.disks[node_id]
        if power_cut:
            self._writers = [
                due for due in self._writers if Path(due[1].file).parent != disk.folder
            ]
            disk.power_cut()
        if wipe:
            disk.wipe()

    def connect_all(self) -> None:
        for one, other in itertools.combinations(self.ids, 2):
            self.network.connect(one, other)

    def isolate(self, node_id: str) -> None:
        for peer in self.ids:
            self.network.cut(node_id, peer)

    def leader(self) -> str | None:
        """The leader of the highest term among those that claim to lead."""
        claims = [(one._getTerm(), at) for at, one in self.engines.items() if one._isLeader()]
        return max(claims)[1] if claims else None

    # --- time ------------------------------------------------------------------------------------
    def step(self) -> None:
        self.time_s += STEP_S
        for due in [due for due in self._writers if due[0] <= self.time_s]:
            self._writers.remove(due)
            due[1].write()
        if self.rng.random() < WRITE_BACK:
            self.disks[self.rng.choice(self.ids)].write_back_some(self.rng)
        for node_id, replica in sorted(self.engines.items()):
            try:
                replica.doTick(0)
            except Exception as error:  # the library's own thread logs it and goes on as well
                self.failures.append(f"{node_id}: {error!r}")
            self._check(node_id, replica)

    def run(self, for_s: float, until: Callable[[], Any] = lambda: False) -> bool:
        end_s = self.time_s + for_s
        while self.time_s < end_s:
            if until():
                return True
            self.step()
        return bool(until())

    def later(self, writer: DumpWriter) -> None:
        self._writers.append((self.time_s + self.snapshot_takes_s, writer))

    # --- requests --------------------------------------------------------------------------------
    def propose(self, node_id: str, payload: bytes | None = None, timeout_s: float = 2.0) -> Asked:
        asked = Asked(payload or b"%d" % len(self.asked) + b"." * 40, self.time_s + timeout_s)
        self.asked.append(asked)

        def on_outcome(_: object, error: int) -> None:
            success = error == FAIL_REASON.SUCCESS
            asked.outcomes.append(Outcome.COMMITTED if success else Outcome.UNKNOWN)
            if success:
                self.acknowledged.add(asked.payload)

        self.engines[node_id].put(asked.payload, callback=on_outcome)
        return asked

    def read(self, node_id: str) -> None:
        """Read as one can with the library: from the state of a replica that says it leads."""
        replica = self.engines[node_id]
        if replica._isLeader() and replica.isReady():
            missing = len(self.acknowledged - set(replica.values))
            if missing:
                self.violations.append(f"{node_id}: a read precedes {missing} acknowledged writes")

    # --- checks ----------------------------------------------------------------------------------
    def _check(self, node_id: str, replica: Stock) -> None:
        if replica._isLeader():
            leader = self._leaders.setdefault(replica._getTerm(), node_id)
            if leader != node_id:
                self.violations.append(f"two leaders in term {replica._getTerm()}")
        # A dump that is loaded replaces the list, which is then checked from its start.
        values, checked = self._checked.get(node_id, ([], 0))
        if values is not replica.values:
            values, checked = replica.values, 0
        self.canon += values[len(self.canon) :]
        if checked < len(values) and values[checked:] != self.canon[checked : len(values)]:
            at = next(at for at, value in enumerate(values) if value != self.canon[at])
            self.violations.append(f"{node_id}: diverges at entry {at}")
            checked = sys.maxsize  # once is enough
        self._checked[node_id] = (values, max(checked, len(values)))

    def check_end(self) -> None:
        """A leader has in its log all that was ever committed (paper, 5.4: leader completeness)."""
        leader = self.leader()
        if leader is not None:
            lost = len(self.acknowledged - self.engines[leader].holds())
            if lost:
                self.violations.append(
                    f"{lost} of {len(self.acknowledged)} acknowledged writes are lost"
                )


@contextmanager
def stock(folder: Path, **settings: Any) -> Iterator[StockWorld]:
    """Make a world whose clock and randomness the library uses instead of the real ones."""
    with platters(folder, "abc") as disks, pytest.MonkeyPatch.context() as patch:
        made = StockWorld(disks, **settings)
        for name in ("pysyncobj.syncobj", "pysyncobj.serializer"):
            patch.setattr(logging.getLogger(name), "disabled", True)
        patch.setattr(syncobj, "monotonicTime", made.now)
        patch.setattr(syncobj, "random", random.Random(settings.get("seed", 0) + 2))
        patch.setattr(syncobj, "Serializer", DumpWriter)
        patch.setattr(DumpWriter, "later", staticmethod(made.later), raising=False)
        # The library walks through sets of nodes: their order must not change from run to run.
        patch.setattr(Node, "__hash__", lambda node: crc32(str(node.id).encode()))
        try:
            yield made
        finally:
            for replica in made.engines.values():
                replica.kill()


def run_stock(accident: str, seed: int) -> list[str]:
    """Let an accident happen to the library; what it broke, empty if it survived."""
    chosen = ACCIDENTS[accident]
    settings = {**chosen.settings, **chosen.library, "seed": seed}
    with (
        tempfile.TemporaryDirectory() as folder,
        stock(Path(folder), **settings) as made,
    ):
        return happen(accident, made, seed)


def main() -> int:
    parser = argparse.ArgumentParser(description="Run an accident on the library as it is.")
    parser.add_argument("accident", choices=sorted(ACCIDENTS))
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    violations = run_stock(chosen.accident, chosen.seed)
    print("\n".join(violations) or "survived")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
