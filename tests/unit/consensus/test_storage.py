"""Whose a data folder is, and that nobody starts with a part of one."""

from __future__ import annotations

import contextlib
import json
import random
import struct
import zlib
from pathlib import Path

import pytest
from simulated_disk import SimulatedDisk

from agentkeeper.consensus import segments, snapshots
from agentkeeper.consensus.ballot import FILE_NAME as BALLOT
from agentkeeper.consensus.config import Durability, RaftConfig
from agentkeeper.consensus.disk import Disk, OsDisk
from agentkeeper.consensus.journal import Journal
from agentkeeper.consensus.port import StartError
from agentkeeper.consensus.recovery import REJOIN
from agentkeeper.consensus.storage import DataFolder, Storage, open_storage

ALONE = RaftConfig(node_id="a")
PEERS = {name: f"127.0.0.1:{port}" for port, name in enumerate("abc", 7401)}
ONE_OF_THREE = RaftConfig(node_id="a", peers=PEERS)
LOG = segments.name_of(1)


class DeadError(Exception):
    pass


@pytest.fixture
def disk() -> SimulatedDisk:
    return SimulatedDisk(random.Random(0), "disk")


def _draw() -> str:
    return "0123" * 8


def _no_draw() -> str:
    raise AssertionError("an incarnation was drawn for a folder that has one")


def _use(disk: Disk, config: RaftConfig = ONE_OF_THREE) -> None:
    """Make a folder in which a replica has voted and stored an entry."""
    storage = open_storage(disk, config, _draw)
    storage.ballot.store(term=1, vote="a")
    storage.journal.add(b"1", 1, 1)
    storage.journal.flush()
    storage.close()


def _refusal(disk: Disk, config: RaftConfig = ONE_OF_THREE) -> str:
    with pytest.raises(StartError) as caught:
        open_storage(disk, config, _draw)
    return str(caught.value)


@pytest.mark.parametrize("config", [ALONE, ONE_OF_THREE])
def test_a_new_folder(disk: SimulatedDisk, config: RaftConfig) -> None:
    storage = open_storage(disk, config, _draw)
    assert (storage.is_new, storage.incarnation, len(storage.journal)) == (True, _draw(), 0)
    # Alone it is a majority; one of several may have a cluster to join.
    assert (storage.ballot.term, storage.ballot.voter) == (0, config is ALONE)
    assert disk.names() == [LOG, "ballot", "identity.json"]


def test_a_folder_in_use_keeps_everything(disk: SimulatedDisk) -> None:
    _use(disk)
    disk.power_cut()
    storage = open_storage(disk, ONE_OF_THREE, _no_draw)
    assert (storage.is_new, storage.incarnation) == (False, _draw())
    assert storage.journal[:] == [(b"1", 1, 1)]
    assert (storage.ballot.term, storage.ballot.vote) == (1, "a")


def test_a_new_folder_is_not_new_the_second_time(disk: SimulatedDisk) -> None:
    open_storage(disk, ONE_OF_THREE, _draw).close()
    assert not open_storage(disk, ONE_OF_THREE, _no_draw).is_new


def test_a_folder_whose_making_was_cut_short_is_made_anew() -> None:
    disk = SimulatedDisk(random.Random(0))
    open_storage(disk, ONE_OF_THREE, _draw)
    steps = disk.operations
    finished = set()
    for step in range(steps):
        for seed in range(20):
            disk = SimulatedDisk(random.Random(seed))

            def cut(
                operation: str, name: str, disk: SimulatedDisk = disk, step: int = step
            ) -> None:
                if disk.operations > step:
                    raise DeadError

            disk.before = cut
            with pytest.raises(DeadError):
                open_storage(disk, ONE_OF_THREE, _draw)
            disk.before = None
            (disk.kill, disk.power_cut)[seed % 2]()
            storage = open_storage(disk, ONE_OF_THREE, lambda: "later")
            finished.add((step, storage.incarnation))
            assert storage.is_new == (storage.incarnation == "later")
            assert storage.journal[:] == []
            storage.journal.add(b"1", 1, 0)
            storage.journal.flush()
            disk.power_cut()
            assert open_storage(disk, ONE_OF_THREE, _no_draw).journal[:] == [(b"1", 1, 0)]
    # Only after its renaming, the last step but the sync of the folder, can the identity be there.
    last = steps - 1
    assert finished == {(step, "later") for step in range(steps)} | {(last, _draw())}


def test_the_log_is_opened_with_the_durability_asked_for(disk: SimulatedDisk) -> None:
    config = RaftConfig(node_id="a", durability=Durability.OS)
    for _ in range(2):
        storage = open_storage(disk, config, _draw)
        disk.counts.clear()
        storage.journal.add(b"", len(storage.journal) + 1, 0)
        storage.journal.flush()
        assert disk.syncs == 0
        storage.close()


