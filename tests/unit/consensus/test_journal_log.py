"""The log as the engine uses it: what it holds in memory, on disk, and when."""

from __future__ import annotations

import errno
import random

import pytest
from simulated_disk import SimulatedDisk

from agentkeeper.consensus import segments
from agentkeeper.consensus.config import Durability
from agentkeeper.consensus.entries import NO_OP, Entry, Log
from agentkeeper.consensus.journal import Journal, JournalFullError

FIRST = segments.name_of(1)


@pytest.fixture
def disk() -> SimulatedDisk:
    return SimulatedDisk(random.Random(0), "disk")


def _entries(first: int, last: int, term: int = 1) -> list[Entry]:
    return [(b"entry %d of %d" % (index, term), index, term) for index in range(first, last + 1)]


def _add(log: Log, entries: list[Entry]) -> None:
    for entry in entries:
        log.add(*entry)


def _filled(disk: SimulatedDisk, count: int, *, segment_bytes: int = 2**20) -> Journal:
    """Make a log with `count` durable entries, each flushed by itself; five fit in 200 bytes."""
    journal = Journal.create(disk, segment_bytes=segment_bytes)
    for entry in _entries(1, count):
        journal.add(*entry)
        journal.flush()
    return journal


@pytest.fixture(params=["on disk", "in memory"])
def log(request: pytest.FixtureRequest, disk: SimulatedDisk) -> Log:
    return Journal.create(disk) if request.param == "on disk" else Log()


def test_a_new_log_is_empty(log: Log) -> None:
    assert (len(log), log[:], log.durable_index, log.size_bytes) == (0, [], 0, 0)
    assert not log.has_unflushed
    log.flush()
    assert log.durable_index == 0


def test_entries_are_there_at_once_and_durable_after_a_flush(log: Log) -> None:
    entries = _entries(1, 3)
    _add(log, entries)
    assert (log[:], len(log), log[0], log[-1]) == (entries, 3, entries[0], entries[2])
    assert (log.has_unflushed, log.durable_index) == (True, 0)
    assert log.size_bytes == sum(len(command) for command, _, _ in entries)
    log.flush()
    assert (log.has_unflushed, log.durable_index) == (False, 3)


@pytest.mark.parametrize("index", [0, 2, 4])
def test_indexes_have_no_gaps(log: Log, index: int) -> None:
    _add(log, _entries(1, 2))
    with pytest.raises(ValueError, match=f"entry {index} cannot follow entry 2"):
        log.add(b"", index, 1)
    assert log[:] == _entries(1, 2)


def test_what_others_replace_is_not_durable_any_more(log: Log) -> None:
    _add(log, _entries(1, 5))
    log.flush()
    log.deleteEntriesFrom(2)
    assert (log[:], log.durable_index) == (_entries(1, 2), 2)
    assert log.size_bytes == sum(len(command) for command, _, _ in log[:])
    _add(log, _entries(3, 4, term=2))
    assert log.durable_index == 2
    log.flush()
    assert log.durable_index == 4
    log.deleteEntriesFrom(4)
    assert log.durable_index == 4


def test_dropping_what_is_not_stored_yet_leaves_the_rest_to_be_stored(log: Log) -> None:
    _add(log, _entries(1, 2))
    log.flush()
    _add(log, _entries(3, 5))
    log.deleteEntriesFrom(3)
    assert (log.has_unflushed, log.durable_index) == (True, 2)
    log.deleteEntriesFrom(2)
    assert (log.has_unflushed, log.durable_index) == (False, 2)


def test_old_entries_can_be_dropped(log: Log) -> None:
    _add(log, _entries(1, 5))
    log.flush()
    log.deleteEntriesTo(3)
    assert (log[:], log.durable_index) == (_entries(4, 5), 5)
    assert log.size_bytes == sum(len(command) for command, _, _ in log[:])
    log.add(b"", 6, 1)


