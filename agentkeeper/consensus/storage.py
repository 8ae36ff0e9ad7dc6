"""A replica's data folder: whose it is, and what is stored in it.

Files: `lock` (held while the replica runs), `identity.json` (whose folder it is; written last when
a folder is made), `ballot`, `00000001.log` and so on, and `snapshot`. All belong together: with a
file of them lost, a replica would have forgotten what it vouched for, so it refuses to start. What
it cannot notice is a folder that is older as a whole (from a backup), and a newest segment that
was cut where a record ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from agentkeeper.consensus import segments, snapshot_file
from agentkeeper.consensus.ballot import Ballot
from agentkeeper.consensus.config import RaftConfig
from agentkeeper.consensus.disk import DamagedError, Disk, FormatError, OsDisk
from agentkeeper.consensus.entries import Log
from agentkeeper.consensus.journal import Journal
from agentkeeper.consensus.port import StartError
from agentkeeper.consensus.recovery import refusing_to_start
from agentkeeper.consensus.snapshot_file import Snapshot

_LOCK = "lock"
_IDENTITY = "identity.json"
_NEW_IDENTITY = "identity.json.new"
_FORMAT = 1
_FORMER_LOG = "log"
_OF_OTHERS = ("lost+found", "model", "search")
"""What a new file system has in it, and the folders of search, which say nothing of the log."""
_UNFINISHED_MODEL = ".model-"
"""How the names begin of what an installation of a model leaves that was killed."""


class DataFolder:
    """A folder of the file system, held by one process at a time."""

    def __init__(self, path: Path) -> None:
        """Make the folder if there is none, and lock it; raises `StartError`."""
        try:
            _make_folder(path)
            self._lock = _hold(path)
        except OSError as error:
            raise StartError(f"the data folder {path} cannot be used: {error}") from error
        self.disk: Disk = OsDisk(path)
        """The files in it."""

    def used(self) -> str:
        """Name of something that is in the folder; empty if nothing is."""
        return min(self._contents(), default="")

    def clear(self) -> None:
        """Remove all files from it; raises `OSError`."""
        for name in self._contents():
            self.disk.remove(name)
        self.disk.sync()

    def _contents(self) -> list[str]:
        return [
            name
            for name in self.disk.names()
            if name not in (_LOCK, *_OF_OTHERS) and not name.startswith(_UNFINISHED_MODEL)
        ]

    def close(self) -> None:
        """Release the folder."""
        self._lock.close()


def _make_folder(path: Path) -> None:
    """Make a folder and those above it, durably."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        OsDisk(folder.parent).sync()


def _hold(path: Path) -> TextIO:
    lock = (path / _LOCK).open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise StartError(
            f"the data folder {path} is in use by another process; "
            "stop that one first, or give this one a folder of its own"
        ) from error
    except BaseException:
        lock.close()
        raise
    return lock


@dataclass(frozen=True, slots=True)
class Storage:
    """What a replica has stored, opened."""

    journal: Log
    ballot: Ballot
    incarnation: str
    """Drawn when the folder was made: tells this replica from one with the same id that came
    empty, before or after it."""
    is_new: bool
    """Whether the folder has just been made."""

    @classmethod
    def in_memory(cls, config: RaftConfig, draw_incarnation: Callable[[], str]) -> Storage:
        """Make one that keeps everything in memory, thus is new every time."""
        ballot = Ballot.in_memory(voter=not config.other_ids)
        return cls(Log(), ballot, draw_incarnation(), is_new=True)

    def close(self) -> None:
        """Close the files; harmless when repeated."""
        self.journal.close()
        self.ballot.close()


@dataclass(frozen=True, slots=True)
class _Identity:
    node_id: str
    members: list[str]
    incarnation: str


def open_storage(disk: Disk, config: RaftConfig, draw_incarnation: Callable[[], str]) -> Storage:
    """Open this replica's folder, or make it if it was never used.

    Raises `StartError`, which says what to do, if it is not this replica's, or not whole and
    intact.
    """
    with refusing_to_start(disk.describe("")):
        _check_format(disk)
        identity = _read_identity(disk)
        if identity is None:
            _check_unused(disk)
            return make_storage(disk, config, draw_incarnation())
        _check_owner(disk, identity, config)
        return _open(disk, config, identity.incarnation)