@pytest.mark.parametrize(
    "config",
    [
        ALONE,
        RaftConfig(node_id="b", peers=PEERS),
        RaftConfig(node_id="a", peers={"a": PEERS["a"], "b": PEERS["b"]}),
    ],
)
def test_somebody_elses_folder_is_refused(disk: SimulatedDisk, config: RaftConfig) -> None:
    _use(disk)
    message = _refusal(disk, config)
    assert "belongs to replica 'a' of a cluster of a, b, c, but this is replica" in message
    assert "start it with the settings it was made with, or use another folder" in message


def test_addresses_may_change(disk: SimulatedDisk) -> None:
    _use(disk)
    moved = {name: f"10.0.0.1:{port}" for port, name in enumerate("abc", 1000)}
    assert not open_storage(disk, RaftConfig(node_id="a", peers=moved), _no_draw).is_new


@pytest.mark.parametrize("lost", [LOG, BALLOT, "identity.json"])
def test_a_folder_with_a_part_missing_is_refused(disk: SimulatedDisk, lost: str) -> None:
    _use(disk)
    disk.remove(lost)
    names = disk.names()
    assert _refusal(disk).startswith(f"disk/{lost} is damaged at byte 0: it is missing")
    assert _refusal(disk).endswith(f"; {REJOIN}")
    assert disk.names() == names


def _roll(disk: SimulatedDisk) -> None:
    """Make a folder with two segments and an entry in the second."""
    storage = open_storage(disk, ONE_OF_THREE, _draw)
    storage.journal._segment_bytes = segments.HEADER_BYTES + 1
    for index in (1, 2):
        storage.journal.add(b"1", index, 1)
        storage.journal.flush()
    storage.close()


def test_a_newest_segment_that_is_missing_is_found(disk: SimulatedDisk) -> None:
    _roll(disk)
    disk.power_cut()
    assert len(open_storage(disk, ONE_OF_THREE, _no_draw).journal) == 2
    disk.remove(segments.name_of(2))
    names = disk.names()
    assert _refusal(disk).startswith(f"disk/{segments.name_of(2)} is damaged at byte 0: it is miss")
    assert disk.names() == names


def test_a_roll_that_was_cut_short_is_no_damage() -> None:
    found = set()
    for step in range(30):
        for seed in range(10):
            disk = SimulatedDisk(random.Random(seed))
            _use(disk)
            storage = open_storage(disk, ONE_OF_THREE, _no_draw)
            storage.journal._segment_bytes = segments.HEADER_BYTES + 1
            storage.journal.add(b"2", 2, 1)
            last = disk.operations + step

            def cut(
                operation: str, name: str, disk: SimulatedDisk = disk, last: int = last
            ) -> None:
                if disk.operations > last:
                    raise DeadError

            disk.before = cut
            with contextlib.suppress(DeadError):
                storage.journal.flush()
            disk.before = None
            disk.power_cut()
            again = open_storage(disk, ONE_OF_THREE, _no_draw)
            assert again.journal[:] in ([(b"1", 1, 1)], [(b"1", 1, 1), (b"2", 2, 1)])
            found.add((again.ballot.segment, len(again.journal)))
            disk.remove(segments.name_of(again.ballot.segment))
            assert "it is missing" in _refusal(disk)
    assert found == {(1, 1), (2, 1), (2, 2)}


@pytest.mark.parametrize("name", ["identity.json", BALLOT, LOG])
def test_a_newer_releases_folder_is_not_to_be_removed(disk: SimulatedDisk, name: str) -> None:
    _use(disk)
    if name == "identity.json":
        content = {"format": 2, "more": True}
        checksum = zlib.crc32(json.dumps(content, sort_keys=True).encode())
        data = json.dumps(content | {"checksum": checksum}).encode()
    elif name == BALLOT:
        data = struct.pack("<8sI", b"AKBALLOT", 2).ljust(4092, b"\1")
        data += struct.pack("<I", zlib.crc32(data))
    else:
        data = struct.pack("<8sIQI", b"AKLOGSEG", 2, 1, 0)
        data += struct.pack("<I", zlib.crc32(data))
    disk.open(name, create=True).write(0, data)
    message = _refusal(disk)
    assert message.startswith(f"disk/{name} was written by a newer release (in format 2; ")
    assert REJOIN not in message


def test_a_vote_without_identity_is_refused(disk: SimulatedDisk) -> None:
    open_storage(disk, ONE_OF_THREE, _draw).ballot.store(term=1)
    disk.remove("identity.json")
    assert "missing from a folder in use" in _refusal(disk)