def test_a_restart_leaves_only_the_point_where_the_snapshot_ends(log: Log) -> None:
    _add(log, _entries(1, 5))
    log.flush()
    _add(log, _entries(6, 7))
    log.restart(100, 4)
    assert (log[:], log.durable_index, log.size_bytes) == ([(NO_OP, 100, 4)], 0, 1)
    log.add(b"next", 101, 4)
    log.flush()
    assert log.durable_index == 101


def test_the_library_may_tell_what_need_not_be_stored(log: Log) -> None:
    log.setRaftCommitIndex(7)
    log.onOneSecondTimer()
    assert len(log) == 0


def test_all_that_was_flushed_survives_a_power_cut(disk: SimulatedDisk) -> None:
    journal = _filled(disk, 3)
    disk.power_cut()
    reopened = Journal.open(disk)
    assert (reopened[:], reopened.durable_index) == (_entries(1, 3), 3)
    assert reopened.size_bytes == journal.size_bytes
    assert not reopened.has_unflushed


def test_one_write_and_one_sync_for_a_group(disk: SimulatedDisk) -> None:
    journal = Journal.create(disk)
    _add(journal, _entries(1, 100))
    disk.counts.clear()
    journal.flush()
    assert disk.counts == {"write": 1, "sync": 1}
    journal.flush()
    assert disk.operations == 2


def test_a_large_backlog_is_written_in_pieces_and_synced_once(disk: SimulatedDisk) -> None:
    journal = Journal.create(disk)
    large = [(bytes([index]) * 2**20, index, 1) for index in range(1, 11)]
    _add(journal, large)
    disk.counts.clear()
    journal.flush()
    assert disk.counts == {"write": 3, "sync": 1}
    assert Journal.open(disk)[:] == large


def test_the_operating_systems_durability_needs_no_sync(disk: SimulatedDisk) -> None:
    journal = Journal.create(disk, durability=Durability.OS)
    disk.counts.clear()
    _add(journal, _entries(1, 3))
    journal.flush()
    assert journal.durable_index == 3
    assert disk.syncs == 0
    disk.kill()
    assert Journal.open(disk)[:] == _entries(1, 3)


def test_a_segment_is_synced_before_the_next_even_if_the_system_is_trusted(
    disk: SimulatedDisk,
) -> None:
    journal = Journal.create(disk, durability=Durability.OS, segment_bytes=100)
    _add(journal, _entries(1, 10))
    journal.flush()
    disk.power_cut()
    found = Journal.open(disk)[:]
    assert found == _entries(1, 10)[: len(found)]
    assert len(disk.names()) > 2


def test_what_was_replaced_stays_replaced(disk: SimulatedDisk) -> None:
    journal = _filled(disk, 5)
    journal.deleteEntriesFrom(2)
    _add(journal, _entries(3, 4, term=2))
    journal.flush()
    expected = _entries(1, 2) + _entries(3, 4, term=2)
    reopened = Journal.open(disk)
    assert (reopened[:], reopened.durable_index) == (expected, 4)
    reopened.add(b"", 5, 2)


def test_what_was_dropped_and_not_replaced_is_back(disk: SimulatedDisk) -> None:
    journal = _filled(disk, 5)
    journal.deleteEntriesFrom(2)
    journal.flush()
    assert Journal.open(disk)[:] == _entries(1, 5)


def test_a_restart_lasts(disk: SimulatedDisk) -> None:
    journal = _filled(disk, 5)
    journal.restart(100, 4)
    disk.kill()
    journal = Journal.open(disk)
    assert journal[:] == _entries(1, 5)
    journal.restart(100, 4)
    journal.flush()
    disk.power_cut()
    reopened = Journal.open(disk)
    assert (reopened[:], reopened.durable_index) == ([(NO_OP, 100, 4)], 100)


def test_the_log_goes_on_after_a_restart(disk: SimulatedDisk) -> None:
    journal = _filled(disk, 5)
    journal.restart(100, 4)
    journal.flush()
    _add(journal, _entries(101, 101))
    journal.flush()
    _add(journal, _entries(102, 102))
    journal.flush()
    assert Journal.open(disk)[:] == [(NO_OP, 100, 4), *_entries(101, 102)]


