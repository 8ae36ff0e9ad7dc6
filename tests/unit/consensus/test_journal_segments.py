"""The log's files: how they follow each other, when they go, and what a disk's troubles do."""

from __future__ import annotations

import errno
import random

import pytest
from journal_entries import add, entries, filled
from simulated_disk import SimulatedDisk

from agentkeeper.consensus import segments
from agentkeeper.consensus.entries import NO_OP
from agentkeeper.consensus.journal import Journal, JournalFullError

FIRST = segments.name_of(1)


@pytest.fixture
def disk() -> SimulatedDisk:
    return SimulatedDisk(random.Random(0), "disk")


def test_segments_follow_each_other(disk: SimulatedDisk) -> None:
    journal = filled(disk, 20, segment_bytes=210)
    assert disk.names() == [segments.name_of(number) for number in range(1, 5)]
    sizes = [disk.open(name).size() for name in disk.names()]
    assert all(210 <= size < 250 for size in sizes[:-1])
    journal.close()
    reopened = Journal.open(disk, segment_bytes=210)
    assert reopened[:] == entries(1, 20)
    add(reopened, entries(21, 30))
    reopened.flush()
    assert Journal.open(disk)[:] == entries(1, 30)


def test_a_new_segment_is_durable_before_anything_is_in_it(disk: SimulatedDisk) -> None:
    journal = filled(disk, 5, segment_bytes=210)
    seen: list[tuple[str, str]] = []
    disk.before = lambda operation, name: seen.append((operation, name))
    journal.add(*entries(6, 6)[0])
    journal.flush()
    second = segments.name_of(2)
    assert seen == [
        ("sync", FIRST),
        ("create", second),
        ("write", second),
        ("sync", second),
        ("sync_folder", ""),
        ("write", second),
        ("sync", second),
    ]


def test_old_segments_go_one_at_a_flush(disk: SimulatedDisk) -> None:
    journal = filled(disk, 20, segment_bytes=210)
    journal.deleteEntriesTo(10)  # the third segment begins with entry 11
    assert len(disk.names()) == 4
    journal.flush()
    assert disk.names()[0] == segments.name_of(2)
    journal.flush()
    journal.flush()
    assert disk.names()[0] == segments.name_of(3)
    reopened = Journal.open(disk)
    assert reopened[:] == entries(11, 20)
    assert reopened.durable_index == 20


def test_old_segments_also_go_after_the_log_was_opened_again(disk: SimulatedDisk) -> None:
    filled(disk, 20, segment_bytes=210).close()
    journal = Journal.open(disk)
    journal.deleteEntriesTo(19)
    for _ in range(9):
        journal.flush()
    assert disk.names() == [segments.name_of(4)]
    assert Journal.open(disk)[:] == entries(16, 20)


def test_a_segment_whose_entries_were_replaced_can_go(disk: SimulatedDisk) -> None:
    journal = filled(disk, 6, segment_bytes=210)
    journal.deleteEntriesFrom(2)
    add(journal, entries(3, 7, term=2))
    journal.flush()
    journal.deleteEntriesTo(2)
    for _ in range(3):
        journal.flush()
    assert disk.names()[0] == segments.name_of(2)
    reopened = Journal.open(disk)
    assert reopened[:] == entries(3, 7, term=2)


def test_that_they_were_replaced_is_known_after_the_log_was_opened_again(
    disk: SimulatedDisk,
) -> None:
    journal = filled(disk, 6, segment_bytes=210)
    journal.deleteEntriesFrom(2)
    add(journal, entries(3, 4, term=2))
    journal.flush()
    journal = Journal.open(disk)
    journal.deleteEntriesTo(2)
    journal.flush()
    assert disk.names() == [segments.name_of(2)]


@pytest.mark.parametrize("again", [False, True])
def test_all_segments_before_a_restart_that_goes_back_can_go(
    disk: SimulatedDisk, again: bool
) -> None:
    journal = filled(disk, 19, segment_bytes=210)
    journal.restart(3, 2)
    journal.flush()
    if again:
        journal = Journal.open(disk)
    for _ in range(9):
        journal.flush()
    assert disk.names() == [segments.name_of(4)]


def test_replacing_below_what_the_first_segment_began_with(disk: SimulatedDisk) -> None:
    journal = filled(disk, 9, segment_bytes=210)
    journal.deleteEntriesFrom(3)
    add(journal, entries(4, 6, term=2))
    journal.flush()
    journal.deleteEntriesTo(3)
    journal.flush()
    assert disk.names()[0] == segments.name_of(2)  # holds entries 6 to 9, then 4 to 6
    assert Journal.open(disk)[:] == entries(4, 6, term=2)


def test_nothing_goes_before_what_is_kept_is_durable(disk: SimulatedDisk) -> None:
    journal = filled(disk, 19, segment_bytes=210)
    names = disk.names()
    journal.restart(100, 4)
    disk.capacity_bytes = disk.used_bytes
    with pytest.raises(JournalFullError):
        journal.flush()
    assert disk.names() == names
    disk.capacity_bytes = None
    for _ in range(9):
        journal.flush()
    assert disk.names() == names[-1:]
    assert Journal.open(disk)[:] == [(NO_OP, 100, 4)]


