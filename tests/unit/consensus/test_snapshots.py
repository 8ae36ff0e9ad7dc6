"""The snapshot's file: whole or not there, whatever happens to process and disk."""

import errno
import os
import random
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from simulated_disk import SimulatedDisk

from agentkeeper.consensus.disk import Disk, OsDisk
from agentkeeper.consensus.memory_disk import MemoryDisk
from agentkeeper.consensus.port import StartError
from agentkeeper.consensus.snapshot_file import HEADER_BYTES, Header, Snapshot
from agentkeeper.consensus.snapshots import SnapshotStore

OLD = Snapshot(10, 1, bytes(range(100)))
NEW = Snapshot(25, 3, b"".join(b"%d" % i for i in range(200)))


class PowerCut(BaseException):
    """Raised in the middle of things."""


def store_on(disk: Disk | None) -> SnapshotStore:
    return SnapshotStore(disk, lambda request: request())


def save(store: SnapshotStore, snapshot: Snapshot, piece_bytes: int = 60) -> bool:
    told: list[bool] = []
    payload = snapshot.payload
    pieces = (payload[at : at + piece_bytes] for at in range(0, len(payload), piece_bytes))
    store.save(snapshot.index, snapshot.term, pieces, told.append)
    (success,) = told
    return success


def simulated(seed: int = 0) -> SimulatedDisk:
    return SimulatedDisk(random.Random(seed))


