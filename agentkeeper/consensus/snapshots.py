"""Snapshots on disk and on their way between replicas.

A snapshot's file grows piece by piece under a temporary name and gets its own once all of it is
durable, so a crash leaves the former one or the new one. A thread of its own writes: however large
a snapshot or slow the disk, that holds up no heartbeat. What is sent is read on the engine's
thread, one piece at a time; a disk that is slow to read, with the piece not in memory, holds it up.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import weakref
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from agentkeeper.consensus import limits
from agentkeeper.consensus.disk import DamagedError, Disk, File
from agentkeeper.consensus.memory_disk import MemoryDisk
from agentkeeper.consensus.messages import SnapshotChunk
from agentkeeper.consensus.observation import Observation
from agentkeeper.consensus.recovery import refusing_to_start
from agentkeeper.consensus.snapshot_file import (
    FILE_NAME,
    HEADER_BYTES,
    Growing,
    Header,
    Snapshot,
    read,
)

logger = logging.getLogger(__name__)

T = TypeVar("T")

_SAVED: Final = "snapshot.saved"
_RECEIVED: Final = "snapshot.received"


@dataclass(slots=True)
class _Incoming:
    """A snapshot of which not all pieces have arrived yet."""

    header: Header
    growing: Growing


class Outgoing:
    """A snapshot on its way to one follower, one piece at a time."""

    def __init__(self, file: File, path: str) -> None:
        """Take over the file at `path`, closed with the last reference to this; `DamagedError`."""
        weakref.finalize(self, file.close)
        header = Header.decode(file.read(0, HEADER_BYTES), path)
        self.index = header.index
        self._size = header.file_bytes
        self._file = file
        self._offset = 0
        self._sent_s: float | None = None

    def chunk(self, at_s: float, resend_after_s: float) -> dict[str, Any] | None:
        """Give the next piece, or None while one is on its way that may still arrive."""
        if self._sent_s is not None and at_s - self._sent_s < resend_after_s:
            return None
        data = self._file.read(self._offset, limits.SNAPSHOT_CHUNK_BYTES)
        self._sent_s = at_s
        return {"index": self.index, "offset": self._offset, "data": data}

    def arrived(self, index: int, offset: int) -> bool:
        """Note how much the follower has; True if the piece from there on should go out.

        It may have much more than was sent now, from a transfer that was cut short. What it says
        again is no reason to send a piece again, or each would travel twice from then on.
        """
        if index != self.index or offset == self._offset or offset >= self._size:
            return False
        self._offset = offset
        self._sent_s = None
        return True


class SnapshotStore:
    """Keeps the newest snapshot on `disk`, in memory where that is None.

    `post` runs a function on the engine's thread; completions are told there. Until `run_thread`
    is called everything happens at once on the caller's thread, as simulations need it.
    """

    def __init__(self, disk: Disk | None, post: Callable[[Callable[[], None]], None]) -> None:
        self.latest_index = 0
        """Index of the newest snapshot that is known to be stored."""
        self.busy = False
        """Whether a snapshot of this replica's own is being written."""
        self.observation = Observation()
        """Told of every snapshot."""
        self._disk: Disk = MemoryDisk() if disk is None else disk
        self._post = post
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._run: Callable[[Callable[[], None]], None] = _run_at_once
        self._closed = False
        # Owned by the thread:
        self._stored_index = 0
        self._incoming: _Incoming | None = None

    def load(self) -> Snapshot | None:
        """Read the stored snapshot, if there is one, and remove what a crash has left of others.

        Raises `StartError` if it is damaged.
        """
        with refusing_to_start(self._disk.describe("")):
            for name in (_SAVED, _RECEIVED):
                self._disk.remove(name)
            if FILE_NAME not in self._disk.names():
                return None
            with contextlib.closing(self._disk.open(FILE_NAME)) as file:
                snapshot = read(file, self._disk.describe(FILE_NAME))
        self.latest_index = self._stored_index = snapshot.index
        self.observation.snapshot_stored(snapshot.index, len(snapshot.payload))
        return snapshot

    def open(self) -> Outgoing:
        """Open the newest snapshot for sending; later ones do not disturb it.

        Raises `OSError`, or `DamagedError` if it cannot be a snapshot.
        """
        return Outgoing(self._disk.open(FILE_NAME), self._disk.describe(FILE_NAME))

    def save(
        self, index: int, term: int, pieces: Iterable[bytes], done: Callable[[bool], None]
    ) -> None:
        """Store the state at `index` (of `term`), then tell `done` whether that succeeded.

        The pieces are taken one by one on the thread, each written before the next is taken.
        """
        self.busy = True
        began_s = self.observation.clock()

        def write() -> int:
            return self._write(index, term, pieces) if index > self._stored_index else 0

        def written(size_bytes: int | None) -> None:
            self.busy = False
            if size_bytes is None:
                self.observation.snapshots_failed += 1
            else:
                self.latest_index = max(self.latest_index, index)
            if size_bytes:
                self.observation.snapshot_stored(index, size_bytes)
                self.observation.snapshot_save_s.add(self.observation.clock() - began_s)
            done(size_bytes is not None)

        self._do(write, written)

    def receive(self, chunk: SnapshotChunk, done: Callable[[int | Snapshot | None], None]) -> None:
        """Store a piece of a snapshot, then tell `done` from which offset on more is lacking.

        Instead of an offset it is told the snapshot once that is whole, checked and stored; and
        None if that or storing the piece failed: the transfer then has to begin anew. One that
        begins anew with the same header goes on where it was.
        """

        def written(result: int | Snapshot | None) -> None:
            if isinstance(result, Snapshot):
                self.latest_index = max(self.latest_index, result.index)
                self.observation.snapshots_received += 1
                self.observation.snapshot_stored(result.index, len(result.payload))
            self.observation.snapshots_failed += result is None
            done(result)

        self._do(lambda: self._take(chunk), written)

    def forget_incoming(self) -> None:
        """Remove what has arrived of a snapshot that is not needed any more."""
        self._run(self._discard_incoming)

    def run_thread(self, name: str) -> None:
        """Work on a thread from now on."""
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()
        self._run = self._jobs.put

    def close(self) -> None:
        """Break off what is under way and stop the thread; completions are not told now."""
        self._closed = True
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None
        if self._incoming is not None:
            self._incoming.growing.file.close()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()

    def _do(self, make: Callable[[], T], done: Callable[[T | None], None]) -> None:
        def job() -> None:
            result = None
            try:
                result = make()
            except Exception as error:  # whoever waits for it must be told in any case
                logger.error("a snapshot could not be stored: %r", error)
            self._post(lambda: None if self._closed else done(result))

        self._run(job)

    # --- on the thread ---------------------------------------------------------------------------
    def _write(self, index: int, term: int, pieces: Iterable[bytes]) -> int:
        growing = Growing(self._disk, _SAVED)
        try:
            growing.append(bytes(HEADER_BYTES))
            crc = 0
            for piece in pieces:
                if self._closed:
                    raise InterruptedError("the replica stops")
                growing.append(piece)
                crc = zlib.crc32(piece, crc)
            header = Header(index, term, growing.size - HEADER_BYTES, crc)
            Header.decode(header.encode(), growing.path)  # nothing is stored that cannot be read
            growing.file.write(0, header.encode())
            growing.put_in_place()
        except BaseException:
            growing.discard()
            raise
        self._stored_index = index
        return header.length

    def _take(self, chunk: SnapshotChunk) -> int | Snapshot:
        try:
            if chunk.offset == 0:
                self._begin(chunk)
            incoming = self._incoming
            if incoming is None or incoming.header.index != chunk.index:
                return 0
            growing = incoming.growing
            if chunk.offset != growing.size:
                return growing.size
            growing.append(chunk.data)
            if growing.size < incoming.header.file_bytes:
                return growing.size
            snapshot = read(growing.file, growing.path)
            if snapshot.index > self._stored_index:
                growing.put_in_place()
                self._stored_index = snapshot.index
                self._incoming = None
            else:
                self._discard_incoming()
        except BaseException:
            self._discard_incoming()
            raise
        return snapshot

    def _begin(self, chunk: SnapshotChunk) -> None:
        path = self._disk.describe(_RECEIVED)
        header = Header.decode(chunk.data, path)
        if header.index != chunk.index:
            raise DamagedError(path, 0, f"it is of entry {header.index} and not of {chunk.index}")
        if self._incoming is None or self._incoming.header != header:
            self._discard_incoming()
            self._incoming = _Incoming(header, Growing(self._disk, _RECEIVED))

    def _discard_incoming(self) -> None:
        incoming, self._incoming = self._incoming, None
        if incoming is not None:
            incoming.growing.discard()


def _run_at_once(job: Callable[[], None]) -> None:
    job()
