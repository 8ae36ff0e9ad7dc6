"""Entries to fill a log with."""

from __future__ import annotations

from simulated_disk import SimulatedDisk

from agentkeeper.consensus.entries import Entry, Log
from agentkeeper.consensus.journal import Journal


def entries(first: int, last: int, term: int = 1) -> list[Entry]:
    return [(b"entry %d of %d" % (index, term), index, term) for index in range(first, last + 1)]


def add(log: Log, added: list[Entry]) -> None:
    for entry in added:
        log.add(*entry)


def filled(disk: SimulatedDisk, count: int, *, segment_bytes: int = 2**20) -> Journal:
    """Make a log with `count` durable entries, each flushed by itself; five fit in 210 bytes."""
    journal = Journal.create(disk, segment_bytes=segment_bytes)
    for entry in entries(1, count):
        journal.add(*entry)
        journal.flush()
    return journal
