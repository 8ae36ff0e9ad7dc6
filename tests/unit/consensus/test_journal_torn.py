"""Zeros at the end of the log, where a power cut has left blocks unwritten, and what is no such."""

from __future__ import annotations

import random

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
from simulated_disk import SimulatedDisk

from agentkeeper.consensus import segments
from agentkeeper.consensus.journal import Journal

BLOCK_BYTES = 512
LONG = [(b"a" * 700, 4, 1), (b"b" * 700, 5, 1)]


@pytest.fixture
def disk() -> SimulatedDisk:
    return SimulatedDisk(random.Random(0), "disk")


def _store_long(disk: SimulatedDisk) -> bytes:
    """Store a group of two records, the only ones that are longer than a block."""
    store(disk)
    journal = Journal.open(disk)
    for entry in LONG:
        journal.add(*entry)
    journal.flush()
    journal.close()
    return content(disk, FIRST)


def _ends(disk: SimulatedDisk) -> list[int]:
    ends = [segments.HEADER_BYTES]
    for entry in ENTRIES + LONG:
        ends.append(ends[-1] + segments.record_bytes(entry))
    return ends


def test_zeros_behind_the_last_record_are_cut_off(disk: SimulatedDisk) -> None:
    whole = _store_long(disk)
    for count, end in enumerate(_ends(disk)):
        for zeros in (1, RECORD_BYTES - 1, RECORD_BYTES, 100, 5000):
            replace(disk, FIRST, whole[:end] + bytes(zeros))
            journal = Journal.open(disk)
            assert journal[:] == (ENTRIES + LONG)[:count]
            assert content(disk, FIRST) == whole[:end]
            journal.add(b"next", count + 1, 7)
            journal.flush()
            assert Journal.open(disk)[-1] == (b"next", count + 1, 7)


def test_a_record_that_lacks_its_last_blocks_is_cut_off(disk: SimulatedDisk) -> None:
    whole = _store_long(disk)
    ends = _ends(disk)
    for block in range(ends[3] // BLOCK_BYTES + 1, len(whole) // BLOCK_BYTES + 1):
        at = block * BLOCK_BYTES
        replace(disk, FIRST, whole[:at] + bytes(len(whole) - at))
        kept = sum(end <= at for end in ends) - 1
        assert Journal.open(disk)[:] == (ENTRIES + LONG)[:kept]
        assert content(disk, FIRST) == whole[: ends[kept]]


def test_a_header_that_lacks_its_last_block_is_cut_off(disk: SimulatedDisk) -> None:
    for at in range(BLOCK_BYTES - RECORD_BYTES + 2, BLOCK_BYTES):
        disk.wipe()
        journal = Journal.create(disk)
        first = (b"x" * (at - segments.HEADER_BYTES - RECORD_BYTES), 1, 1)
        journal.add(*first)
        journal.flush()
        journal.add(b"y", 2, 1)
        journal.flush()
        whole = content(disk, FIRST)
        replace(disk, FIRST, whole[:BLOCK_BYTES] + bytes(len(whole) - BLOCK_BYTES))
        assert Journal.open(disk)[:] == [first]


def test_zeros_that_begin_within_a_block_are_damage(disk: SimulatedDisk) -> None:
    whole = _store_long(disk)
    start = _ends(disk)[4]
    last_block = len(whole) // BLOCK_BYTES * BLOCK_BYTES
    for at in range(last_block + 1, len(whole)):
        replace(disk, FIRST, whole[:at] + bytes(len(whole) - at))
        assert refusal(disk).offset == start


def test_zeros_before_the_end_are_damage(disk: SimulatedDisk) -> None:
    whole = _store_long(disk)
    at = 2 * BLOCK_BYTES
    replace(disk, FIRST, whole[:at] + bytes(BLOCK_BYTES // 2) + whole[at + BLOCK_BYTES // 2 :])
    assert refusal(disk).offset < at


def test_a_damaged_record_before_zeros_is_damage(disk: SimulatedDisk) -> None:
    whole = _store_long(disk)
    for offset in range(segments.HEADER_BYTES, len(whole)):
        replace(disk, FIRST, whole + bytes(700))
        disk.flip_bit(FIRST, offset, offset % 8)
        assert refusal(disk).offset <= offset


def test_a_command_of_zeros_is_not_taken_for_a_block_that_was_not_written(
    disk: SimulatedDisk,
) -> None:
    journal = Journal.create(disk)
    journal.add(bytes(3000), 1, 1)
    journal.flush()
    assert Journal.open(disk)[:] == [(bytes(3000), 1, 1)]
    for offset in range(segments.HEADER_BYTES, len(content(disk, FIRST)), 7):
        disk.flip_bit(FIRST, offset, 0)
        assert refusal(disk).offset == segments.HEADER_BYTES
        disk.flip_bit(FIRST, offset, 0)


@pytest.mark.parametrize("zeros", [1, RECORD_BYTES, 1000])
def test_zeros_before_the_last_segment_are_damage(disk: SimulatedDisk, zeros: int) -> None:
    store(disk, segment_bytes=1)
    size = len(content(disk, SECOND))
    replace(disk, SECOND, content(disk, SECOND) + bytes(zeros))
    found = refusal(disk)
    assert (found.file, found.offset) == (f"disk/{SECOND}", size)


def test_a_segment_of_which_only_the_size_is_there_was_only_begun(disk: SimulatedDisk) -> None:
    store(disk, segment_bytes=1)
    replace(disk, THIRD, bytes(segments.HEADER_BYTES))
    assert Journal.open(disk)[:] == ENTRIES[:2]
    replace(disk, THIRD, bytes(segments.HEADER_BYTES + 1))
    assert "header does not match" in refusal(disk).what
