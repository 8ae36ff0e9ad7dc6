"""What happens to the files of a replica that does not run."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

from agentkeeper.launcher import Node

JOURNAL = "0*.log"
DAMAGED = (JOURNAL, "snapshot", "identity.json", "ballot")
"""Files whose bytes mean something."""
TORN_BYTES = 2_000


def flip(path: Path, offset: int) -> None:
    """Turn over all bits of one byte."""
    with path.open("r+b") as file:
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ 0xFF]))


def flip_somewhere(node: Node, rng: random.Random) -> str:
    """Turn over a byte of a replica, drawn from all its files; return which one."""
    assert not node.running
    found = [path for pattern in DAMAGED for path in sorted(node.data_dir.glob(pattern))]
    files = [path for path in found if path.stat().st_size]
    if not files:
        return "nothing: it has no data"
    path = rng.choice(files)
    offset = rng.randrange(path.stat().st_size)
    flip(path, offset)
    return f"byte {offset} of {path.name}"


def tear(path: Path, cut_bytes: int) -> None:
    """Take the last bytes of a file away."""
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - cut_bytes)


def tear_newest(node: Node, rng: random.Random) -> str:
    """Take some last bytes off the newest segment of a replica's log; return how many, of which."""
    assert not node.running
    segments = sorted(path for path in node.data_dir.glob(JOURNAL) if path.stat().st_size > 1)
    if not segments:
        return "nothing: it has no log"
    path = segments[-1]
    cut_bytes = rng.randint(1, min(TORN_BYTES, path.stat().st_size - 1))
    tear(path, cut_bytes)
    return f"{cut_bytes} bytes off {path.name}"


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
