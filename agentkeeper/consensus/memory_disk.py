"""A folder in memory, for replicas that keep nothing."""

from __future__ import annotations

import errno
import os


class MemoryFile:
    """Implements `File`."""

    def __init__(self, content: bytearray) -> None:
        self._content = content

    def size(self) -> int:
        """See `File.size`."""
        return len(self._content)

    def read(self, offset: int, length: int) -> bytes:
        """See `File.read`."""
        return bytes(memoryview(self._content)[offset : offset + length])

    def write(self, offset: int, data: bytes) -> None:
        """See `File.write`."""
        self.truncate(max(offset, len(self._content)))
        self._content[offset : offset + len(data)] = data

    def truncate(self, size: int) -> None:
        """See `File.truncate`."""
        del self._content[size:]
        self._content.extend(bytes(size - len(self._content)))

    def sync(self) -> None:
        """See `File.sync`: there is nothing more durable than memory here."""

    def close(self) -> None:
        """See `File.close`."""


class MemoryDisk:
    """Implements `Disk`."""

    def __init__(self) -> None:
        self._files: dict[str, bytearray] = {}

    def names(self) -> list[str]:
        """See `Disk.names`."""
        return sorted(self._files)

    def open(self, name: str, *, create: bool = False) -> MemoryFile:
        """See `Disk.open`."""
        if create:
            self._files[name] = bytearray()
        elif name not in self._files:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        return MemoryFile(self._files[name])

    def rename(self, old: str, new: str) -> None:
        """See `Disk.rename`."""
        self._files[new] = self._files.pop(old)

    def remove(self, name: str) -> None:
        """See `Disk.remove`."""
        self._files.pop(name, None)

    def sync(self) -> None:
        """See `Disk.sync`."""

    def describe(self, name: str) -> str:
        """See `Disk.describe`."""
        return f"{name} in memory"