@pytest.fixture(params=["os", "memory", "simulated"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    disks: dict[str, Disk] = {
        "os": OsDisk(tmp_path),
        "memory": MemoryDisk(),
        "simulated": simulated(),
    }
    return disks[request.param]


def test_what_is_saved_is_loaded(disk: Disk) -> None:
    store = store_on(disk)
    assert store.load() is None
    assert save(store, OLD)
    assert store.latest_index == OLD.index
    assert save(store, NEW)
    reopened = store_on(disk)
    assert reopened.load() == NEW
    assert reopened.latest_index == NEW.index
    assert disk.names() == ["snapshot"]


def test_an_empty_state_is_a_snapshot_too(disk: Disk) -> None:
    empty = Snapshot(7, 2, b"")
    assert save(store_on(disk), empty)
    assert store_on(disk).load() == empty


def test_without_a_disk_it_is_kept_in_memory() -> None:
    store = store_on(None)
    assert store.load() is None
    assert save(store, OLD)
    assert store.load() == OLD


def test_an_older_snapshot_never_replaces_a_newer_one(disk: Disk) -> None:
    store = store_on(disk)
    assert save(store, NEW)
    assert save(store, OLD)
    assert store.latest_index == NEW.index
    reopened = store_on(disk)
    assert reopened.load() == NEW
    assert save(reopened, OLD)
    assert reopened.load() == NEW


def test_each_piece_is_written_before_the_next_is_taken() -> None:
    disk = simulated()
    store = store_on(disk)
    written: list[int] = []

    def pieces() -> Iterator[bytes]:
        for _ in range(3):
            yield bytes(50)
            written.append(disk.used_bytes)

    store.save(1, 1, pieces(), lambda success: None)
    assert written == [HEADER_BYTES + 50, HEADER_BYTES + 100, HEADER_BYTES + 150]


def test_a_large_one_is_synced_now_and_then() -> None:
    disk = simulated()
    store_on(disk).save(1, 1, (bytes(2**20) for _ in range(20)), lambda success: None)
    assert disk.counts["sync"] == 3  # at 8 and 16 MiB, and at the end


# --- damage ---------------------------------------------------------------------------------------
def test_every_flipped_bit_is_refused_and_the_way_out_is_told() -> None:
    size = HEADER_BYTES + len(OLD.payload)
    for offset in range(size):
        disk = simulated()
        save(store_on(disk), OLD)
        disk.flip_bit("snapshot", offset, offset % 8)
        with pytest.raises(StartError) as refused:
            store_on(disk).load()
        part = 0 if offset < HEADER_BYTES else HEADER_BYTES
        for said in (
            f"simulated/snapshot is damaged at byte {part}: ",
            "rejoins empty",
            "majority",
        ):
            assert said in str(refused.value)


@pytest.mark.parametrize("by", [-HEADER_BYTES - 100, -101, -100, -1, 1])
def test_another_size_is_refused(by: int) -> None:
    disk = simulated()
    save(store_on(disk), OLD)
    size = HEADER_BYTES + len(OLD.payload) + by
    disk.open("snapshot").truncate(size)
    with pytest.raises(StartError, match=f"is damaged at byte {size}: it ends there"):
        store_on(disk).load()


def test_a_newer_releases_snapshot_is_no_damage() -> None:
    disk = simulated()
    header = bytearray(Header(5, 1, 0, 0).encode())
    header[6] += 1
    header[-4:] = zlib.crc32(header[:-4]).to_bytes(4, "little")
    disk.open("snapshot", create=True).write(0, bytes(header))
    with pytest.raises(StartError, match=r"snapshot was written by a newer release") as refused:
        store_on(disk).load()
    assert "remove" not in str(refused.value)


def test_a_disk_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "snapshot").mkdir()
    with pytest.raises(StartError, match="directory"):
        store_on(OsDisk(tmp_path)).load()


# --- process or machine stop in between -----------------------------------------------------------
def cut_at(disk: SimulatedDisk, number: int) -> None:
    """Let the power fail at the given operation from now on (0: the next)."""
    left = iter(range(number))

    def before(operation: str, name: str) -> None:
        if next(left, None) is None:
            raise PowerCut

    disk.before = before


def operations_of_a_save() -> int:
    disk = simulated()
    save(store_on(disk), OLD)
    before = disk.operations
    save(store_on(disk), NEW)
    return disk.operations - before


@pytest.mark.parametrize("power", [True, False], ids=["power cut", "killed"])
@pytest.mark.parametrize("number", range(operations_of_a_save()))
def test_a_crash_at_any_operation_leaves_one_of_the_two(number: int, power: bool) -> None:
    found = set()
    for seed in range(40):
        disk = simulated(seed)
        save(store_on(disk), OLD)
        store = store_on(disk)
        assert store.load() == OLD
        cut_at(disk, number)
        with pytest.raises(PowerCut):
            save(store, NEW)
        disk.before = None
        if power:
            disk.power_cut()
        else:
            disk.kill()
        found.add(store_on(disk).load())
        assert disk.names() == ["snapshot"]
    assert found <= {OLD, NEW}
    assert OLD in found or number == operations_of_a_save() - 1


def test_once_it_is_told_a_power_cut_does_not_undo_it() -> None:
    for seed in range(40):
        disk = simulated(seed)
        save(store_on(disk), OLD)
        assert save(store_on(disk), NEW)
        disk.power_cut()
        assert store_on(disk).load() == NEW


def test_a_full_disk_is_told_and_gets_its_room_back() -> None:
    whole = HEADER_BYTES + len(NEW.payload)
    for room in range(0, whole, 7):
        disk = simulated(room)
        store = store_on(disk)
        save(store, OLD)
        used = disk.used_bytes
        disk.capacity_bytes = used + room
        assert not save(store, NEW)
        assert not store.busy
        assert store.latest_index == OLD.index
        assert disk.used_bytes == used
        assert store_on(disk).load() == OLD
        disk.capacity_bytes = used + whole
        assert save(store, NEW)
        assert store_on(disk).load() == NEW


@pytest.mark.parametrize("failing", ["create", "write", "sync", "rename", "sync_folder"])
def test_any_other_failure_is_a_failed_snapshot_only(failing: str) -> None:
    disk = simulated()
    store = store_on(disk)
    save(store, OLD)

    def before(operation: str, name: str) -> None:
        if operation == failing:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    disk.before = before
    assert not save(store, NEW)
    assert store.latest_index == OLD.index
    disk.before = None
    assert store_on(disk).load() in (OLD, NEW)
    assert save(store, NEW)
    disk.power_cut()
    assert store_on(disk).load() == NEW


def test_pieces_that_fail_are_a_failed_snapshot() -> None:
    def pieces() -> Iterator[bytes]:
        yield b"some"
        raise RuntimeError("packing failed")

    disk = simulated()
    store = store_on(disk)
    told: list[bool] = []
    store.save(5, 1, pieces(), told.append)
    assert told == [False]
    assert disk.names() == []
    assert store.load() is None


# --- the thread -----------------------------------------------------------------------------------
def test_on_its_thread_the_caller_does_not_wait() -> None:
    told: list[bool] = []
    done, taken = threading.Event(), threading.Event()
    store = store_on(simulated())

    def pieces() -> Iterator[bytes]:
        assert taken.wait(10)
        yield b"state"

    def tell(success: bool) -> None:
        told.append(success)
        done.set()

    store.run_thread("snapshots")
    store.save(5, 1, pieces(), tell)
    assert store.busy
    assert told == []
    taken.set()
    assert done.wait(10)
    assert told == [True]
    assert not store.busy
    store.close()


def test_closing_breaks_off_what_is_under_way() -> None:
    told: list[bool] = []
    begun = threading.Event()

    def endless() -> Iterator[bytes]:
        while True:
            yield bytes(10)
            begun.set()

    disk = simulated()
    store = store_on(disk)
    save(store, OLD)
    store.run_thread("snapshots")
    store.save(NEW.index, 1, endless(), told.append)
    assert begun.wait(10)
    store.close()
    assert told == []
    assert disk.names() == ["snapshot"]
    assert store_on(disk).load() == OLD
