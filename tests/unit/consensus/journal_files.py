"""What the tests of the log's files do with them."""

from __future__ import annotations

import pytest
from simulated_disk import SimulatedDisk

from agentkeeper.consensus import segments
from agentkeeper.consensus.disk import DamagedError
from agentkeeper.consensus.journal import Journal

FIRST, SECOND, THIRD = (segments.name_of(sequence) for sequence in (1, 2, 3))
RECORD_BYTES = segments.record_bytes((b"", 1, 1))
ENTRIES = [(b"one", 1, 0), (b"", 2, 1), (b"three", 3, 1)]


def store(disk: SimulatedDisk, *, segment_bytes: int = 2**20) -> None:
    journal = Journal.create(disk, segment_bytes=segment_bytes)
    for entry in ENTRIES:
        journal.add(*entry)
        journal.flush()
    journal.close()


def content(disk: SimulatedDisk, name: str) -> bytes:
    file = disk.open(name)
    return file.read(0, file.size())


def replace(disk: SimulatedDisk, name: str, content: bytes) -> None:
    file = disk.open(name, create=True)
    file.write(0, content)
    file.sync()
    disk.sync()


def refusal(disk: SimulatedDisk) -> DamagedError:
    with pytest.raises(DamagedError) as caught:
        Journal.open(disk)
    assert str(caught.value).startswith(f"{caught.value.file} is damaged at byte ")
    return caught.value
