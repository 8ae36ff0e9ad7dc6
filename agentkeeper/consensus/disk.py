"""The folder a replica keeps its files in, as the rest of the engine sees it.

Everything the engine stores goes through a `Disk`, so that simulations can put one in its place
that loses what was not synced, runs full, fails or flips bits.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol


class DamagedError(Exception):
    """Stored bytes are not what was written, in a way that no crash explains."""

    def __init__(self, file: str, offset: int, what: str) -> None:
        super().__init__(f"{file} is damaged at byte {offset}: {what}")
        self.file = file
        """The file's full path."""
        self.offset = offset
        """Where in the file the damage was found, in bytes."""
        self.what = what


class FormatError(Exception):
    """An intact file has a format that this release does not read."""

    def __init__(self, file: str, found: int, known: int) -> None:
        whose = "a newer" if found > known else "an older"
        super().__init__(
            f"{file} was written by {whose} release (in format {found}; this one reads format "
            f"{known}): use that release"
        )


class File(Protocol):
    """A file, read and written at given offsets. Every method raises `OSError` as the system does.

    Nothing written is durable before `sync` has returned; a `sync` that raised must not be tried
    again, since the system may have dropped what it could not write.
    """

    def size(self) -> int:
        """Its length in bytes."""

    def read(self, offset: int, length: int) -> bytes:
        """Give the bytes from `offset` on, fewer than `length` only where the file ends."""

    def write(self, offset: int, data: bytes) -> None:
        """Write all of `data` at `offset`; if that raises, any part of it may be there."""

    def truncate(self, size: int) -> None:
        """Cut it to `size` bytes."""

    def sync(self) -> None:
        """Make all that was written durable, with the size that it needs to be read back."""

    def close(self) -> None:
        """Close it; harmless when repeated."""


class Disk(Protocol):
    """A folder of files without subfolders. Every method raises `OSError` as the system does."""

    def names(self) -> list[str]:
        """Names of the files in it, sorted."""

    def open(self, name: str, *, create: bool = False) -> File:
        """Open a file for reading and writing; with `create` a new, empty one, replacing any."""

    def rename(self, old: str, new: str) -> None:
        """Give a file another name, replacing atomically the one that had it."""

    def remove(self, name: str) -> None:
        """Remove a file; one that is not there is no error."""

    def sync(self) -> None:
        """Make creations, renames and removals durable."""

    def describe(self, name: str) -> str:
        """The file's full path, for messages."""


class OsFile:
    """Implements `File`."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    def size(self) -> int:
        """See `File.size`."""
        return os.fstat(self._open()).st_size

    def read(self, offset: int, length: int) -> bytes:
        """See `File.read`."""
        pieces: list[bytes] = []
        while length > 0 and (piece := os.pread(self._open(), length, offset)):
            pieces.append(piece)
            offset += len(piece)
            length -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def write(self, offset: int, data: bytes) -> None:
        """See `File.write`."""
        rest = memoryview(data)
        while rest:
            written = os.pwrite(self._open(), rest, offset)
            offset += written
            rest = rest[written:]

    def truncate(self, size: int) -> None:
        """See `File.truncate`."""
        os.ftruncate(self._open(), size)

    def sync(self) -> None:
        """See `File.sync`."""
        os.fdatasync(self._open())

    def close(self) -> None:
        """See `File.close`."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> int:
        if self._descriptor is None:
            raise ValueError("the file is closed")
        return self._descriptor


class OsDisk:
    """Implements `Disk` on a folder of the file system, which must exist."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self) -> list[str]:
        """See `Disk.names`."""
        return sorted(entry.name for entry in self._folder.iterdir())

    def open(self, name: str, *, create: bool = False) -> OsFile:
        """See `Disk.open`."""
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT | os.O_TRUNC if create else 0)
        return OsFile(os.open(self._folder / name, flags, 0o600))

    def rename(self, old: str, new: str) -> None:
        """See `Disk.rename`."""
        (self._folder / old).replace(self._folder / new)

    def remove(self, name: str) -> None:
        """See `Disk.remove`."""
        (self._folder / name).unlink(missing_ok=True)

    def sync(self) -> None:
        """See `Disk.sync`."""
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def describe(self, name: str) -> str:
        """See `Disk.describe`."""
        return str(self._folder / name)
