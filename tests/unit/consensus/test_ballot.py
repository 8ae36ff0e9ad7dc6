"""Term, vote and standing: never forgotten, whatever happens to one copy of them."""

from __future__ import annotations

import logging
import random
import struct
import zlib

import msgpack
import pytest
from simulated_disk import SimulatedDisk

from agentkeeper.consensus.ballot import COPY_BYTES, FILE_NAME, Ballot
from agentkeeper.consensus.disk import DamagedError, FormatError

FOUNDERS = {"a": "11" * 16, "b": "22" * 16, "c": "33" * 16}


class DeadError(Exception):
    pass


@pytest.fixture
def disk() -> SimulatedDisk:
    return SimulatedDisk(random.Random(0), "disk")


def _content(disk: SimulatedDisk) -> bytes:
    file = disk.open(FILE_NAME)
    return file.read(0, file.size())


def _values(ballot: Ballot) -> tuple[int, str | None, bool, dict[str, str]]:
    return ballot.term, ballot.vote, ballot.voter, ballot.founders


@pytest.mark.parametrize("voter", [True, False])
def test_a_new_one_is_blank_and_lasts(disk: SimulatedDisk, voter: bool) -> None:
    assert _values(Ballot.create(disk, voter)) == (0, None, voter, {})
    disk.power_cut()
    assert _values(Ballot.open(disk)) == (0, None, voter, {})


def test_what_was_stored_survives_a_power_cut(disk: SimulatedDisk) -> None:
    ballot = Ballot.create(disk, voter=False)
    ballot.store(term=3, vote="b")
    ballot.store(voter=True, founders=FOUNDERS)
    assert _values(ballot) == (3, "b", True, FOUNDERS)
    disk.power_cut()
    assert _values(Ballot.open(disk)) == (3, "b", True, FOUNDERS)


def test_what_is_left_out_stays_and_none_is_a_vote_for_nobody(disk: SimulatedDisk) -> None:
    ballot = Ballot.create(disk, voter=True)
    ballot.store(term=3, vote="b")
    ballot.store(term=4)
    assert (ballot.term, ballot.vote) == (4, "b")
    ballot.store(vote=None)
    assert (ballot.term, ballot.vote) == (4, None)


def test_each_copy_is_synced_before_the_next_is_written(disk: SimulatedDisk) -> None:
    ballot = Ballot.create(disk, voter=True)
    seen: list[str] = []
    disk.before = lambda operation, name: seen.append(operation)
    ballot.store(term=3)
    assert seen == ["write", "sync", "write", "sync"]
    ballot.store(term=3)
    assert len(seen) == 4  # that is stored already
    assert len(_content(disk)) == 2 * COPY_BYTES


def test_the_format_is_what_it_was(disk: SimulatedDisk) -> None:
    Ballot.create(disk, voter=True).store(term=3, vote="b", founders=FOUNDERS, segment=7)
    content = msgpack.packb(
        {"term": 3, "vote": "b", "voter": True, "founders": FOUNDERS, "segment": 7}
    )
    copy = struct.pack("<8sIQI", b"AKBALLOT", 1, 2, len(content)) + content
    copy = copy.ljust(COPY_BYTES - 4, b"\0")
    copy += struct.pack("<I", zlib.crc32(copy))
    assert _content(disk) == copy + copy


@pytest.mark.parametrize("position", [0, COPY_BYTES])
def test_one_damaged_copy_is_mended_from_the_other(
    disk: SimulatedDisk, caplog: pytest.LogCaptureFixture, position: int
) -> None:
    Ballot.create(disk, voter=True).store(term=3, vote="b", founders=FOUNDERS)
    intact = _content(disk)
    for offset in range(0, COPY_BYTES, 5):
        disk.flip_bit(FILE_NAME, position + offset, offset % 8)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            ballot = Ballot.open(disk)
        assert _values(ballot) == (3, "b", True, FOUNDERS)
        assert len(caplog.messages) == 1
        assert _content(disk) == intact
        ballot.close()
    disk.power_cut()
    assert _content(disk) == intact


def test_two_damaged_copies_are_refused(disk: SimulatedDisk) -> None:
    Ballot.create(disk, voter=True)
    disk.flip_bit(FILE_NAME, 0, 0)
    disk.flip_bit(FILE_NAME, COPY_BYTES, 0)
    with pytest.raises(DamagedError, match="neither of the two copies") as refusal:
        Ballot.open(disk)
    assert refusal.value.file == "disk/ballot"


def test_a_missing_or_empty_file_is_refused(disk: SimulatedDisk) -> None:
    with pytest.raises(DamagedError, match="disk/ballot is damaged at byte 0: it is missing"):
        Ballot.open(disk)
    disk.open(FILE_NAME, create=True)
    with pytest.raises(DamagedError, match="neither of the two copies"):
        Ballot.open(disk)


