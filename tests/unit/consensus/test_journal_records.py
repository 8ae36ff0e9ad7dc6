"""What the log's files hold, and how damage to them is told from the trace of a crash."""

from __future__ import annotations

import logging
import random
import struct
import zlib

import pytest
from journal_files import (
    ENTRIES,
    FIRST,
    RECORD_BYTES,
    SECOND,
    THIRD,
    content,
    refusal,
    replace,
    store,
)
from simulated_disk import SimulatedDisk, SimulatedFile

from agentkeeper.consensus import segments
from agentkeeper.consensus.config import Durability
from agentkeeper.consensus.disk import DamagedError, FormatError
from agentkeeper.consensus.journal import Journal


class DeadError(Exception):
    pass


@pytest.fixture
def disk() -> SimulatedDisk:
    return SimulatedDisk(random.Random(0), "disk")


def test_the_format_is_what_it_was(disk: SimulatedDisk) -> None:
    store(disk)
    header = struct.pack("<8sIQI", b"AKLOGSEG", 1, 1, 0)
    expected = header + struct.pack("<I", zlib.crc32(header))
    chain = 0
    for command, index, term in ENTRIES:
        fields = struct.pack("<IQQB", len(command), index, term, 2)  # each began a group
        fields_crc = zlib.crc32(fields, chain)
        chain = zlib.crc32(command + b"\xff", fields_crc)
        expected += fields + struct.pack("<II", fields_crc, chain) + command + b"\xff"
    assert content(disk, FIRST) == expected


def test_every_flipped_bit_is_found(disk: SimulatedDisk) -> None:
    store(disk)
    for offset in range(len(content(disk, FIRST))):
        for bit in range(8):
            disk.flip_bit(FIRST, offset, bit)
            found = refusal(disk)
            assert found.file == f"disk/{FIRST}"
            assert found.offset <= offset
            disk.flip_bit(FIRST, offset, bit)
    assert Journal.open(disk)[:] == ENTRIES


def test_a_file_that_ends_anywhere_gives_the_entries_before(
    disk: SimulatedDisk, caplog: pytest.LogCaptureFixture
) -> None:
    store(disk)
    whole = content(disk, FIRST)
    ends = [segments.HEADER_BYTES]
    for command, _, _ in ENTRIES:
        ends.append(ends[-1] + RECORD_BYTES + len(command))
    for size in range(segments.HEADER_BYTES, len(whole)):
        replace(disk, FIRST, whole[:size])
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            journal = Journal.open(disk)
        kept = sum(end <= size for end in ends) - 1
        assert journal[:] == ENTRIES[:kept]
        assert journal.durable_index == kept
        assert content(disk, FIRST) == whole[: ends[kept]]
        cut = f"disk/{FIRST} ended within a record, as a crash leaves it: cut from {size} bytes"
        assert caplog.messages == ([] if size in ends else [f"{cut} to {ends[kept]}"])
        journal.close()


def test_what_is_cut_stays_cut_at_a_power_cut(disk: SimulatedDisk) -> None:
    store(disk)
    whole = content(disk, FIRST)
    replace(disk, FIRST, whole[:-1])
    Journal.open(disk)
    disk.power_cut()
    assert len(content(disk, FIRST)) == len(whole) - RECORD_BYTES - len(b"three")


def test_a_newest_segment_that_must_be_there_is_missed(disk: SimulatedDisk) -> None:
    store(disk, segment_bytes=1)
    assert Journal.open(disk, newest_segment=3)[:] == ENTRIES
    replace(disk, THIRD, b"")
    with pytest.raises(DamagedError, match=f"{THIRD} is damaged at byte 0: it is shorter"):
        Journal.open(disk, newest_segment=3)
    disk.remove(THIRD)
    with pytest.raises(DamagedError, match=f"{THIRD} is damaged at byte 0: it is missing"):
        Journal.open(disk, newest_segment=3)
    assert disk.names() == [FIRST, SECOND]


