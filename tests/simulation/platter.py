"""What a power cut leaves of real files: what was synced, and what the system happened to write."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest
from pysyncobj.journal import ResizableFile

from agentkeeper.consensus.disk import OsDisk


class Platter(OsDisk):
    """The disk below a folder of files that are written to without asking it.

    It is a kind one, in comparison with `SimulatedDisk`: a file comes back whole, as it was at one
    moment, and a rename never leaves less than the old file.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.folder = folder
        self.syncs = 0
        self._written: dict[int, bytes] = {}
        self._durable: dict[str, bytes] = {}

    def synced(self, name: str) -> None:
        """The replica has made a file durable, and with it the names of all."""
        self.syncs += 1
        self._write_back(name)

    def write_back_some(self, rng: Random) -> None:
        """The system writes a file as it is now, at a moment of its own choice."""
        if names := self.names():
            self._write_back(rng.choice(names))

    def _write_back(self, name: str) -> None:
        inodes = {file.name: file.stat().st_ino for file in self.folder.iterdir()}
        self._written[inodes[name]] = (self.folder / name).read_bytes()
        self._written = {
            at: content for at, content in self._written.items() if at in inodes.values()
        }
        self._durable = {
            name: self._written.get(inode, self._durable.get(name, b""))
            for name, inode in inodes.items()
            if inode in self._written or name in self._durable
        }

    def power_cut(self) -> None:
        """Leave what the disk has."""
        shutil.rmtree(self.folder)
        self.folder.mkdir()
        for name, content in self._durable.items():
            (self.folder / name).write_bytes(content)
        self._written.clear()

    def wipe(self) -> None:
        """Lose everything."""
        self._durable.clear()
        self.power_cut()

    def flip_bit(self, name: str, offset: int, bit: int) -> None:
        """Damage one bit (0 to 7) of a file."""
        content = bytearray((self.folder / name).read_bytes())
        content[offset] ^= 1 << bit
        (self.folder / name).write_bytes(content)


@contextmanager
def platters(root: Path, ids: str) -> Iterator[dict[str, Platter]]:
    """Put a platter below the folder of each replica; whatever way it syncs a file is noted."""
    made = {node_id: Platter(root / node_id) for node_id in ids}

    def synced(path: Path) -> None:
        made[path.parent.name].synced(path.name)

    def sync(descriptor: int) -> None:
        synced(Path(os.readlink(f"/proc/self/fd/{descriptor}")))

    def flush(file: ResizableFile) -> None:
        synced(Path(file._ResizableFile__fileName))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", sync)
        patch.setattr(os, "fdatasync", sync)
        patch.setattr(ResizableFile, "flush", flush)
        yield made