def test_a_newer_releases_format_is_no_damage(disk: SimulatedDisk) -> None:
    copy = struct.pack("<8sIQI", b"AKBALLOT", 2, 1, 0).ljust(COPY_BYTES - 4, b"\0")
    disk.open(FILE_NAME, create=True).write(0, copy + struct.pack("<I", zlib.crc32(copy)))
    with pytest.raises(
        FormatError, match=r"disk/ballot was written by a newer release \(in format 2"
    ):
        Ballot.open(disk)


def test_whenever_the_power_is_cut_it_is_old_or_new_and_never_old_again() -> None:
    old, new = (3, "b", True, FOUNDERS), (4, "c", True, FOUNDERS)
    outcomes = set()
    for seed in range(40):
        for operation_number in range(4):
            disk = SimulatedDisk(random.Random(seed))
            ballot = Ballot.create(disk, voter=True)
            ballot.store(term=3, vote="b", founders=FOUNDERS)
            disk.counts.clear()

            def cut(
                operation: str,
                name: str,
                disk: SimulatedDisk = disk,
                operation_number: int = operation_number,
            ) -> None:
                if disk.operations > operation_number:
                    raise DeadError

            disk.before = cut
            with pytest.raises(DeadError):
                ballot.store(term=4, vote="c")
            assert _values(ballot) == old
            disk.before = None
            disk.power_cut()
            found = _values(Ballot.open(disk))
            assert found in (old, new)
            outcomes.add((operation_number, found == new))
            disk.power_cut()
            assert _values(Ballot.open(disk)) == found
    # Before the first sync it may be lost; after that it cannot be.
    assert outcomes == {(0, False), (1, False), (1, True), (2, True), (3, True)}


def test_reading_it_never_leaves_two_torn_copies() -> None:
    for seed in range(1000):
        disk = SimulatedDisk(random.Random(seed))
        ballot = Ballot.create(disk, voter=True)
        ballot.store(term=3, vote="b", founders=FOUNDERS)
        _die_before_sync(disk, 1)
        with pytest.raises(DeadError):
            ballot.store(term=4, vote="c")
        disk.kill()
        _die_before_sync(disk, 1 + seed % 2)
        with pytest.raises(DeadError):
            Ballot.open(disk)
        disk.before = None
        disk.power_cut()
        assert Ballot.open(disk).term in (3, 4)


def _die_before_sync(disk: SimulatedDisk, number: int) -> None:
    last = disk.syncs + number

    def die(operation: str, name: str) -> None:
        if disk.syncs >= last:
            raise DeadError

    disk.before = die


def test_a_vote_read_after_a_failed_sync_is_not_forgotten(disk: SimulatedDisk) -> None:
    """After a failed sync the system shows what it will never store."""
    ballot = Ballot.create(disk, voter=True)
    disk.fail_syncs = 1
    with pytest.raises(OSError, match=r"\[Errno 5\]"):
        ballot.store(term=3, vote="b")
    assert (ballot.term, ballot.vote) == (0, None)
    disk.kill()
    found = _values(Ballot.open(disk))
    disk.power_cut()
    assert _values(Ballot.open(disk)) == found == (3, "b", True, {})


def test_a_full_disk_keeps_nobody_from_voting(disk: SimulatedDisk) -> None:
    ballot = Ballot.create(disk, voter=True)
    disk.capacity_bytes = disk.used_bytes
    ballot.store(term=3, vote="b")
    disk.power_cut()
    assert Ballot.open(disk).vote == "b"


def test_the_largest_clusters_founders_fit(disk: SimulatedDisk) -> None:
    founders = {f"{number}" * 64: f"{number}" * 64 for number in range(9)}
    ballot = Ballot.create(disk, voter=False)
    ballot.store(term=2**63, vote="8" * 64, voter=True, founders=founders, segment=2**63)
    assert _values(Ballot.open(disk)) == (2**63, "8" * 64, True, founders)


def test_what_does_not_fit_is_refused_and_changes_nothing(disk: SimulatedDisk) -> None:
    ballot = Ballot.create(disk, voter=True)
    with pytest.raises(ValueError, match="take 4129 bytes of 4092"):
        ballot.store(vote="b" * 4064)
    assert ballot.vote is None
    ballot.store(term=1)
    assert Ballot.open(disk).term == 1


def test_one_in_memory_is_as_good_while_it_lasts() -> None:
    ballot = Ballot.in_memory(voter=True)
    ballot.store(term=3, vote="b")
    assert _values(ballot) == (3, "b", True, {})
    ballot.close()
