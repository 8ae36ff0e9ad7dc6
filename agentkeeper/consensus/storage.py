"""A replica's data folder: who owns it, and the log in it."""

from __future__ import annotations

import fcntl
import json
import os
import struct
from pathlib import Path
from typing import Any, TextIO

from pysyncobj import pickle as library_pickle
from pysyncobj.journal import (
    FIRST_RECORD_OFFSET,
    LAST_RECORD_OFFSET_OFFSET,
    FileJournal,
    ResizableFile,
)

from agentkeeper.consensus import snapshots
from agentkeeper.consensus.config import RaftConfig
from agentkeeper.consensus.port import StartError
from agentkeeper.consensus.snapshots import fsync_folder

_LOG = "log"
_LOCK = "lock"
_IDENTITY = "identity.json"


class DataFolder:
    """The folder, held by one process at a time and bound to one replica of one cluster."""

    def __init__(self, config: RaftConfig) -> None:
        """Lock the folder and check that it is this replica's; raises `StartError` if not."""
        assert config.data_dir is not None
        self._path = config.data_dir
        try:
            self._path.mkdir(parents=True, exist_ok=True)
            self._lock = self._hold()
        except OSError as error:
            raise StartError(f"the data folder {self._path} cannot be used: {error}") from error
        try:
            self._check_identity(config)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Release the folder."""
        self._lock.close()

    def open_log(self) -> Any:
        """Open the log; raises `StartError` if it cannot be read."""
        path = self._path / _LOG
        meta = path.with_name(_LOG + ".meta")
        try:
            if meta.exists():
                library_pickle.loads(meta.read_bytes())
            elif self._is_just_created(path):
                path.unlink()
            journal = TrimmableJournal(str(path))
        except Exception as error:
            raise self._unreadable(str(error)) from error
        try:
            _check(journal, has_meta=meta.exists())
        except ValueError as error:
            journal._destroy()
            raise self._unreadable(str(error)) from error
        return journal

    def _unreadable(self, reason: str) -> StartError:
        return StartError(
            f"the log {self._path / _LOG} cannot be read: {reason}; restore the data folder from a "
            "backup, or remove the whole folder if the other replicas are intact"
        )

    def _is_just_created(self, log: Path) -> bool:
        # The library creates the file and then writes its header; it may have died in between.
        empty = log.exists() and log.stat().st_size == 0
        return empty and not (self._path / snapshots.FILE_NAME).exists()

    def _hold(self) -> TextIO:
        lock = (self._path / _LOCK).open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.close()
            raise StartError(
                f"the data folder {self._path} is in use by another process; "
                "stop that one first, or give this one a folder of its own"
            ) from error
        return lock

    def _check_identity(self, config: RaftConfig) -> None:
        path = self._path / _IDENTITY
        own = {"node_id": config.node_id, "members": config.member_ids}
        try:
            stored = json.loads(path.read_text())
        except FileNotFoundError:
            self._store_identity(path, own)
            return
        except (OSError, ValueError) as error:
            raise StartError(f"{path} cannot be read: {error}") from error
        if stored != own:
            raise StartError(
                f"the data folder {self._path} belongs to {_describe(stored)}, "
                f"but this is {_describe(own)}; "
                "start it with the settings it was made with, or use another folder"
            )

    def _store_identity(self, path: Path, identity: dict[str, Any]) -> None:
        if (self._path / _LOG).exists():
            raise StartError(f"the data folder {self._path} has a log but no {_IDENTITY}")
        try:
            temporary = path.with_suffix(".tmp")
            with temporary.open("w") as file:
                json.dump(identity, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            fsync_folder(self._path)
        except OSError as error:
            raise StartError(f"the data folder {self._path} cannot be written: {error}") from error


def _describe(identity: Any) -> str:
    try:
        return f"replica {identity['node_id']!r} of a cluster of {', '.join(identity['members'])}"
    except (KeyError, TypeError):
        return "nobody known"


def _check(journal: TrimmableJournal, *, has_meta: bool) -> None:
    previous = None
    for _, index, term in journal[:]:
        if previous is not None and index != previous + 1:
            raise ValueError(f"entry {index} follows entry {previous}")
        if term > 0 and not has_meta:
            # A replica that forgets its vote could vote twice in one term (paper, 5.2).
            raise ValueError("the term and vote that belong to it are missing")
        previous = index


_RECORD_OVERHEAD = struct.calcsize("<IQQI")


class TrimmableJournal(FileJournal):  # type: ignore[misc]
    """The library's journal, except that dropping old entries survives a crash half-way.

    The library empties the file and writes the rest back in place; a process killed in between
    would have lost entries it has already vouched for.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._FileJournal__journalFile: ResizableFile
        self._FileJournal__currentOffset: int
        super().__init__(path)

    def deleteEntriesTo(self, entryTo: int) -> None:  # noqa: N802, N803
        """Drop the first `entryTo` entries."""
        keep = self[entryTo:]
        kept_bytes = sum(_RECORD_OVERHEAD + len(command) for command, _, _ in keep)
        end = FIRST_RECORD_OFFSET + kept_bytes
        old: ResizableFile = self._FileJournal__journalFile
        rewritten = self._path.with_name(_LOG + ".new")
        with rewritten.open("wb") as file:
            file.write(old.read(0, LAST_RECORD_OFFSET_OFFSET) + struct.pack("<I", end))
            file.write(old.read(self._FileJournal__currentOffset - kept_bytes, kept_bytes))
            file.flush()
            os.fsync(file.fileno())
        # Opened before the old one goes: whatever fails up to here leaves the log as it was.
        new = ResizableFile(str(rewritten))
        try:
            rewritten.replace(self._path)
        except OSError:
            new._destroy()
            raise
        new._ResizableFile__fileName = str(self._path)
        self._FileJournal__journalFile = new
        self._FileJournal__journal = keep
        self._FileJournal__currentOffset = end
        # Not `_destroy`: that would first write all of the old file to the disk.
        old._ResizableFile__mm.close()
        old._ResizableFile__f.close()
