"""What the log's files hold, and how damage to them is told from the trace of a crash."""

from __future__ import annotations

import logging
import random
import struct
import zlib

import pytest
from simulated_disk import SimulatedDisk

from agentkeeper.consensus import segments
from agentkeeper.consensus.disk import DamagedError
from agentkeeper.consensus.journal import Journal

FIRST, SECOND, THIRD = (segments.name_of(sequence) for sequence in (1, 2, 3))
RECORD_BYTES = segments.record_bytes((b"", 1, 1))
ENTRIES = [(b"one", 1, 0), (b"", 2, 1), (b"three", 3, 1)]


class DeadError(Exception):
    pass


@pytest.fixture
def disk() -> SimulatedDisk:
    return SimulatedDisk(random.Random(0), "disk")


def _store(disk: SimulatedDisk, *, segment_bytes: int = 2**20) -> None:
    journal = Journal.create(disk, segment_bytes=segment_bytes)
    for entry in ENTRIES:
        journal.add(*entry)
        journal.flush()
    journal.close()


def _content(disk: SimulatedDisk, name: str) -> bytes:
    file = disk.open(name)
    return file.read(0, file.size())


def _replace(disk: SimulatedDisk, name: str, content: bytes) -> None:
    file = disk.open(name, create=True)
    file.write(0, content)
    file.sync()
    disk.sync()


def _refusal(disk: SimulatedDisk) -> DamagedError:
    with pytest.raises(DamagedError) as caught:
        Journal.open(disk)
    assert str(caught.value).startswith(f"{caught.value.file} is damaged at byte ")
    return caught.value


def test_the_format_is_what_it_was(disk: SimulatedDisk) -> None:
    _store(disk)
    header = struct.pack("<8sIQI", b"AKLOGSEG", 1, 1, 0)
    expected = header + struct.pack("<I", zlib.crc32(header))
    chain = 0
    for command, index, term in ENTRIES:
        fields = struct.pack("<IQQB", len(command), index, term, 2)  # each began a group
        fields_crc = zlib.crc32(fields, chain)
        chain = zlib.crc32(command, fields_crc)
        expected += fields + struct.pack("<II", fields_crc, chain) + command
    assert _content(disk, FIRST) == expected


def test_every_flipped_bit_is_found(disk: SimulatedDisk) -> None:
    _store(disk)
    for offset in range(len(_content(disk, FIRST))):
        for bit in range(8):
            disk.flip_bit(FIRST, offset, bit)
            refusal = _refusal(disk)
            assert refusal.file == f"disk/{FIRST}"
            assert refusal.offset <= offset
            disk.flip_bit(FIRST, offset, bit)
    assert Journal.open(disk)[:] == ENTRIES


def test_a_file_that_ends_anywhere_gives_the_entries_before(
    disk: SimulatedDisk, caplog: pytest.LogCaptureFixture
) -> None:
    _store(disk)
    whole = _content(disk, FIRST)
    ends = [segments.HEADER_BYTES]
    for command, _, _ in ENTRIES:
        ends.append(ends[-1] + RECORD_BYTES + len(command))
    for size in range(segments.HEADER_BYTES, len(whole)):
        _replace(disk, FIRST, whole[:size])
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            journal = Journal.open(disk)
        kept = sum(end <= size for end in ends) - 1
        assert journal[:] == ENTRIES[:kept]
        assert journal.durable_index == kept
        assert _content(disk, FIRST) == whole[: ends[kept]]
        cut = f"disk/{FIRST} ended within a record, as a crash leaves it: cut from {size} bytes"
        assert caplog.messages == ([] if size in ends else [f"{cut} to {ends[kept]}"])
        journal.close()


def test_what_is_cut_stays_cut_at_a_power_cut(disk: SimulatedDisk) -> None:
    _store(disk)
    whole = _content(disk, FIRST)
    _replace(disk, FIRST, whole[:-1])
    Journal.open(disk)
    disk.power_cut()
    assert len(_content(disk, FIRST)) == len(whole) - RECORD_BYTES - len(b"three")


def test_a_log_goes_on_after_a_cut(disk: SimulatedDisk) -> None:
    _store(disk)
    _replace(disk, FIRST, _content(disk, FIRST)[:-1])
    journal = Journal.open(disk)
    journal.add(b"again", 3, 2)
    journal.flush()
    assert Journal.open(disk)[:] == [*ENTRIES[:2], (b"again", 3, 2)]


