"""A snapshot's file: a header with index, term, length and checksum, then the daemon's bytes."""

from __future__ import annotations

import contextlib
import dataclasses
import struct
import zlib
from dataclasses import dataclass
from typing import Final

from agentkeeper.consensus import limits
from agentkeeper.consensus.disk import DamagedError, Disk, File, FormatError

FILE_NAME: Final = "snapshot"

_MAGIC: Final = b"AKSNAP"
_VERSION: Final = 2
_HEADER: Final = struct.Struct("<6sHQQQII")
_CRC: Final = struct.Struct("<I")
HEADER_BYTES: Final = _HEADER.size

_SYNC_BYTES: Final = 8 * 2**20
"""Synced at least as often as this: the log's small syncs would wait behind one large one."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The listener's state after the entry at `index`, which is of `term`."""

    index: int
    term: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Header:
    """What precedes the payload in the file: the last field there is a checksum over the others."""

    index: int
    term: int
    length: int
    """Of the payload, in bytes."""
    crc: int
    """CRC-32 of the payload."""

    @property
    def file_bytes(self) -> int:
        """Size of the whole file."""
        return HEADER_BYTES + self.length

    def encode(self) -> bytes:
        """Give its bytes."""
        data = _HEADER.pack(_MAGIC, _VERSION, *dataclasses.astuple(self), 0)[: -_CRC.size]
        return data + _CRC.pack(zlib.crc32(data))

    @classmethod
    def decode(cls, data: bytes, path: str) -> Header:
        """Read it from what the file at `path` begins with; `DamagedError`, `FormatError`."""
        if len(data) < HEADER_BYTES:
            raise DamagedError(path, len(data), "it ends there, inside its header")
        magic, version, *fields, crc = _HEADER.unpack_from(data)
        if magic != _MAGIC:
            raise DamagedError(path, 0, "it does not begin as a snapshot does")
        if zlib.crc32(data[: HEADER_BYTES - _CRC.size]) != crc:
            raise DamagedError(path, 0, "its header does not match its checksum")
        if version != _VERSION:
            raise FormatError(path, version, _VERSION)
        header = cls(*fields)
        if header.length > limits.MAX_SNAPSHOT_BYTES:
            raise DamagedError(path, 0, f"{header.length} bytes are more than it may have")
        return header


def read(file: File, path: str) -> Snapshot:
    """Read the snapshot at `path`.

    Raises `DamagedError` unless every byte is as it was written, and `FormatError`.
    """
    header = Header.decode(file.read(0, HEADER_BYTES), path)
    if file.size() != header.file_bytes:
        raise DamagedError(path, file.size(), f"it ends there and not at {header.file_bytes}")
    payload = file.read(HEADER_BYTES, header.length)
    if zlib.crc32(payload) != header.crc:
        raise DamagedError(path, HEADER_BYTES, "its state does not match its checksum")
    return Snapshot(header.index, header.term, payload)


def write(disk: Disk, snapshot: Snapshot) -> None:
    """Store a snapshot that is in memory; raises `OSError`."""
    payload = snapshot.payload
    header = Header(snapshot.index, snapshot.term, len(payload), zlib.crc32(payload))
    growing = Growing(disk, f"{FILE_NAME}.new")
    growing.append(header.encode())
    growing.append(payload)
    growing.put_in_place()


class Growing:
    """A snapshot's file under a temporary name."""

    def __init__(self, disk: Disk, name: str) -> None:
        """Begin an empty one; this and all below raise `OSError` as the disk does."""
        self._disk = disk
        self._name = name
        self.path = disk.describe(name)
        """The file's full path, for messages."""
        self.file = disk.open(name, create=True)
        self.size = 0
        self._synced = 0

    def append(self, data: bytes) -> None:
        """Write `data` at its end."""
        self.file.write(self.size, data)
        self.size += len(data)
        if self.size - self._synced >= _SYNC_BYTES:
            self.file.sync()
            self._synced = self.size

    def put_in_place(self) -> None:
        """Make it durable and the newest snapshot, both at once."""
        self.file.sync()
        self.file.close()
        self._disk.rename(self._name, FILE_NAME)
        self._disk.sync()

    def discard(self) -> None:
        """Remove it: a full disk needs the room."""
        with contextlib.suppress(OSError):
            self.file.close()
            self._disk.remove(self._name)