def test_a_restart_with_a_large_backlog_behind_it(disk: SimulatedDisk) -> None:
    journal = _filled(disk, 5)
    journal.restart(100, 4)
    large = [(bytes([index]) * 2**20, index, 4) for index in range(101, 111)]
    _add(journal, large)
    journal.flush()
    assert Journal.open(disk)[:] == [(NO_OP, 100, 4), *large]


def test_a_restart_may_go_back(disk: SimulatedDisk) -> None:
    journal = _filled(disk, 5)
    journal.restart(3, 2)
    _add(journal, _entries(4, 4, term=2))
    journal.flush()
    assert Journal.open(disk)[:] == [(NO_OP, 3, 2), *_entries(4, 4, term=2)]


def test_the_point_of_a_restart_can_be_replaced_before_it_is_stored(disk: SimulatedDisk) -> None:
    journal = _filled(disk, 5)
    journal.restart(100, 4)
    journal.deleteEntriesFrom(0)
    _add(journal, _entries(100, 101))
    journal.flush()
    assert Journal.open(disk)[:] == _entries(100, 101)


def test_segments_follow_each_other(disk: SimulatedDisk) -> None:
    journal = _filled(disk, 20, segment_bytes=200)
    assert disk.names() == [segments.name_of(number) for number in range(1, 5)]
    sizes = [disk.open(name).size() for name in disk.names()]
    assert all(200 <= size < 250 for size in sizes[:-1])
    journal.close()
    reopened = Journal.open(disk, segment_bytes=200)
    assert reopened[:] == _entries(1, 20)
    _add(reopened, _entries(21, 30))
    reopened.flush()
    assert Journal.open(disk)[:] == _entries(1, 30)


def test_a_new_segment_is_durable_before_anything_is_in_it(disk: SimulatedDisk) -> None:
    journal = _filled(disk, 5, segment_bytes=200)
    seen: list[tuple[str, str]] = []
    disk.before = lambda operation, name: seen.append((operation, name))
    journal.add(*_entries(6, 6)[0])
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
    journal = _filled(disk, 20, segment_bytes=200)
    journal.deleteEntriesTo(10)  # the third segment begins with entry 11
    assert len(disk.names()) == 4
    journal.flush()
    assert disk.names()[0] == segments.name_of(2)
    journal.flush()
    journal.flush()
    assert disk.names()[0] == segments.name_of(3)
    reopened = Journal.open(disk)
    assert reopened[:] == _entries(11, 20)
    assert reopened.durable_index == 20


def test_old_segments_also_go_after_the_log_was_opened_again(disk: SimulatedDisk) -> None:
    _filled(disk, 20, segment_bytes=200).close()
    journal = Journal.open(disk)
    journal.deleteEntriesTo(19)
    for _ in range(9):
        journal.flush()
    assert disk.names() == [segments.name_of(4)]
    assert Journal.open(disk)[:] == _entries(16, 20)


def test_a_segment_whose_entries_were_replaced_can_go(disk: SimulatedDisk) -> None:
    journal = _filled(disk, 6, segment_bytes=200)
    journal.deleteEntriesFrom(2)
    _add(journal, _entries(3, 7, term=2))
    journal.flush()
    journal.deleteEntriesTo(2)
    for _ in range(3):
        journal.flush()
    assert disk.names()[0] == segments.name_of(2)
    reopened = Journal.open(disk)
    assert reopened[:] == _entries(3, 7, term=2)


def test_that_they_were_replaced_is_known_after_the_log_was_opened_again(
    disk: SimulatedDisk,
) -> None:
    journal = _filled(disk, 6, segment_bytes=200)
    journal.deleteEntriesFrom(2)
    _add(journal, _entries(3, 4, term=2))
    journal.flush()
    journal = Journal.open(disk)
    journal.deleteEntriesTo(2)
    journal.flush()
    assert disk.names() == [segments.name_of(2)]


