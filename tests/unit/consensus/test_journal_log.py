"""The log as the engine uses it: what it holds in memory, on disk, and when."""

from __future__ import annotations

import random

import pytest
from journal_entries import add, entries, filled
from simulated_disk import SimulatedDisk

from agentkeeper.consensus.config import Durability
from agentkeeper.consensus.entries import NO_OP, Log
from agentkeeper.consensus.journal import SEGMENT_BYTES, Journal


@pytest.fixture
def disk() -> SimulatedDisk:
    return SimulatedDisk(random.Random(0), "disk")


@pytest.fixture(params=["on disk", "in memory"])
def log(request: pytest.FixtureRequest, disk: SimulatedDisk) -> Log:
    return Journal.create(disk) if request.param == "on disk" else Log()


def test_a_new_log_is_empty(log: Log) -> None:
    assert (len(log), log[:], log.durable_index, log.size_bytes) == (0, [], 0, 0)
    assert not log.has_unflushed
    log.flush()
    assert log.durable_index == 0


def test_entries_are_there_at_once_and_durable_after_a_flush(log: Log) -> None:
    added = entries(1, 3)
    add(log, added)
    assert (log[:], len(log), log[0], log[-1]) == (added, 3, added[0], added[2])
    assert (log.has_unflushed, log.durable_index) == (True, 0)
    assert log.size_bytes == sum(len(command) for command, _, _ in added)
    log.flush()
    assert (log.has_unflushed, log.durable_index) == (False, 3)


@pytest.mark.parametrize("index", [0, 2, 4])
def test_indexes_have_no_gaps(log: Log, index: int) -> None:
    add(log, entries(1, 2))
    with pytest.raises(ValueError, match=f"entry {index} cannot follow entry 2"):
        log.add(b"", index, 1)
    assert log[:] == entries(1, 2)


def test_what_others_replace_is_not_durable_any_more(log: Log) -> None:
    add(log, entries(1, 5))
    log.flush()
    log.deleteEntriesFrom(2)
    assert (log[:], log.durable_index) == (entries(1, 2), 2)
    assert log.size_bytes == sum(len(command) for command, _, _ in log[:])
    add(log, entries(3, 4, term=2))
    assert log.durable_index == 2
    log.flush()
    assert log.durable_index == 4
    log.deleteEntriesFrom(4)
    assert log.durable_index == 4


def test_dropping_what_is_not_stored_yet_leaves_the_rest_to_be_stored(log: Log) -> None:
    add(log, entries(1, 2))
    log.flush()
    add(log, entries(3, 5))
    log.deleteEntriesFrom(3)
    assert (log.has_unflushed, log.durable_index) == (True, 2)
    log.deleteEntriesFrom(2)
    assert (log.has_unflushed, log.durable_index) == (False, 2)


def test_dropping_more_than_what_is_not_stored_yet(log: Log) -> None:
    add(log, entries(1, 4))
    log.flush()
    add(log, entries(5, 9))
    log.deleteEntriesFrom(1)
    assert (log[:], log.has_unflushed, log.durable_index) == (entries(1, 1), False, 1)


def test_old_entries_can_be_dropped(log: Log) -> None:
    add(log, entries(1, 5))
    log.flush()
    log.deleteEntriesTo(3)
    assert (log[:], log.durable_index) == (entries(4, 5), 5)
    assert log.size_bytes == sum(len(command) for command, _, _ in log[:])
    log.add(b"", 6, 1)


def test_a_restart_leaves_only_the_point_where_the_snapshot_ends(log: Log) -> None:
    add(log, entries(1, 5))
    log.flush()
    add(log, entries(6, 7))
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
    journal = filled(disk, 3)
    disk.power_cut()
    reopened = Journal.open(disk)
    assert (reopened[:], reopened.durable_index) == (entries(1, 3), 3)
    assert reopened.size_bytes == journal.size_bytes
    assert not reopened.has_unflushed


def test_one_write_and_one_sync_for_a_group(disk: SimulatedDisk) -> None:
    journal = Journal.create(disk)
    add(journal, entries(1, 100))
    disk.counts.clear()
    journal.flush()
    assert disk.counts == {"write": 1, "sync": 1}
    journal.flush()
    assert disk.operations == 2