def test_a_log_goes_on_after_a_cut(disk: SimulatedDisk) -> None:
    store(disk)
    replace(disk, FIRST, content(disk, FIRST)[:-1])
    journal = Journal.open(disk)
    journal.add(b"again", 3, 2)
    journal.flush()
    assert Journal.open(disk)[:] == [*ENTRIES[:2], (b"again", 3, 2)]


def test_a_short_record_before_the_last_segment_is_damage(disk: SimulatedDisk) -> None:
    store(disk, segment_bytes=1)
    whole = content(disk, SECOND)
    replace(disk, SECOND, whole[:-1])
    found = refusal(disk)
    assert (found.file, found.offset) == (f"disk/{SECOND}", segments.HEADER_BYTES)
    assert "ends within a record" in found.what


def test_whole_records_lost_before_the_last_segment_are_damage(disk: SimulatedDisk) -> None:
    store(disk, segment_bytes=1)
    replace(disk, SECOND, content(disk, SECOND)[: segments.HEADER_BYTES])
    found = refusal(disk)
    assert (found.file, found.offset) == (f"disk/{THIRD}", 0)
    assert "does not continue" in found.what


def test_a_missing_segment_is_damage(disk: SimulatedDisk) -> None:
    store(disk, segment_bytes=1)
    disk.remove(SECOND)
    found = refusal(disk)
    assert (found.file, found.offset) == (f"disk/{SECOND}", 0)
    assert "missing" in found.what


def test_no_segment_is_damage(disk: SimulatedDisk) -> None:
    assert refusal(disk).file == f"disk/{FIRST}"


def test_a_segment_under_another_name_is_damage(disk: SimulatedDisk) -> None:
    store(disk)
    disk.rename(FIRST, SECOND)
    assert "another one's name" in refusal(disk).what


def test_a_segment_that_was_only_begun_is_removed(disk: SimulatedDisk) -> None:
    store(disk, segment_bytes=1)
    whole = content(disk, THIRD)
    for size in range(segments.HEADER_BYTES):
        replace(disk, THIRD, whole[:size])
        journal = Journal.open(disk)
        assert journal[:] == ENTRIES[:2]
        assert disk.names() == [FIRST, SECOND]
        journal.close()


def test_a_short_record_before_a_segment_that_was_only_begun_is_damage(
    disk: SimulatedDisk,
) -> None:
    store(disk, segment_bytes=1)
    replace(disk, SECOND, content(disk, SECOND)[:-1])
    replace(disk, THIRD, b"")
    assert refusal(disk).file == f"disk/{SECOND}"


def test_the_only_segment_must_have_its_header(disk: SimulatedDisk) -> None:
    store(disk)
    replace(disk, FIRST, content(disk, FIRST)[: segments.HEADER_BYTES - 1])
    assert "shorter than its header" in refusal(disk).what


@pytest.mark.parametrize(("version", "whose"), [(2, "newer"), (0, "older")])
def test_another_releases_format_is_no_damage(
    disk: SimulatedDisk, version: int, whose: str
) -> None:
    _replace_header(disk, b"AKLOGSEG", version)
    with pytest.raises(FormatError) as caught:
        Journal.open(disk)
    assert str(caught.value).startswith(f"disk/{FIRST} was written by a")
    assert f" {whose} release (in format {version}; " in str(caught.value)


def test_another_kind_of_file_is_damage(disk: SimulatedDisk) -> None:
    _replace_header(disk, b"OTHERLOG", 1)
    assert "does not begin as a segment does" in refusal(disk).what


def _replace_header(disk: SimulatedDisk, magic: bytes, version: int) -> None:
    header = struct.pack("<8sIQI", magic, version, 1, 0)
    replace(disk, FIRST, header + struct.pack("<I", zlib.crc32(header)))


