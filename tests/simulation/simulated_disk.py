"""A disk that forgets, tears, flips, fills up and fails, as real ones do, but reproducibly."""

from __future__ import annotations

import errno
import os
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

SECTOR_BYTES = 512
"""What a disk writes whole or not at all; the smallest block of a file system."""


@dataclass
class _Write:
    offset: int
    data: bytes

    def apply(self, content: bytearray) -> None:
        content.extend(bytes(max(0, self.offset - len(content))))
        content[self.offset : self.offset + len(self.data)] = self.data

    def tear(self, content: bytearray, rng: random.Random) -> None:
        """Overwrite some of the sectors that were there, and append some of what was not."""
        inside = max(0, min(len(self.data), len(content) - self.offset))
        survives = rng.choice((0.0, 0.5, 1.0))
        at = 0
        while at < inside:
            end = min(inside, at + SECTOR_BYTES - (self.offset + at) % SECTOR_BYTES)
            if rng.random() < survives:
                content[self.offset + at : self.offset + end] = self.data[at:end]
            at = end
        if inside < len(self.data):
            kept = rng.randint(inside, len(self.data))
            if kept > inside:
                _Write(self.offset + inside, self.data[inside:kept]).apply(content)


@dataclass
class _Truncate:
    size: int

    def apply(self, content: bytearray) -> None:
        del content[self.size :]
        content.extend(bytes(self.size - len(content)))


@dataclass
class _Inode:
    """A file's content as its readers see it, as the disk has it, and what lies between."""

    data: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    unsynced: list[_Write | _Truncate] = field(default_factory=list)

    def change(self, change: _Write | _Truncate) -> None:
        change.apply(self.data)
        self.unsynced.append(change)

    def sync(self) -> None:
        for change in self.unsynced:
            change.apply(self.durable)
        self.unsynced.clear()

    def lose_power(self, rng: random.Random) -> None:
        # Some changes had been written back. Then the file stops growing, while sectors that it
        # had already may still be written, in any order.
        complete = rng.randint(0, len(self.unsynced))
        whole = len(self.durable)
        for position, change in enumerate(self.unsynced):
            if position < complete:
                change.apply(self.durable)
                whole = len(self.durable)
            elif isinstance(change, _Write):
                size = len(self.durable)
                change.tear(self.durable, rng)
                if position > complete:
                    del self.durable[size:]
        self._grow(whole, rng)
        self.data = bytearray(self.durable)
        self.unsynced.clear()

    def _grow(self, whole: int, rng: random.Random) -> None:
        """Perhaps store a size that the file had without the data up to there.

        Sizes are stored with another file's sync. Then there are zeros from where a write ended
        (at `whole`), or from the beginning of a block that was not written.
        """
        cut = any(isinstance(change, _Truncate) for change in self.unsynced)
        if cut or len(self.data) <= whole or rng.random() < 0.5:
            return
        next_block = whole + SECTOR_BYTES - whole % SECTOR_BYTES
        blocks = range(next_block, len(self.durable), SECTOR_BYTES)
        written = rng.choice([whole, *blocks])
        del self.durable[written:]
        self.durable.extend(bytes(rng.randint(1, len(self.data) - written)))


@dataclass
class _Created:
    name: str
    inode: _Inode

    def apply(self, folder: dict[str, _Inode]) -> None:
        folder[self.name] = self.inode


@dataclass
class _Renamed:
    old: str
    new: str

    def apply(self, folder: dict[str, _Inode]) -> None:
        folder[self.new] = folder.pop(self.old)


@dataclass
class _Removed:
    name: str

    def apply(self, folder: dict[str, _Inode]) -> None:
        folder.pop(self.name, None)


class SimulatedFile:
    """Implements `File`; unusable once the process that opened it is dead."""

    def __init__(self, disk: SimulatedDisk, inode: _Inode, name: str) -> None:
        self._disk = disk
        self._inode = inode
        self._name = name
        self._life: int | None = disk.life

    def size(self) -> int:
        return len(self._open().data)

    def read(self, offset: int, length: int) -> bytes:
        return bytes(self._open().data[offset : offset + length])

    def write(self, offset: int, data: bytes) -> None:
        inode = self._open()
        data = bytes(data)
        try:
            self._disk.about_to("write", self._name)
        except BaseException:
            if self._life == self._disk.life:
                self._begin_to_write(inode, offset, data)
            raise
        fits = max(0, len(inode.data) - offset + max(0, self._disk.room_bytes()))
        if len(data) > fits:
            self._begin_to_write(inode, offset, data[:fits])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._name)
        if data:
            inode.change(_Write(offset, data))

    def truncate(self, size: int) -> None:
        inode = self._open()
        self._disk.about_to("truncate", self._name)
        inode.change(_Truncate(size))

    def sync(self) -> None:
        inode = self._open()
        self._disk.about_to("sync", self._name)
        if self._disk.sync_fails():
            inode.unsynced.clear()  # readers still see it, but nothing will ever write it
            raise OSError(errno.EIO, os.strerror(errno.EIO), self._name)
        inode.sync()

    def close(self) -> None:
        self._life = None

    def _open(self) -> _Inode:
        if self._life is None:
            raise ValueError("the file is closed")
        if self._life != self._disk.life:
            raise RuntimeError(f"{self._name} was opened by a process that is dead")
        return self._inode

    def _begin_to_write(self, inode: _Inode, offset: int, data: bytes) -> None:
        if written := data[: self._disk.rng.randint(0, len(data))]:
            inode.change(_Write(offset, written))