def test_a_large_backlog_is_written_in_pieces_and_synced_once(disk: SimulatedDisk) -> None:
    journal = Journal.create(disk)
    large = [(bytes([index]) * 2**20, index, 1) for index in range(1, 11)]
    add(journal, large)
    disk.counts.clear()
    journal.flush()
    assert disk.counts == {"write": 3, "sync": 1}
    assert Journal.open(disk)[:] == large


def test_the_operating_systems_durability_needs_no_sync(disk: SimulatedDisk) -> None:
    journal = Journal.create(disk, durability=Durability.OS)
    disk.counts.clear()
    add(journal, entries(1, 3))
    journal.flush()
    assert journal.durable_index == 3
    assert disk.syncs == 0
    disk.kill()
    assert Journal.open(disk)[:] == entries(1, 3)


def test_a_segment_is_synced_before_the_next_even_if_the_system_is_trusted(
    disk: SimulatedDisk,
) -> None:
    journal = Journal.create(disk, durability=Durability.OS, segment_bytes=100)
    add(journal, entries(1, 10))
    journal.flush()
    disk.power_cut()
    found = Journal.open(disk)[:]
    assert found == entries(1, 10)[: len(found)]
    assert len(disk.names()) > 2


def test_what_was_replaced_stays_replaced(disk: SimulatedDisk) -> None:
    journal = filled(disk, 5)
    journal.deleteEntriesFrom(2)
    add(journal, entries(3, 4, term=2))
    journal.flush()
    expected = entries(1, 2) + entries(3, 4, term=2)
    reopened = Journal.open(disk)
    assert (reopened[:], reopened.durable_index) == (expected, 4)
    reopened.add(b"", 5, 2)


def test_what_was_dropped_and_not_replaced_is_back(disk: SimulatedDisk) -> None:
    journal = filled(disk, 5)
    journal.deleteEntriesFrom(2)
    journal.flush()
    assert Journal.open(disk)[:] == entries(1, 5)


def test_a_restart_lasts(disk: SimulatedDisk) -> None:
    journal = filled(disk, 5)
    journal.restart(100, 4)
    disk.kill()
    journal = Journal.open(disk)
    assert journal[:] == entries(1, 5)
    journal.restart(100, 4)
    journal.flush()
    disk.power_cut()
    reopened = Journal.open(disk)
    assert (reopened[:], reopened.durable_index) == ([(NO_OP, 100, 4)], 100)


def test_the_log_goes_on_after_a_restart(disk: SimulatedDisk) -> None:
    journal = filled(disk, 5)
    journal.restart(100, 4)
    journal.flush()
    add(journal, entries(101, 101))
    journal.flush()
    add(journal, entries(102, 102))
    journal.flush()
    assert Journal.open(disk)[:] == [(NO_OP, 100, 4), *entries(101, 102)]


def test_a_restart_with_a_large_backlog_behind_it(disk: SimulatedDisk) -> None:
    journal = filled(disk, 5, segment_bytes=SEGMENT_BYTES)
    journal.restart(100, 4)
    large = [(bytes([index]) * 2**20, index, 4) for index in range(101, 111)]
    add(journal, large)
    journal.flush()
    assert Journal.open(disk)[:] == [(NO_OP, 100, 4), *large]


def test_a_restart_may_go_back(disk: SimulatedDisk) -> None:
    journal = filled(disk, 5)
    journal.restart(3, 2)
    add(journal, entries(4, 4, term=2))
    journal.flush()
    assert Journal.open(disk)[:] == [(NO_OP, 3, 2), *entries(4, 4, term=2)]


def test_the_point_of_a_restart_can_be_replaced_before_it_is_stored(disk: SimulatedDisk) -> None:
    journal = filled(disk, 5)
    journal.restart(100, 4)
    journal.deleteEntriesFrom(0)
    add(journal, entries(100, 101))
    journal.flush()
    assert Journal.open(disk)[:] == entries(100, 101)
