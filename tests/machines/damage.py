"""What happens to the files of a replica that does not run."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from agentkeeper.launcher import Node


def flip(path: Path, offset: int) -> None:
    """Turn over all bits of one byte."""
    with path.open("r+b") as file:
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ 0xFF]))


def tear(path: Path, cut_bytes: int) -> None:
    """Take the last bytes of a file away."""
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - cut_bytes)


def wipe(node: Node) -> None:
    """Empty a replica's data folder, which stays where it is mounted."""
    assert not node.running
    for entry in node.data_dir.iterdir():
        if entry.name == "lost+found":
            continue
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    folder = os.open(node.data_dir, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(folder)  # or a power cut would bring the files back
    os.close(folder)
