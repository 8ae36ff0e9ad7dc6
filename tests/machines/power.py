"""Disks of their own for replicas: ext4 in a file, whose power can be cut and which can be full."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import subprocess
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Self

MIB = 2**20
EXT4_IOC_SHUTDOWN = 0x8004587D
WITHOUT_FLUSHING_THE_JOURNAL = struct.pack("<I", 2)
FILLER = "filler"
PATIENCE_S = 60


class Unsupported(Exception):  # noqa: N818
    """This machine cannot do what a test needs; the message says what and why."""


class Disk:
    """A small ext4 file system, mounted at `folder`. A context manager: unmounted at its end."""

    def __init__(self, image: Path, folder: Path, size_bytes: int) -> None:
        self.folder = folder
        self._image = image
        self._size_bytes = size_bytes
        self._mounted = False

    def __enter__(self) -> Self:
        with self._image.open("wb") as file:
            file.truncate(self._size_bytes)
        run("mkfs.ext4", "-q", "-F", str(self._image))
        self.folder.mkdir(parents=True, exist_ok=True)
        self.mount()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._mounted:
            self.unmount()
        self._image.unlink()

    def mount(self) -> None:
        """Mount it; after a power cut the file system recovers what it had made durable."""
        run("mount", "-o", "loop", str(self._image), str(self.folder))
        self._mounted = True

    def unmount(self) -> None:
        """Unmount it. Nobody may have a file of it open."""
        run("umount", str(self.folder))
        self._mounted = False

    def fill(self) -> None:
        """Take all room that is left, to the last block."""
        descriptor = os.open(self.folder / FILLER, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        try:
            for piece_bytes in (MIB, 4096, 512):
                _append_until_full(descriptor, bytes(piece_bytes))
        finally:
            os.close(descriptor)

    def free(self) -> None:
        """Give back what `fill` took."""
        (self.folder / FILLER).unlink()


def _append_until_full(descriptor: int, piece: bytes) -> None:
    try:
        while True:
            os.write(descriptor, piece)
            os.fsync(descriptor)  # so that nothing is only promised
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise


def cut_power(disks: Iterable[Disk]) -> None:
    """Cut the power of all of them at once: what was not synced is gone, writes fail from now."""
    with ExitStack() as open_folders:
        descriptors = []
        for disk in disks:
            descriptors.append(os.open(disk.folder, os.O_RDONLY | os.O_DIRECTORY))
            open_folders.callback(os.close, descriptors[-1])
        for descriptor in descriptors:
            fcntl.ioctl(descriptor, EXT4_IOC_SHUTDOWN, WITHOUT_FLUSHING_THE_JOURNAL)


def run(*command: str) -> None:
    """Run a system's command. Raises `Unsupported` with what it said if it fails."""
    try:
        ended = subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
    except FileNotFoundError as error:
        raise Unsupported(f"there is no {command[0]} on this machine") from error
    if ended.returncode:
        said = (ended.stderr or ended.stdout).strip()
        raise Unsupported(f"`{' '.join(command)}` ended with {ended.returncode}: {said}")
