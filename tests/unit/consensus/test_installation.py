"""InstallSnapshot on one replica; the test plays the others, the clock and the slow disk."""

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pysyncobj import syncobj
from pysyncobj.node import Node
from pysyncobj.transport import Transport
from simulated_disk import SimulatedDisk

from agentkeeper.consensus import limits
from agentkeeper.consensus.config import RaftConfig
from agentkeeper.consensus.engine import RaftEngine
from agentkeeper.consensus.peers import Peer
from agentkeeper.consensus.snapshots import SnapshotStore

INDEX, TERM = 50, 4
STATE = bytes(range(200))
Message = dict[str, Any]


class Clock:
    time_s = 1000.0

    def now(self) -> float:
        return self.time_s


@pytest.fixture(autouse=True)
def clock() -> Iterator[Clock]:
    with pytest.MonkeyPatch.context() as patch:
        made = Clock()
        patch.setattr(syncobj, "monotonicTime", made.now)
        patch.setattr(limits, "SNAPSHOT_CHUNK_BYTES", 100)
        yield made


class Wire(Transport):
    def __init__(self, node: Node) -> None:
        super().__init__(None, node, [])
        self.sent: list[tuple[str, Message]] = []

    def send(self, node: Node, message: Message) -> bool:
        self.sent.append((node.id, message))
        return True

    def rejuvenate(self, span_s: float) -> None:
        pass

    def note(self, reason: object, text: str) -> None:
        """What is refused is not counted here."""


class Listener:
    def __init__(self) -> None:
        self.restored_at: list[tuple[int, int, bytes]] = []
        self.failure = ""

    def restored(self, index: int, term: int, snapshot: bytes) -> None:
        self.restored_at.append((index, term, snapshot))

    def failed(self, reason: str) -> None:
        self.failure = reason

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments: None


class Replica:
    """A replica of three, linked to the other two; or of one, when it `leads`."""

    def __init__(self, *, leads: bool = False) -> None:
        self.disk = SimulatedDisk(random.Random(0))
        peers = {} if leads else dict.fromkeys("abc", "localhost:1")
        self.listener = Listener()
        self.engine = RaftEngine(
            RaftConfig("a", peers=peers),
            transport=Wire,
            disk=self.disk,
            draw_incarnation=lambda: "i",
        )
        self.engine.open(self.listener)
        assert self.engine._raft is not None
        self.raft = self.engine._raft
        self.wire: Wire = self.raft.transport
        for peer in peers.keys() - {"a"}:
            self.wire._onNodeConnected(Node(peer))
            introduction = {"incarnation": peer * 8, "standing": "voter", "founders": {}}
            self.receive(peer, type="introduction", **introduction)

    def receive(self, sender: str, **message: Any) -> list[Message]:
        """Hand a message in, do all that is due, and give what is answered."""
        before = len(self.wire.sent)
        self.wire._onMessageReceived(Node(sender), message)
        return self.step(before)

    def step(self, before: int | None = None) -> list[Message]:
        before = len(self.wire.sent) if before is None else before
        self.engine.step()
        assert self.listener.failure == ""
        return [message for to, message in self.wire.sent[before:] if to == "b"]

    def install(self, offset: int, term: int = TERM, size: int = 100) -> list[Message]:
        data = FILE[offset : offset + size]
        return self.receive(
            "b",
            type="install_snapshot",
            term=term,
            round=offset + 1,
            index=INDEX,
            offset=offset,
            data=data,
            last=offset + size >= len(FILE),
        )


def file_of(state: bytes) -> bytes:
    disk = SimulatedDisk(random.Random(0))
    store = SnapshotStore(disk, lambda request: request())
    store.save(INDEX, TERM, [state], lambda success: None)
    file = disk.open("snapshot")
    return file.read(0, file.size())


FILE = file_of(STATE)


