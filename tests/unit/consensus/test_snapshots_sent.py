"""Snapshots on their way from one store to another."""

import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_disk import SimulatedDisk

from agentkeeper.consensus import limits
from agentkeeper.consensus.messages import SnapshotChunk
from agentkeeper.consensus.snapshot_file import HEADER_BYTES, DamagedError, Snapshot
from agentkeeper.consensus.snapshots import Outgoing, SnapshotStore

RESEND_S = 1.0
CHUNK_BYTES = 64


@pytest.fixture(autouse=True)
def small_chunks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "SNAPSHOT_CHUNK_BYTES", CHUNK_BYTES)
        yield


def payload_of(index: int) -> bytes:
    return random.Random(index).randbytes(150 + 37 * (index % 5))


def snapshot_at(index: int) -> Snapshot:
    return Snapshot(index, 1 + index // 10, payload_of(index))


class Replica:
    def __init__(self, seed: int = 0) -> None:
        self.disk = SimulatedDisk(random.Random(seed))
        self.restart()

    def restart(self) -> Snapshot | None:
        self.store = SnapshotStore(self.disk, lambda request: request())
        return self.store.load()

    def save(self, index: int) -> bool:
        told: list[bool] = []
        snapshot = snapshot_at(index)
        self.store.save(index, snapshot.term, [snapshot.payload], told.append)
        return told[0]

    def receive(self, chunk: dict[str, Any]) -> int | Snapshot | None:
        told: list[int | Snapshot | None] = []
        self.store.receive(SnapshotChunk(term=1, round=1, **chunk), told.append)
        return told[0]


class Transfer:
    """What leader and follower say to each other; the clock moves a second with each piece."""

    def __init__(self, leader: Replica, follower: Replica) -> None:
        self.outgoing: Outgoing = leader.store.open()
        self.follower = follower
        self.sent_bytes = 0
        self.now_s = 0.0

    def move(self) -> int | Snapshot | None:
        """Send a piece, and tell the leader what the follower says."""
        self.now_s += RESEND_S
        chunk = self.outgoing.chunk(self.now_s, RESEND_S)
        assert chunk is not None
        self.sent_bytes += len(chunk["data"])
        result = self.follower.receive(chunk)
        if isinstance(result, int):
            self.outgoing.arrived(chunk["index"], result)
        return result

    def finish(self) -> Snapshot:
        for _ in range(100):
            result = self.move()
            if isinstance(result, Snapshot):
                return result
        raise AssertionError("it does not end")


def pair(index: int = 20) -> tuple[Replica, Replica]:
    leader, follower = Replica(1), Replica(2)
    leader.save(index)
    return leader, follower


def test_it_arrives_in_pieces_and_is_stored_before_it_is_told() -> None:
    leader, follower = pair()
    transfer = Transfer(leader, follower)
    assert transfer.finish() == snapshot_at(20)
    assert follower.store.latest_index == 20
    assert transfer.sent_bytes == HEADER_BYTES + len(payload_of(20))
    follower.disk.power_cut()
    assert follower.restart() == snapshot_at(20)
    assert follower.disk.names() == ["snapshot"]


def test_one_piece_is_on_its_way_at_a_time() -> None:
    leader, _ = pair()
    outgoing = leader.store.open()
    first = outgoing.chunk(0.0, RESEND_S)
    assert first is not None
    assert outgoing.chunk(0.9, RESEND_S) is None
    assert outgoing.chunk(1.0, RESEND_S) == first
    assert outgoing.arrived(20, CHUNK_BYTES)
    second = outgoing.chunk(1.0, RESEND_S)
    assert second is not None
    assert second["offset"] == CHUNK_BYTES


def test_an_answer_that_comes_twice_sends_nothing_twice() -> None:
    leader, _ = pair()
    outgoing = leader.store.open()
    outgoing.chunk(0.0, RESEND_S)
    assert outgoing.arrived(20, CHUNK_BYTES)
    outgoing.chunk(0.0, RESEND_S)
    assert not outgoing.arrived(20, CHUNK_BYTES)
    assert outgoing.chunk(0.0, RESEND_S) is None


@pytest.mark.parametrize(("index", "offset"), [(19, 64), (20, 0), (20, 10**6)])
def test_answers_that_cannot_be_are_ignored(index: int, offset: int) -> None:
    leader, _ = pair()
    outgoing = leader.store.open()
    outgoing.chunk(0.0, RESEND_S)
    assert not outgoing.arrived(index, offset)


def test_a_newer_snapshot_does_not_disturb_one_on_its_way() -> None:
    leader, follower = pair(20)
    transfer = Transfer(leader, follower)
    transfer.move()
    leader.save(30)
    assert transfer.finish() == snapshot_at(20)
    assert Transfer(leader, follower).finish() == snapshot_at(30)


def test_a_transfer_that_was_cut_short_goes_on_where_it_was() -> None:
    leader, follower = pair(24)
    first = Transfer(leader, follower)
    for _ in range(3):
        first.move()
    again = Transfer(leader, follower)
    assert again.finish() == snapshot_at(24)
    lacking = HEADER_BYTES + len(payload_of(24)) - first.sent_bytes
    assert again.sent_bytes == CHUNK_BYTES + lacking  # its first piece has the header


def test_another_snapshot_begins_anew() -> None:
    leader, follower = pair(20)
    Transfer(leader, follower).move()
    other = Replica(3)
    other.save(30)
    assert Transfer(other, follower).finish() == snapshot_at(30)
    assert follower.disk.names() == ["snapshot"]


def test_a_follower_that_has_forgotten_says_so() -> None:
    leader, follower = pair()
    transfer = Transfer(leader, follower)
    transfer.move()
    follower.disk.kill()
    assert follower.restart() is None
    assert follower.disk.names() == []
    assert transfer.move() == 0
    assert transfer.finish() == snapshot_at(20)


def test_what_is_not_needed_any_more_leaves_no_file() -> None:
    leader, follower = pair()
    Transfer(leader, follower).move()
    assert follower.disk.names() == ["snapshot.received"]
    follower.store.forget_incoming()
    assert follower.disk.names() == []


def test_a_bit_that_flips_on_the_way_is_noticed_before_anything_is_replaced() -> None:
    leader, _ = pair(20)
    for offset in range(HEADER_BYTES + len(payload_of(20))):
        follower = Replica()
        follower.save(10)
        outgoing, results = leader.store.open(), []
        for at_s in range(100):
            chunk = outgoing.chunk(float(at_s), RESEND_S)
            assert chunk is not None
            data = bytearray(chunk["data"])
            if 0 <= offset - chunk["offset"] < len(data):
                data[offset - chunk["offset"]] ^= 1 << offset % 8
            results.append(follower.receive(chunk | {"data": bytes(data)}))
            if not isinstance(results[-1], int):
                break
            outgoing.arrived(20, results[-1])
        assert results[-1] is None
        assert follower.disk.names() == ["snapshot"]
        assert follower.restart() == snapshot_at(10)


@pytest.mark.parametrize(
    "chunk",
    [
        {"index": 20, "offset": 0, "data": b""},
        {"index": 20, "offset": 0, "data": bytes(HEADER_BYTES)},
    ],
)
def test_what_is_no_snapshot_is_refused(chunk: dict[str, Any]) -> None:
    follower = Replica()
    assert follower.receive(chunk) is None
    assert follower.disk.names() == []


def test_a_snapshot_under_a_false_index_is_refused() -> None:
    leader, follower = pair(20)
    chunk = leader.store.open().chunk(0.0, RESEND_S)
    assert chunk is not None
    assert follower.receive(chunk | {"index": 21}) is None


def test_more_than_the_header_says_is_refused() -> None:
    leader, follower = pair(20)
    chunk = leader.store.open().chunk(0.0, RESEND_S)
    assert chunk is not None
    assert follower.receive(chunk) == CHUNK_BYTES
    more = {"index": 20, "offset": CHUNK_BYTES, "data": bytes(1000)}
    assert follower.receive(more) is None
    assert follower.disk.names() == []


def test_a_damaged_header_is_not_sent() -> None:
    leader, _ = pair()
    leader.disk.flip_bit("snapshot", 9, 0)
    with pytest.raises(DamagedError):
        leader.store.open()


def test_a_full_disk_fails_the_transfer_and_gets_its_room_back() -> None:
    for room in range(0, HEADER_BYTES + len(payload_of(20)), 5):
        leader, follower = pair(20)
        follower.save(10)
        used = follower.disk.used_bytes
        follower.disk.capacity_bytes = used + room
        transfer, results = Transfer(leader, follower), []
        while not results or results[-1] is not None:
            results.append(transfer.move())
        assert follower.disk.used_bytes == used
        assert follower.store.latest_index == 10
        follower.disk.capacity_bytes = None
        assert transfer.finish() == snapshot_at(20)


class PowerCut(BaseException):
    pass


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_saves_and_transfers_that_mix_never_lose_or_damage_a_snapshot(data: st.DataObject) -> None:
    """Against the naive rule: the newest that was told is there, or one that was under way."""
    leader, follower = Replica(1), Replica(data.draw(st.integers(0, 10**6)))
    leader.save(1)
    transfer = Transfer(leader, follower)
    told = 0
    cut_in = data.draw(st.integers(0, 40))

    def before(operation: str, name: str) -> None:
        nonlocal cut_in
        cut_in -= 1
        if cut_in < 0:
            raise PowerCut

    follower.disk.before = before
    index = 1
    for action in data.draw(st.lists(st.sampled_from("mmmmslof"), max_size=40)):
        try:
            if action == "m":
                result = transfer.move()
                if isinstance(result, Snapshot):
                    assert result == snapshot_at(result.index)
                    told = max(told, result.index)
                    transfer = Transfer(leader, follower)
            elif action == "s":
                index += 1
                if follower.save(index):
                    told = max(told, index)
            elif action == "l":
                index += 1
                leader.save(index)
            elif action == "o":
                transfer = Transfer(leader, follower)
            else:
                follower.store.forget_incoming()
        except PowerCut:
            follower.disk.before = None
            follower.disk.power_cut()
            found = follower.restart()
            assert (found.index if found else 0) >= told
            assert found is None or found == snapshot_at(found.index)
            told = found.index if found else 0
            transfer = Transfer(leader, follower)
        assert follower.store.latest_index == told
    follower.disk.before = None
    follower.disk.kill()
    found = follower.restart()
    assert (found.index if found else 0) == told