def test_an_intact_record_in_the_wrong_place_is_damage(disk: SimulatedDisk) -> None:
    store(disk)
    whole = content(disk, FIRST)
    second = segments.HEADER_BYTES + RECORD_BYTES + len(b"one")
    third = second + RECORD_BYTES
    first = whole[segments.HEADER_BYTES : second]
    for misplaced in (
        whole[: segments.HEADER_BYTES] + whole[second:],  # the first is lost
        whole[:second] + whole[third:],  # the second is lost
        whole[:second] + first + whole[second:],  # the first is there twice
    ):
        replace(disk, FIRST, misplaced)
        assert "header of a record" in refusal(disk).what


def test_a_gap_between_indexes_is_damage(disk: SimulatedDisk) -> None:
    file = segments.create(disk, 1, chain=0)
    entries = [(b"", 1, 0), (b"", 3, 0)]
    data, _ = segments.encode(entries, 0, begins_anew=False, begins_group=True)
    file.write(segments.HEADER_BYTES, data)
    assert refusal(disk).what == "entry 3 follows entry 1"


def test_other_files_are_left_alone(disk: SimulatedDisk) -> None:
    store(disk)
    for name in ("00000002.log.new", "2.log", "x00000002.log", "0000000a.log", "ballot"):
        disk.open(name, create=True).close()
    names = disk.names()
    assert Journal.open(disk)[:] == ENTRIES
    assert disk.names() == names


def test_what_was_read_is_durable() -> None:
    for seed in range(20):
        disk = SimulatedDisk(random.Random(seed))
        journal = Journal.create(disk)
        journal.add(*ENTRIES[0])
        _die_before(disk, "sync", journal)
        assert Journal.open(disk).durable_index == 1
        disk.power_cut()
        assert Journal.open(disk)[:] == ENTRIES[:1]


def _die_before(disk: SimulatedDisk, last: str, journal: Journal) -> None:
    def die(operation: str, name: str) -> None:
        if operation == last:
            raise DeadError

    disk.before = die
    with pytest.raises(DeadError):
        journal.flush()
    disk.before = None
    disk.kill()


def test_the_last_group_is_written_again_in_all_its_pieces(disk: SimulatedDisk) -> None:
    journal = Journal.create(disk)
    large = [(bytes([index]) * 2**20, index, 4) for index in range(1, 11)]
    for entry in large:
        journal.add(*entry)
    disk.fail_syncs = 1
    with pytest.raises(OSError, match=r"\[Errno 5\]"):
        journal.flush()
    disk.kill()
    assert Journal.open(disk).durable_index == 10
    disk.power_cut()
    assert Journal.open(disk)[:] == large


def test_without_syncs_all_since_the_last_sync_is_one_group(disk: SimulatedDisk) -> None:
    journal = Journal.create(disk, durability=Durability.OS)
    for entry in ENTRIES:
        journal.add(*entry)
        journal.flush()
    rewritten: list[tuple[int, int]] = []
    write = SimulatedFile.write

    def note(file: SimulatedFile, offset: int, data: bytes) -> None:
        rewritten.append((offset, len(data)))
        write(file, offset, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SimulatedFile, "write", note)
        assert Journal.open(disk)[:] == ENTRIES
    size = len(content(disk, FIRST))
    assert rewritten == [(segments.HEADER_BYTES, size - segments.HEADER_BYTES)]


def test_the_last_group_is_written_again(disk: SimulatedDisk) -> None:
    """After a failed sync the system shows what it will never store."""
    journal = Journal.create(disk)
    journal.add(*ENTRIES[0])
    journal.flush()
    journal.add(*ENTRIES[1])
    journal.add(*ENTRIES[2])
    disk.fail_syncs = 1
    with pytest.raises(OSError, match=r"\[Errno 5\]"):
        journal.flush()
    disk.kill()
    assert Journal.open(disk).durable_index == 3
    disk.power_cut()
    assert Journal.open(disk)[:] == ENTRIES
