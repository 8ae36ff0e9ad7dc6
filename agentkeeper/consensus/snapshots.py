"""Snapshots on disk and on their way between replicas.

A snapshot is one file: a header with index, term, length and checksum, then the daemon's bytes.
It is written by a thread of its own, so that a large one does not hold up heartbeats.
"""

from __future__ import annotations

import io
import logging
import os
import queue
import struct
import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from agentkeeper.consensus import limits
from agentkeeper.consensus.port import StartError

logger = logging.getLogger(__name__)

_MAGIC = b"AKSNAP\x00\x01"
_HEADER = struct.Struct("<8sQQQI")

FILE_NAME = "snapshot"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The listener's state after the entry at `index`, which is of `term`."""

    index: int
    term: int
    payload: bytes

    def header(self) -> bytes:
        """Encode what precedes the payload in the file."""
        crc = zlib.crc32(self.payload)
        return _HEADER.pack(_MAGIC, self.index, self.term, len(self.payload), crc)


class DamagedError(Exception):
    """The bytes are not a whole, intact snapshot."""


def decode(data: bytes | bytearray) -> Snapshot:
    """Read a snapshot's file; raises `DamagedError` unless every byte is as it was written."""
    if len(data) < _HEADER.size:
        raise DamagedError(f"it has only {len(data)} bytes")
    magic, index, term, length, crc = _HEADER.unpack_from(data)
    if magic != _MAGIC:
        raise DamagedError("it is not a snapshot of this version")
    if len(data) != _HEADER.size + length:
        raise DamagedError(f"it has {len(data) - _HEADER.size} bytes of state instead of {length}")
    payload = bytes(memoryview(data)[_HEADER.size :])
    if zlib.crc32(payload) != crc:
        raise DamagedError("its checksum does not match")
    return Snapshot(index, term, payload)


class Incoming:
    """A snapshot of which not all pieces have arrived yet."""

    def __init__(self, index: int) -> None:
        self.index = index
        self._data = bytearray()

    @property
    def size(self) -> int:
        """Bytes received so far."""
        return len(self._data)

    def add(self, offset: int, data: bytes) -> bool:
        """Append the piece at `offset`; False if it is not the next one, or too much."""
        if offset != len(self._data) or offset + len(data) > limits.MAX_SNAPSHOT_BYTES:
            return False
        self._data += data
        return True

    def decode(self) -> Snapshot:
        """Check and read the whole; raises `DamagedError`."""
        return decode(self._data)


class Outgoing:
    """A snapshot on its way to one follower, one piece at a time."""

    def __init__(self, file: BinaryIO) -> None:
        header = _HEADER.unpack(file.read(_HEADER.size))
        self.index: int = header[1]
        self._size = _HEADER.size + int(header[3])
        self._file = file
        self._offset = 0
        self._sent_to = 0
        self._sent_s: float | None = None

    def chunk(self, at_s: float, resend_after_s: float) -> dict[str, Any] | None:
        """Give the next piece, or None while one is on its way that may still arrive."""
        if self._sent_s is not None and at_s - self._sent_s < resend_after_s:
            return None
        self._file.seek(self._offset)
        data = self._file.read(limits.SNAPSHOT_CHUNK_BYTES)
        self._sent_s = at_s
        self._sent_to = self._offset + len(data)
        return {
            "index": self.index,
            "offset": self._offset,
            "data": data,
            "last": self._sent_to >= self._size,
        }

    def arrived(self, index: int, offset: int) -> bool:
        """Note how much the follower has; True if the next piece should go out."""
        if index != self.index or offset > self._sent_to or self._sent_s is None:
            return False
        self._offset = offset
        self._sent_s = None
        return True


class SnapshotStore:
    """Keeps the newest snapshot, in a file or in memory.

    `post` runs a function on the engine's thread; completions are told there. Until `run_thread`
    is called everything happens at once on the caller's thread, as simulations need it.
    """

    def __init__(self, folder: Path | None, post: Callable[[Callable[[], None]], None]) -> None:
        self.latest_index = 0
        self._path = None if folder is None else folder / FILE_NAME
        self._memory = b""
        self._post = post
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._run: Callable[[Callable[[], None]], None] = _run_at_once
        self._closed = False
        self.busy = False
        """Whether a snapshot of this replica's own is being written."""

    def load(self) -> Snapshot | None:
        """Read the stored snapshot, if there is one; raises `StartError` if it is damaged."""
        if self._path is None:
            return None
        self._temporary().unlink(missing_ok=True)
        try:
            snapshot = decode(self._path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, DamagedError) as error:
            raise StartError(
                f"the snapshot {self._path} cannot be read: {error}; restore the data folder from "
                "a backup, or remove the whole folder if the other replicas are intact"
            ) from error
        self.latest_index = snapshot.index
        return snapshot

    def open(self) -> Outgoing:
        """Open the newest snapshot for sending; later ones do not disturb it."""
        return Outgoing(io.BytesIO(self._memory) if self._path is None else self._path.open("rb"))

    def save(self, snapshot: Snapshot, done: Callable[[Snapshot | None], None]) -> None:
        """Store a snapshot, then tell `done`; None if that failed."""
        self.busy = True

        def saved(result: Snapshot | None) -> None:
            self.busy = False
            done(result)

        self._do(lambda: snapshot, saved)

    def receive(self, incoming: Incoming, done: Callable[[Snapshot | None], None]) -> None:
        """Check and store a snapshot from the leader, then tell `done`; None if that failed."""
        self._do(incoming.decode, done)

    def run_thread(self, name: str) -> None:
        """Write on a thread from now on."""
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()
        self._run = self._jobs.put

    def close(self) -> None:
        """Finish what has been asked for and stop the thread; completions are not told now."""
        self._closed = True
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()

    def _do(self, make: Callable[[], Snapshot], done: Callable[[Snapshot | None], None]) -> None:
        def job() -> None:
            snapshot = None
            try:
                snapshot = make()
                self._write(snapshot)
            except Exception as error:  # whoever waits for it must be told in any case
                snapshot = None
                logger.error("a snapshot could not be stored: %r", error)
            self._post(lambda: self._finish(snapshot, done))

        self._run(job)

    def _finish(self, snapshot: Snapshot | None, done: Callable[[Snapshot | None], None]) -> None:
        if self._closed:
            return
        if snapshot is not None:
            self.latest_index = max(self.latest_index, snapshot.index)
        done(snapshot)

    def _write(self, snapshot: Snapshot) -> None:
        if self._path is None:
            self._memory = snapshot.header() + snapshot.payload
            return
        if snapshot.index <= self._stored_index():
            return
        temporary = self._temporary()
        try:
            with temporary.open("wb") as file:
                file.write(snapshot.header())
                file.write(snapshot.payload)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path)
        except BaseException:
            temporary.unlink(missing_ok=True)  # a full disk needs the room
            raise
        fsync_folder(self._path.parent)

    def _temporary(self) -> Path:
        assert self._path is not None
        return self._path.with_suffix(".tmp")

    def _stored_index(self) -> int:
        assert self._path is not None
        try:
            with self._path.open("rb") as file:
                return int(_HEADER.unpack(file.read(_HEADER.size))[1])
        except (OSError, struct.error):
            return 0


def _run_at_once(job: Callable[[], None]) -> None:
    job()


def fsync_folder(folder: Path) -> None:
    """Make renames in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