@pytest.mark.parametrize("room_bytes", [0, 1, 40, 100])
def test_a_full_disk_loses_nothing(disk: SimulatedDisk, room_bytes: int) -> None:
    journal = filled(disk, 3)
    size = disk.used_bytes
    add(journal, entries(4, 9))
    disk.capacity_bytes = size + room_bytes
    for _ in range(3):
        with pytest.raises(JournalFullError, match="the disk is full: disk/"):
            journal.flush()
        assert (journal.durable_index, journal.has_unflushed) == (3, True)
        assert disk.used_bytes == size
    journal.add(*entries(10, 10)[0])
    disk.capacity_bytes = None
    journal.flush()
    assert (journal.durable_index, journal.has_unflushed) == (10, False)
    disk.power_cut()
    assert Journal.open(disk)[:] == entries(1, 10)


@pytest.mark.parametrize("room_bytes", range(0, 200, 7))
def test_a_disk_that_fills_up_between_segments_loses_nothing(
    disk: SimulatedDisk, room_bytes: int
) -> None:
    journal = filled(disk, 3, segment_bytes=210)
    add(journal, entries(4, 9))
    disk.capacity_bytes = disk.used_bytes + room_bytes
    with pytest.raises(JournalFullError):
        journal.flush()
    durable = journal.durable_index
    assert 3 <= durable < 9
    disk.power_cut()
    disk.capacity_bytes = None
    reopened = Journal.open(disk, segment_bytes=210)
    assert reopened[:] == entries(1, durable)


@pytest.mark.parametrize("operation", ["create", "sync_folder"])
@pytest.mark.parametrize(
    ("lacking", "said"),
    [(errno.EMFILE, "this process has as many files"), (errno.ENFILE, "this machine has as many")],
)
def test_a_segment_that_cannot_be_opened_is_tried_again(
    disk: SimulatedDisk, operation: str, lacking: int, said: str
) -> None:
    journal = filled(disk, 5, segment_bytes=210)
    journal.add(*entries(6, 6)[0])

    def fail(asked: str, name: str) -> None:
        if asked == operation:
            raise OSError(lacking, "too many open files")

    for _ in range(2):
        disk.before = fail
        with pytest.raises(JournalFullError, match=said):
            journal.flush()
        disk.before = None
    assert (journal.durable_index, journal.has_unflushed) == (5, True)
    journal.flush()
    disk.power_cut()
    assert Journal.open(disk)[:] == entries(1, 6)


def test_a_new_segment_is_told_of_before_anything_is_in_it(disk: SimulatedDisk) -> None:
    journal = filled(disk, 5, segment_bytes=210)
    sizes: list[tuple[int, int]] = []
    journal.on_new_segment = lambda number: sizes.append(
        (number, disk.open(segments.name_of(number)).size())
    )
    journal.add(*entries(6, 6)[0])
    journal.flush()
    assert sizes == [(2, segments.HEADER_BYTES)]
    assert journal.newest_segment == 2


def test_entries_kept_on_a_full_disk_can_still_be_replaced(disk: SimulatedDisk) -> None:
    journal = filled(disk, 3)
    add(journal, entries(4, 5))
    disk.capacity_bytes = disk.used_bytes
    with pytest.raises(JournalFullError):
        journal.flush()
    journal.deleteEntriesFrom(3)
    add(journal, entries(4, 4, term=2))
    disk.capacity_bytes = None
    journal.flush()
    assert Journal.open(disk)[:] == entries(1, 3) + entries(4, 4, term=2)


def test_trimming_frees_room_on_a_full_disk(disk: SimulatedDisk) -> None:
    journal = filled(disk, 8, segment_bytes=210)
    journal.deleteEntriesTo(6)
    disk.capacity_bytes = disk.used_bytes
    add(journal, entries(9, 9))
    journal.flush()
    assert journal.durable_index == 9


def test_after_a_failed_sync_nothing_is_tried_again(disk: SimulatedDisk) -> None:
    journal = filled(disk, 3)
    add(journal, entries(4, 5))
    disk.fail_syncs = 1
    with pytest.raises(OSError, match=r"\[Errno 5\]") as failure:
        journal.flush()
    assert failure.value.errno == errno.EIO
    operations = disk.operations
    with pytest.raises(OSError, match="an earlier attempt"):
        journal.flush()
    assert disk.operations == operations
    assert journal.durable_index == 3


def test_a_disk_without_room_at_a_sync_has_failed(disk: SimulatedDisk) -> None:
    journal = filled(disk, 3)
    add(journal, entries(4, 5))

    def no_room(operation: str, name: str) -> None:
        if operation == "sync":
            raise OSError(errno.ENOSPC, "no room")

    disk.before = no_room
    with pytest.raises(OSError, match="no room") as failure:
        journal.flush()
    assert not isinstance(failure.value, JournalFullError)
    with pytest.raises(OSError, match="an earlier attempt"):
        journal.flush()


def test_a_log_that_cannot_be_read_is_not_opened(disk: SimulatedDisk) -> None:
    filled(disk, 3).close()
    disk.fail_syncs = 1
    with pytest.raises(OSError, match=r"\[Errno 5\]"):
        Journal.open(disk)


def test_a_closed_log_takes_no_flush(disk: SimulatedDisk) -> None:
    journal = filled(disk, 3)
    journal.close()
    journal.close()
    journal.add(*entries(4, 4)[0])
    with pytest.raises(ValueError, match="closed"):
        journal.flush()