@pytest.mark.parametrize("again", [False, True])
def test_all_segments_before_a_restart_that_goes_back_can_go(
    disk: SimulatedDisk, again: bool
) -> None:
    journal = _filled(disk, 19, segment_bytes=200)
    journal.restart(3, 2)
    journal.flush()
    if again:
        journal = Journal.open(disk)
    for _ in range(9):
        journal.flush()
    assert disk.names() == [segments.name_of(4)]


def test_replacing_below_what_the_first_segment_began_with(disk: SimulatedDisk) -> None:
    journal = _filled(disk, 6, segment_bytes=200)
    journal.deleteEntriesFrom(3)
    _add(journal, _entries(4, 6, term=2))
    journal.flush()
    journal.deleteEntriesTo(3)
    journal.flush()
    assert disk.names()[0] == segments.name_of(2)  # begins with entry 6, then 4 to 6
    assert Journal.open(disk)[:] == _entries(4, 6, term=2)


def test_nothing_goes_before_what_is_kept_is_durable(disk: SimulatedDisk) -> None:
    journal = _filled(disk, 19, segment_bytes=200)
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
    journal = _filled(disk, 3)
    size = disk.used_bytes
    _add(journal, _entries(4, 9))
    disk.capacity_bytes = size + room_bytes
    for _ in range(3):
        with pytest.raises(JournalFullError, match="no room on the disk for disk/"):
            journal.flush()
        assert (journal.durable_index, journal.has_unflushed) == (3, True)
        assert disk.used_bytes == size
    journal.add(*_entries(10, 10)[0])
    disk.capacity_bytes = None
    journal.flush()
    assert (journal.durable_index, journal.has_unflushed) == (10, False)
    disk.power_cut()
    assert Journal.open(disk)[:] == _entries(1, 10)


@pytest.mark.parametrize("room_bytes", range(0, 200, 7))
def test_a_disk_that_fills_up_between_segments_loses_nothing(
    disk: SimulatedDisk, room_bytes: int
) -> None:
    journal = _filled(disk, 3, segment_bytes=200)
    _add(journal, _entries(4, 9))
    disk.capacity_bytes = disk.used_bytes + room_bytes
    with pytest.raises(JournalFullError):
        journal.flush()
    durable = journal.durable_index
    assert 3 <= durable < 9
    disk.power_cut()
    disk.capacity_bytes = None
    reopened = Journal.open(disk, segment_bytes=200)
    assert reopened[:] == _entries(1, durable)


def test_entries_kept_on_a_full_disk_can_still_be_replaced(disk: SimulatedDisk) -> None:
    journal = _filled(disk, 3)
    _add(journal, _entries(4, 5))
    disk.capacity_bytes = disk.used_bytes
    with pytest.raises(JournalFullError):
        journal.flush()
    journal.deleteEntriesFrom(3)
    _add(journal, _entries(4, 4, term=2))
    disk.capacity_bytes = None
    journal.flush()
    assert Journal.open(disk)[:] == _entries(1, 3) + _entries(4, 4, term=2)


def test_trimming_frees_room_on_a_full_disk(disk: SimulatedDisk) -> None:
    journal = _filled(disk, 8, segment_bytes=200)
    journal.deleteEntriesTo(6)
    disk.capacity_bytes = disk.used_bytes
    _add(journal, _entries(9, 9))
    journal.flush()
    assert journal.durable_index == 9


def test_after_a_failed_sync_nothing_is_tried_again(disk: SimulatedDisk) -> None:
    journal = _filled(disk, 3)
    _add(journal, _entries(4, 5))
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
    journal = _filled(disk, 3)
    _add(journal, _entries(4, 5))

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
    _filled(disk, 3).close()
    disk.fail_syncs = 1
    with pytest.raises(OSError, match=r"\[Errno 5\]"):
        Journal.open(disk)


def test_a_closed_log_takes_no_flush(disk: SimulatedDisk) -> None:
    journal = _filled(disk, 3)
    journal.close()
    journal.close()
    journal.add(*_entries(4, 4)[0])
    with pytest.raises(ValueError, match="closed"):
        journal.flush()