class SimulatedDisk:
    """Implements `Disk` in memory.

    What was not synced may be lost at a power cut: of what was appended a prefix survives, perhaps
    with zeros behind it, of what was overwritten any sectors, and of what was created, renamed and
    removed the first few changes, in their order, as a journalling file system keeps them. A synced
    file in a folder that was not synced can be gone.
    """

    def __init__(self, rng: random.Random, label: str = "simulated") -> None:
        self.rng = rng
        self.label = label
        self.capacity_bytes: int | None = None
        """Sum of the sizes of all files above which nothing can grow or be created."""
        self.fail_syncs: int | None = None
        """How many of the next syncs fail; what a failed one should have stored never is."""
        self.before: Callable[[str, str], None] | None = None
        """Called with (operation, file name) before `create`, `write`, `truncate`, `sync`,
        `rename` (with the new name), `remove` and `sync_folder` (no name). What it raises goes to
        the caller, and the operation does not happen; a write may have begun, though."""
        self.counts: Counter[str] = Counter()
        """How often each operation was asked for."""
        self.life = 0
        """Counts the deaths of the processes that had files open."""
        self._folder: dict[str, _Inode] = {}
        self._durable: dict[str, _Inode] = {}
        self._unsynced: list[_Created | _Renamed | _Removed] = []

    # --- what the engine uses ----------------------------------------------------------------
    def names(self) -> list[str]:
        return sorted(self._folder)

    def open(self, name: str, *, create: bool = False) -> SimulatedFile:
        if create:
            self.about_to("create", name)
        inode = self._folder.get(name)
        if inode is None:
            if not create:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
            if self.room_bytes() <= 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
            inode = _Inode()
            self._change(_Created(name, inode))
        elif create:
            inode.change(_Truncate(0))
        return SimulatedFile(self, inode, name)

    def rename(self, old: str, new: str) -> None:
        self.about_to("rename", new)
        if old not in self._folder:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), old)
        self._change(_Renamed(old, new))

    def remove(self, name: str) -> None:
        self.about_to("remove", name)
        if name in self._folder:
            self._change(_Removed(name))

    def sync(self) -> None:
        self.about_to("sync_folder", "")
        if self.sync_fails():
            raise OSError(errno.EIO, os.strerror(errno.EIO), self.label)
        for change in self._unsynced:
            change.apply(self._durable)
        self._unsynced.clear()

    def describe(self, name: str) -> str:
        return f"{self.label}/{name}"

    # --- what the world does -----------------------------------------------------------------
    def power_cut(self) -> None:
        """Lose what was not durable, or a part of it; all open files become unusable."""
        for change in self._unsynced[: self.rng.randint(0, len(self._unsynced))]:
            change.apply(self._durable)
        self._unsynced.clear()
        self._folder = dict(self._durable)
        for name in sorted(self._folder):
            self._folder[name].lose_power(self.rng)
        self.life += 1

    def kill(self) -> None:
        """Let the process die: all that it wrote is there, its open files become unusable."""
        self.life += 1

    def wipe(self) -> None:
        """Remove everything, durably; all open files become unusable."""
        self._folder.clear()
        self._durable.clear()
        self._unsynced.clear()
        self.life += 1

    def flip_bit(self, name: str, offset: int, bit: int) -> None:
        """Damage one bit (0 to 7) of a file, for good."""
        inode = self._folder[name]
        flipped = bytes([inode.data[offset] ^ 1 << bit])
        if offset < len(inode.durable):
            inode.durable[offset : offset + 1] = flipped
        inode.change(_Write(offset, flipped))

    @property
    def used_bytes(self) -> int:
        """Sum of the sizes of all files."""
        return sum(len(inode.data) for inode in self._folder.values())

    @property
    def operations(self) -> int:
        """How many operations that change something were asked for."""
        return self.counts.total()

    @property
    def syncs(self) -> int:
        """How many syncs of files and of the folder were asked for."""
        return self.counts["sync"] + self.counts["sync_folder"]

    # --- for its files -----------------------------------------------------------------------
    def about_to(self, operation: str, name: str) -> None:
        self.counts[operation] += 1
        if self.before is not None:
            self.before(operation, name)

    def room_bytes(self) -> int:
        return 2**62 if self.capacity_bytes is None else self.capacity_bytes - self.used_bytes

    def sync_fails(self) -> bool:
        if not self.fail_syncs:
            return False
        self.fail_syncs -= 1
        return True

    def _change(self, change: _Created | _Renamed | _Removed) -> None:
        change.apply(self._folder)
        self._unsynced.append(change)