def test_a_short_record_before_the_last_segment_is_damage(disk: SimulatedDisk) -> None:
    _store(disk, segment_bytes=1)
    whole = _content(disk, SECOND)
    _replace(disk, SECOND, whole[:-1])
    refusal = _refusal(disk)
    assert (refusal.file, refusal.offset) == (f"disk/{SECOND}", segments.HEADER_BYTES)
    assert "ends within a record" in refusal.what


def test_whole_records_lost_before_the_last_segment_are_damage(disk: SimulatedDisk) -> None:
    _store(disk, segment_bytes=1)
    _replace(disk, SECOND, _content(disk, SECOND)[: segments.HEADER_BYTES])
    refusal = _refusal(disk)
    assert (refusal.file, refusal.offset) == (f"disk/{THIRD}", 0)
    assert "does not continue" in refusal.what


def test_a_missing_segment_is_damage(disk: SimulatedDisk) -> None:
    _store(disk, segment_bytes=1)
    disk.remove(SECOND)
    refusal = _refusal(disk)
    assert (refusal.file, refusal.offset) == (f"disk/{SECOND}", 0)
    assert "missing" in refusal.what


def test_no_segment_is_damage(disk: SimulatedDisk) -> None:
    assert _refusal(disk).file == f"disk/{FIRST}"


def test_a_segment_under_another_name_is_damage(disk: SimulatedDisk) -> None:
    _store(disk)
    disk.rename(FIRST, SECOND)
    assert "another one's name" in _refusal(disk).what


def test_a_segment_that_was_only_begun_is_removed(disk: SimulatedDisk) -> None:
    _store(disk, segment_bytes=1)
    whole = _content(disk, THIRD)
    for size in range(segments.HEADER_BYTES):
        _replace(disk, THIRD, whole[:size])
        journal = Journal.open(disk)
        assert journal[:] == ENTRIES[:2]
        assert disk.names() == [FIRST, SECOND]
        journal.close()


def test_a_short_record_before_a_segment_that_was_only_begun_is_damage(
    disk: SimulatedDisk,
) -> None:
    _store(disk, segment_bytes=1)
    _replace(disk, SECOND, _content(disk, SECOND)[:-1])
    _replace(disk, THIRD, b"")
    assert _refusal(disk).file == f"disk/{SECOND}"


def test_the_only_segment_must_have_its_header(disk: SimulatedDisk) -> None:
    _store(disk)
    _replace(disk, FIRST, _content(disk, FIRST)[: segments.HEADER_BYTES - 1])
    assert "shorter than its header" in _refusal(disk).what


@pytest.mark.parametrize(("magic", "version"), [(b"AKLOGSEG", 2), (b"OTHERLOG", 1)])
def test_another_format_is_named(disk: SimulatedDisk, magic: bytes, version: int) -> None:
    header = struct.pack("<8sIQI", magic, version, 1, 0)
    _replace(disk, FIRST, header + struct.pack("<I", zlib.crc32(header)))
    what = _refusal(disk).what
    assert "not known to this release" in what
    assert str(magic) in what
    assert f" {version} " in what


def test_an_intact_record_in_the_wrong_place_is_damage(disk: SimulatedDisk) -> None:
    _store(disk)
    whole = _content(disk, FIRST)
    second = segments.HEADER_BYTES + RECORD_BYTES + len(b"one")
    third = second + RECORD_BYTES
    first = whole[segments.HEADER_BYTES : second]
    for misplaced in (
        whole[: segments.HEADER_BYTES] + whole[second:],  # the first is lost
        whole[:second] + whole[third:],  # the second is lost
        whole[:second] + first + whole[second:],  # the first is there twice
    ):
        _replace(disk, FIRST, misplaced)
        assert "header of a record" in _refusal(disk).what


def test_a_gap_between_indexes_is_damage(disk: SimulatedDisk) -> None:
    file = segments.create(disk, 1, chain=0)
    entries = [(b"", 1, 0), (b"", 3, 0)]
    data, _ = segments.encode(entries, 0, begins_anew=False, begins_group=True)
    file.write(segments.HEADER_BYTES, data)
    assert _refusal(disk).what == "entry 3 follows entry 1"


def test_other_files_are_left_alone(disk: SimulatedDisk) -> None:
    _store(disk)
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
