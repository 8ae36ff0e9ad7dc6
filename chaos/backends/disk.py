"""Disks of their own for replicas: ext4 in a file, whose power can be cut and which can be full."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import struct
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Self

from agentkeeper.launcher import LocalCluster, Node
from chaos.backends.damage import flip_somewhere, tear_newest, wipe
from chaos.backends.nodes import kill, pause
from chaos.backends.system import run

MIB = 2**20
EXT4_IOC_SHUTDOWN = 0x8004587D
WITHOUT_FLUSHING_THE_JOURNAL = struct.pack("<I", 2)
FILLER = "filler"
LET_GO_TIMEOUT_S = 10.0
POLL_S = 0.01


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
        """Unmount it. Nobody may have a file of it open.

        Returns when the system has let go of it. Until then mounting would bring back the very file
        system that was unmounted, and one that was shut down would be that still: whoever makes a
        mount namespace meanwhile has a copy of the mount, as each `ip -n` does for a moment.
        """
        run("umount", str(self.folder))
        self._mounted = False
        deadline = time.monotonic() + LET_GO_TIMEOUT_S
        while self._has_device():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self._image} is still mounted after {LET_GO_TIMEOUT_S:g} s")
            time.sleep(POLL_S)

    def _has_device(self) -> bool:
        image = str(self._image.resolve())
        for path in Path("/sys/block").glob("loop*/loop/backing_file"):
            with suppress(OSError):  # let go of at this moment
                if path.read_text().rstrip("\n") == image:
                    return True
        return False

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
        (self.folder / FILLER).unlink(missing_ok=True)


def _append_until_full(descriptor: int, piece: bytes) -> None:
    try:
        while True:
            os.write(descriptor, piece)
            os.fsync(descriptor)  # so that nothing is only promised
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise


def fail(disks: Iterable[Disk]) -> None:
    """Let all of them fail at once: what was not synced is gone, writes fail from now on."""
    with ExitStack() as open_folders:
        descriptors = []
        for disk in disks:
            descriptors.append(os.open(disk.folder, os.O_RDONLY | os.O_DIRECTORY))
            open_folders.callback(os.close, descriptors[-1])
        for descriptor in descriptors:
            fcntl.ioctl(descriptor, EXT4_IOC_SHUTDOWN, WITHOUT_FLUSHING_THE_JOURNAL)


def cut_power(nodes: Sequence[Node], disks: Mapping[str, Disk]) -> None:
    """Cut the power of machines, all at once, and mount again what their disks have made durable.

    Their daemons stand still first, as they would: a sync that is under way while an ext4 is shut
    down may return as if it had succeeded, and a daemon that lives would act on that.
    """
    pause(nodes)
    fail(disks[node.name] for node in nodes)
    kill(nodes)
    for node in nodes:
        disks[node.name].unmount()
        disks[node.name].mount()


def unmount_leftovers(folder: Path) -> None:
    """Unmount what a run that was killed has left mounted below `folder`."""
    for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
        # Octal escapes stand for blanks in names.
        place = Path(line.split()[1].encode().decode("unicode_escape"))
        if place.is_relative_to(folder.resolve()):
            run("umount", str(place))


@contextmanager
def disks_of(cluster: LocalCluster, folder: Path, size_bytes: int) -> Iterator[dict[str, Disk]]:
    """Give each replica a disk, mounted where its data folder is; its file is in `folder`.

    At the end the replicas are killed, or their disks could not be unmounted.
    """
    with ExitStack() as stack:
        disks = {
            name: stack.enter_context(Disk(folder / f"{name}.img", node.data_dir, size_bytes))
            for name, node in cluster.nodes.items()
        }
        stack.callback(kill, cluster.nodes.values())
        yield disks


class LocalDisks:
    """`Disks` of a local cluster. A context manager: mounts them, and leaves none mounted."""

    def __init__(self, cluster: LocalCluster, folder: Path, size_bytes: int) -> None:
        self._cluster = cluster
        self._folder = folder
        self._size_bytes = size_bytes
        self._disks: dict[str, Disk] = {}
        self._files = ExitStack()

    def __enter__(self) -> Self:
        mounted = disks_of(self._cluster, self._folder, self._size_bytes)
        self._disks = self._files.enter_context(mounted)
        return self

    def __exit__(self, *exception: object) -> None:
        self._files.close()

    def fill(self, name: str) -> None:
        """Take all room that is left."""
        self._disks[name].fill()

    def free(self, name: str) -> None:
        """Give back what `fill` took."""
        self._disks[name].free()

    def cut_power(self, names: Sequence[str]) -> None:
        """Lose what was not synced, on all of them at once, and end their daemons."""
        cut_power([self._cluster.nodes[name] for name in names], self._disks)

    def flip(self, name: str, rng: random.Random) -> str:
        """Turn over a byte in a file of a replica that does not run."""
        return flip_somewhere(self._cluster.nodes[name], rng)

    def tear(self, name: str, rng: random.Random) -> str:
        """Take some last bytes off the log of a replica that does not run."""
        return tear_newest(self._cluster.nodes[name], rng)

    def wipe(self, name: str) -> None:
        """Remove all data of a replica that does not run."""
        wipe(self._cluster.nodes[name])