def _open(disk: Disk, config: RaftConfig, incarnation: str) -> Storage:
    with contextlib.ExitStack() as opened:
        ballot = Ballot.open(disk)
        opened.callback(ballot.close)
        journal = Journal.open(disk, durability=config.durability, newest_segment=ballot.segment)
        opened.callback(journal.close)
        _note_segments(journal, ballot)
        opened.pop_all()
    return Storage(journal, ballot, incarnation, is_new=False)


def make_storage(
    disk: Disk, config: RaftConfig, incarnation: str, snapshot: Snapshot | None = None
) -> Storage:
    """Make what an empty folder needs; the log begins after `snapshot`, if there is one.

    Raises `OSError`, and `JournalFullError`.
    """
    with contextlib.ExitStack() as opened:
        # Alone it is a majority of itself. With others it may have a cluster to join.
        ballot = Ballot.create(disk, voter=not config.other_ids)
        opened.callback(ballot.close)
        journal = Journal.create(disk, durability=config.durability)
        opened.callback(journal.close)
        _note_segments(journal, ballot)
        if snapshot is not None:
            ballot.store(term=snapshot.term)
            journal.restart(snapshot.index, snapshot.term)
            journal.flush()
            snapshot_file.write(disk, snapshot)
        _store_identity(disk, _Identity(config.node_id, config.member_ids, incarnation))
        opened.pop_all()
    return Storage(journal, ballot, incarnation, is_new=True)


def _note_segments(journal: Journal, ballot: Ballot) -> None:
    def note(number: int) -> None:
        ballot.store(segment=number)

    note(journal.newest_segment)
    journal.on_new_segment = note


def _check_format(disk: Disk) -> None:
    if _FORMER_LOG in disk.names():
        raise StartError(
            f"{disk.describe(_FORMER_LOG)} is the log of an older release, which this one cannot "
            "read; begin a new cluster with empty data folders"
        )


def _check_unused(disk: Disk) -> None:
    used = snapshot_file.FILE_NAME in disk.names()
    for segment in segments.stored(disk):
        file = disk.open(segment.name)
        used = used or file.size() > segments.HEADER_BYTES
        file.close()
    with contextlib.suppress(DamagedError):  # its making may have been cut short
        ballot = Ballot.open(disk)
        used = used or ballot.term > 0 or bool(ballot.founders)
        ballot.close()
    if used:
        raise DamagedError(disk.describe(_IDENTITY), 0, "it is missing from a folder in use")


def _check_owner(disk: Disk, stored: _Identity, config: RaftConfig) -> None:
    own = _Identity(config.node_id, config.member_ids, stored.incarnation)
    if stored != own:
        raise StartError(
            f"the data folder {disk.describe('')} belongs to {_describe(stored)}, "
            f"but this is {_describe(own)}; "
            "start it with the settings it was made with, or use another folder"
        )


def _describe(identity: _Identity) -> str:
    return f"replica {identity.node_id!r} of a cluster of {', '.join(identity.members)}"


def _store_identity(disk: Disk, identity: _Identity) -> None:
    content = {"format": _FORMAT, **asdict(identity)}
    file = disk.open(_NEW_IDENTITY, create=True)
    try:
        file.write(0, json.dumps(content | {"checksum": _checksum(content)}).encode())
        file.sync()
    finally:
        file.close()
    disk.rename(_NEW_IDENTITY, _IDENTITY)
    disk.sync()


def _read_identity(disk: Disk) -> _Identity | None:
    """Read whose folder it is; None if nothing says so."""
    path = disk.describe(_IDENTITY)
    try:
        file = disk.open(_IDENTITY)
    except FileNotFoundError:
        return None
    try:
        content = json.loads(file.read(0, file.size()))
        checksum = content.pop("checksum")
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise DamagedError(path, 0, f"it cannot be read ({error!r})") from error
    finally:
        file.close()
    if checksum != _checksum(content):
        raise DamagedError(path, 0, "it does not match its checksum")
    if (version := content.pop("format")) != _FORMAT:
        raise FormatError(path, version, _FORMAT)
    return _Identity(**content)


def _checksum(content: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())