def test_founders_without_identity_are_refused(disk: SimulatedDisk) -> None:
    open_storage(disk, ONE_OF_THREE, _draw).ballot.store(founders={"a": _draw()})
    disk.remove("identity.json")
    assert "missing from a folder in use" in _refusal(disk)


def test_a_snapshot_without_identity_is_refused(disk: SimulatedDisk) -> None:
    disk.open(snapshots.FILE_NAME, create=True)
    assert "missing from a folder in use" in _refusal(disk)
    assert disk.names() == [snapshots.FILE_NAME]


def test_a_damaged_log_is_refused_with_file_and_offset(disk: SimulatedDisk) -> None:
    _use(disk)
    disk.flip_bit(LOG, segments.HEADER_BYTES + 5, 1)
    message = _refusal(disk)
    assert message.startswith(f"disk/{LOG} is damaged at byte {segments.HEADER_BYTES}: ")
    assert message.endswith(f"; {REJOIN}")


def test_a_damaged_ballot_is_refused(disk: SimulatedDisk) -> None:
    _use(disk)
    disk.open(BALLOT).truncate(0)
    assert _refusal(disk).startswith("disk/ballot is damaged at byte 0: neither of the two copies")


def test_every_flipped_bit_of_the_identity_is_found(disk: SimulatedDisk) -> None:
    _use(disk)
    accepted = 0
    for offset in range(disk.open("identity.json").size()):
        for bit in range(8):
            disk.flip_bit("identity.json", offset, bit)
            with contextlib.suppress(StartError):
                storage = open_storage(disk, ONE_OF_THREE, _no_draw)
                assert storage.incarnation == _draw()  # one kind of blank is as good as another
                accepted += 1
            disk.flip_bit("identity.json", offset, bit)
    assert accepted < 20


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"null", b"\xff"])
def test_an_identity_that_is_none_is_refused(disk: SimulatedDisk, content: bytes) -> None:
    _use(disk)
    disk.open("identity.json", create=True).write(0, content)
    assert _refusal(disk).startswith("disk/identity.json is damaged at byte 0: it cannot be read")


def test_the_identity_can_be_read_by_people(disk: SimulatedDisk) -> None:
    _use(disk)
    file = disk.open("identity.json")
    content = json.loads(file.read(0, file.size()))
    del content["checksum"]
    assert content == {
        "format": 1,
        "node_id": "a",
        "members": ["a", "b", "c"],
        "incarnation": _draw(),
    }


def test_the_former_format_is_refused(disk: SimulatedDisk) -> None:
    for name in ("identity.json", "log", "log.meta"):
        disk.open(name, create=True).write(0, b"{}")
    message = _refusal(disk)
    assert message.startswith("disk/log is the log of an older release, which this one cannot read")
    assert REJOIN not in message


def test_a_disk_that_fails_is_named(disk: SimulatedDisk) -> None:
    disk.fail_syncs = 1
    message = _refusal(disk)
    assert message.startswith("the data folder disk/ cannot be used: [Errno 5]")


def test_nothing_stays_open_after_a_refusal(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    _use(folder.disk)
    (tmp_path / LOG).unlink()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        assert "it is missing" in _refusal(folder.disk)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_folder_of_the_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "data"
    synced: list[Path] = []
    monkeypatch.setattr(OsDisk, "sync", lambda disk: synced.append(disk._folder))
    folder = DataFolder(path)
    assert synced == [tmp_path / "new", tmp_path]
    _use(folder.disk)
    assert sorted(entry.name for entry in path.iterdir()) == [
        LOG,
        "ballot",
        "identity.json",
        "lock",
    ]
    assert Journal.open(folder.disk)[:] == [(b"1", 1, 1)]
    folder.close()


def test_a_folder_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    with pytest.raises(StartError, match="is in use by another process; stop that one first"):
        DataFolder(tmp_path)
    folder.close()
    DataFolder(tmp_path).close()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StartError, match=r"the data folder .*/file/data cannot be used: "):
        DataFolder(tmp_path / "file" / "data")


def test_in_memory(disk: SimulatedDisk) -> None:
    storage = Storage.in_memory(ALONE, _draw)
    storage.journal.add(b"1", 1, 0)
    storage.journal.flush()
    storage.ballot.store(term=1)
    assert (storage.is_new, storage.incarnation, storage.ballot.voter) == (True, _draw(), True)
    assert storage.journal.durable_index == 1
    storage.close()
    assert not Storage.in_memory(ONE_OF_THREE, _draw).ballot.voter
