"""A snapshot on its way to a file: nothing is at its path before it is whole, checked and durable.

Blocks, so it is used on threads where that does no harm.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import BinaryIO

MAGIC = b"AKSNAP"  # two digits for the version of the layout follow
CHECKSUM_BYTES = 16


class DamagedSnapshotError(Exception):
    """What has arrived is not a whole snapshot."""


class SnapshotFile:
    """Takes a snapshot piece by piece, in a file of its own beside `path`.

    `begin`, `write` its pieces, `keep` it; `drop` in any case.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._file: BinaryIO | None = None
        self._part = ""
        self._checksum = hashlib.blake2b(digest_size=CHECKSUM_BYTES)
        self._head = b""
        self._tail = b""
        """The last bytes: the checksum of all before them, if these are all."""
        self._size_bytes = 0

    def begin(self) -> None:
        """Make the file, readable by its owner only: tasks may hold secrets. Raises OSError."""
        descriptor, self._part = tempfile.mkstemp(
            dir=self._path.parent, prefix=f"{self._path.name}.", suffix=".part"
        )
        self._file = os.fdopen(descriptor, "wb")

    def write(self, data: bytes) -> None:
        """Add a piece. Raises OSError."""
        assert self._file is not None, "begin() comes first"
        self._file.write(data)
        self._size_bytes += len(data)
        self._head = (self._head + data[: len(MAGIC)])[: len(MAGIC)]
        seen = self._tail + data
        self._checksum.update(seen[:-CHECKSUM_BYTES])
        self._tail = seen[-CHECKSUM_BYTES:]

    def keep(self) -> int:
        """Check the whole, make it durable, put it in its place; return its size in bytes.

        Raises DamagedSnapshotError, OSError.
        """
        assert self._file is not None, "begin() comes first"
        if self._head != MAGIC:
            raise DamagedSnapshotError("what the replica sent is no snapshot")
        if self._checksum.digest() != self._tail:
            raise DamagedSnapshotError("the snapshot did not arrive whole: its checksum is wrong")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        Path(self._part).replace(self._path)
        self._part = ""
        _sync_folder(self._path.parent)
        return self._size_bytes

    def drop(self) -> None:
        """Close and remove what was not kept."""
        if self._file is not None:
            self._file.close()
        if self._part:
            Path(self._part).unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make the new name durable, where folders can be synced."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
