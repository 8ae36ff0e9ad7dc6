"""The log on disk: append-only segments, synced in groups.

An entry whose index is not past the last one replaces what was there from that index on, so a
conflict with the leader's log (Raft paper, section 5.3) needs no rewriting; neither does a
restart from a snapshot (section 7). Old entries go by whole segments.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

from agentkeeper.consensus import segments
from agentkeeper.consensus.config import Durability
from agentkeeper.consensus.disk import Disk, File
from agentkeeper.consensus.entries import Log
from agentkeeper.consensus.segments import Contents, Segment

SEGMENT_BYTES = 16 * 2**20
_PIECE_BYTES = 4 * 2**20
"""What is encoded and written at once, about, of a large backlog."""

_LACKING = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EMFILE: "this process has as many files open as it may",
    errno.ENFILE: "this machine has as many files open as it may",
}
_FULL = {errno.ENOSPC, errno.EDQUOT}


class JournalFullError(Exception):
    """There is no room on the disk, or no file can be opened; the message says which.

    Nothing is lost; the next flush tries again.
    """


class Journal(Log):
    """A log that is kept on disk.

    Changes take effect in memory at once, and on disk with the next `flush`. Entries that were
    dropped but not replaced are back when the log is opened again.
    """

    @classmethod
    def open(
        cls,
        disk: Disk,
        *,
        durability: Durability = Durability.FSYNC,
        segment_bytes: int = SEGMENT_BYTES,
        newest_segment: int = 1,
    ) -> Journal:
        """Read the log, which has a segment `newest_segment`; all that was read is durable then.

        A last record that ends with the file is the trace of a crash and is cut off, and so are
        zeros at its end where blocks were not written. Raises `DamagedError` for anything else
        that is not as it was written, `FormatError`, and `OSError`.
        """
        return cls(disk, segments.read(disk, newest_segment), durability, segment_bytes)

    @classmethod
    def create(
        cls,
        disk: Disk,
        *,
        durability: Durability = Durability.FSYNC,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> Journal:
        """Begin a log without entries, in a folder that has none; raises `OSError`."""
        first = Segment(1)
        file = segments.create(disk, first.sequence, chain=0)
        contents = Contents([], [first], file, segments.HEADER_BYTES, chain=0, last_index=0)
        return cls(disk, contents, durability, segment_bytes)

    def __init__(
        self, disk: Disk, contents: Contents, durability: Durability, segment_bytes: int
    ) -> None:
        super().__init__(contents.entries)
        self._disk = disk
        self._syncs = durability is Durability.FSYNC
        self._segment_bytes = max(segment_bytes, segments.HEADER_BYTES + 1)  # one record at least
        self._segments = contents.segments
        self._file: File = contents.file
        self._end = contents.end
        self._chain = contents.chain
        self._written_index = contents.last_index
        """Index of the last record in the files."""
        self._synced = True
        """Whether all that is in the files is durable."""
        self._broken = False
        self.on_new_segment: Callable[[int], None] = lambda number: None
        """Told a new segment's number, to store it durably, before anything is written there."""

    @property
    def newest_segment(self) -> int:
        """Number of the segment that is written to."""
        return self._segments[-1].sequence

    def flush(self) -> None:
        """Write what was added, and sync it unless `Durability.OS` is enough; all or a part.

        Raises `JournalFullError` if there is no room: what could not be written is kept for the
        next flush. After any other `OSError` what the disk holds is unknown, and the log unusable.
        """
        if self._broken:
            raise OSError(errno.EIO, "an earlier attempt to write the log failed")
        try:
            self._remove_a_segment()
            self._store()
        except JournalFullError:
            raise
        except BaseException:
            self._broken = True
            raise

    def close(self) -> None:
        """See `Log.close`."""
        self._file.close()

    def _store(self) -> None:
        written = 0
        while written < len(self._unflushed):
            if self._end >= self._segment_bytes:
                self._sync(written)
                written = 0
                self._begin_segment()
            written += self._write(written)
        if written and self._syncs:
            self._sync(written)
        else:
            self._settle(written)

    def _sync(self, written: int) -> None:
        began_s = self.observation.clock()
        self._file.sync()
        self.observation.synced(self.observation.clock() - began_s, written)
        self._synced = True
        self._settle(written)

    def _write(self, start: int) -> int:
        """Write a piece of what is unflushed, from position `start` on; give its length."""
        end = start
        size = 0
        room = min(_PIECE_BYTES, self._segment_bytes - self._end)
        while end < len(self._unflushed) and size < room:
            size += segments.record_bytes(self._unflushed[end])
            end += 1
        piece = self._unflushed[start:end]
        begins_anew = self._begins_anew and start == 0
        data, chain = segments.encode(
            piece, self._chain, begins_anew=begins_anew, begins_group=self._synced
        )
        self._synced = False
        try:
            self._file.write(self._end, data)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            # Synced, so that no remains are in the way of what is written here next.
            self._file.truncate(self._end)
            self._sync(start)
            raise self._full(error.errno) from error
        self._end += len(data)
        self._chain = chain
        first_index = piece[0][1]
        if begins_anew:
            segments.void_from(self._segments, 1)
        elif first_index <= self._written_index:
            segments.void_from(self._segments, first_index)
        self._written_index = piece[-1][1]
        return len(piece)

    def _begin_segment(self) -> None:
        """Go on in a new segment; the current one must have been synced."""
        segment = Segment(self._segments[-1].sequence + 1)
        try:
            file = segments.create(self._disk, segment.sequence, self._chain)
        except OSError as error:
            if error.errno not in _LACKING:
                raise
            raise self._full(error.errno) from error
        self._file.close()
        self._segments[-1].last_index = self._written_index
        self._segments.append(segment)
        self._file = file
        self._end = segments.HEADER_BYTES
        self.on_new_segment(segment.sequence)

    def _remove_a_segment(self) -> None:
        """Remove the oldest segment if nothing in it is needed any more.

        One at a time, since removing a file takes some milliseconds.
        """
        if len(self._segments) < 2 or not self._entries:
            return
        # What is kept must be stored already, or a crash would leave nothing.
        if self._segments[0].last_index < self._entries[0][1] <= self.durable_index:
            self._disk.remove(self._segments[0].name)
            del self._segments[0]

    def _full(self, reason: int) -> JournalFullError:
        return JournalFullError(f"{_LACKING[reason]}: {self._disk.describe('')}")