def test_pieces_are_answered_and_the_last_replaces_state_and_log() -> None:
    replica = Replica()
    for offset in (0, 100):
        (reply,) = replica.install(offset)
        assert (reply["type"], reply["index"]) == ("snapshot_received", INDEX)
        assert (reply["offset"], reply["round"]) == (offset + 100, offset + 1)
        assert replica.listener.restored_at == []
    (reply,) = replica.install(200)
    assert (reply["type"], reply["success"]) == ("next_node_idx", True)
    assert reply["next_node_idx"] == INDEX + 1
    assert replica.listener.restored_at == [(INDEX, TERM, STATE)]
    assert (replica.raft.first_index, replica.raft.commit_index) == (INDEX, INDEX)
    assert replica.raft.durable_index == INDEX


def test_a_piece_of_what_is_there_already_is_answered_with_that() -> None:
    replica = Replica()
    for offset in (0, 100, 200):
        replica.install(offset)
    (reply,) = replica.install(0)
    assert (reply["type"], reply["next_node_idx"]) == ("next_node_idx", INDEX + 1)
    assert len(replica.listener.restored_at) == 1


def test_while_the_disk_is_slow_the_leader_is_answered_and_nothing_is_queued() -> None:
    replica = Replica()
    jobs: list[Callable[[], None]] = []
    replica.raft.snapshots._run = jobs.append
    assert replica.install(0) == []
    (reply,) = replica.install(0)
    assert (reply["type"], reply["success"], reply["reset"]) == ("next_node_idx", False, False)
    (job,) = jobs
    job()
    (reply,) = replica.step()
    assert (reply["type"], reply["offset"]) == ("snapshot_received", 100)


def test_what_was_stored_for_a_former_leader_is_not_told_to_it() -> None:
    replica = Replica()
    jobs: list[Callable[[], None]] = []
    replica.raft.snapshots._run = jobs.append
    replica.install(0)
    replica.receive("c", type="append_entries", term=TERM + 1, round=1, commit_index=1)
    jobs.pop()()
    assert replica.step() == []


def test_a_former_leader_installs_nothing() -> None:
    replica = Replica()
    replica.receive("c", type="append_entries", term=TERM + 1, round=1, commit_index=1)
    (reply,) = replica.install(0)
    assert (reply["type"], reply["term"]) == ("next_node_idx", TERM + 1)
    assert replica.raft.snapshots._incoming is None


def test_a_full_disk_is_tried_again_after_a_pause(clock: Clock) -> None:
    replica = Replica()
    replica.install(0)
    names = set(replica.disk.names())
    replica.disk.capacity_bytes = replica.disk.used_bytes + 50
    assert replica.install(100) == []
    assert set(replica.disk.names()) == names - {"snapshot.received"}
    replica.disk.capacity_bytes = None
    (reply,) = replica.install(0)
    assert reply["type"] == "next_node_idx"
    clock.time_s += 6
    (reply,) = replica.install(100)
    assert (reply["type"], reply["offset"]) == ("snapshot_received", 0)
    (reply,) = replica.install(0)
    assert reply["offset"] == 100


def test_a_snapshot_that_the_log_overtakes_leaves_no_file() -> None:
    replica = Replica()
    replica.install(0)
    assert "snapshot.received" in replica.disk.names()
    entries = [(b"\0x", index, TERM) for index in range(2, INDEX + 1)]
    append = {"term": TERM, "round": 9, "prevLogIdx": 1, "prevLogTerm": 0, "entries": entries}
    replica.receive("b", type="append_entries", commit_index=INDEX - 1, **append)
    assert "snapshot.received" in replica.disk.names()
    replica.receive("b", type="append_entries", commit_index=INDEX, **append)
    assert "snapshot.received" not in replica.disk.names()


def test_a_snapshot_that_cannot_be_read_stops_only_its_sending(clock: Clock) -> None:
    replica = Replica(leads=True)
    raft, peer = replica.raft, Peer()
    for _ in range(20):
        clock.time_s += 0.5
        replica.step()
    replica.engine.save_snapshot(raft.delivered_index, [STATE])
    replica.step()
    replica.step()
    assert raft.snapshots.latest_index == raft.delivered_index
    replica.disk.flip_bit("snapshot", 3, 1)
    assert raft._next_chunk(peer) is None
    replica.disk.flip_bit("snapshot", 3, 1)
    assert raft._next_chunk(peer) is None
    clock.time_s += 6
    chunk = raft._next_chunk(peer)
    assert chunk is not None
    assert (chunk["offset"], len(chunk["data"])) == (0, 100)
