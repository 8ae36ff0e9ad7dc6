"""Damages the files of a replica that does not run, from within a container that has its volume.

Its text is run there with `python -c`, so it needs nothing but the standard library.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
from pathlib import Path

JOURNAL = "0*.log"
DAMAGED = (JOURNAL, "snapshot", "identity.json", "ballot")
"""Files whose bytes mean something."""
TORN_BYTES = 2_000


def flip(folder: Path, rng: random.Random) -> str:
    """Turn over all bits of one byte, drawn from all files; returns which one."""
    found = [path for pattern in DAMAGED for path in sorted(folder.glob(pattern))]
    files = [path for path in found if path.stat().st_size]
    if not files:
        return "nothing: it has no data"
    path = rng.choice(files)
    offset = rng.randrange(path.stat().st_size)
    with path.open("r+b") as file:
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ 0xFF]))
    return f"byte {offset} of {path.name}"


def tear(folder: Path, rng: random.Random) -> str:
    """Take some last bytes off the newest segment of the log; returns how many, of which."""
    segments = sorted(path for path in folder.glob(JOURNAL) if path.stat().st_size > 1)
    if not segments:
        return "nothing: it has no log"
    path = segments[-1]
    size_bytes = path.stat().st_size
    cut_bytes = rng.randint(1, min(TORN_BYTES, size_bytes - 1))
    os.truncate(path, size_bytes - cut_bytes)
    return f"{cut_bytes} bytes off {path.name}"


def wipe(folder: Path, _: random.Random) -> str:
    """Empty the folder, which stays where it is mounted."""
    for entry in folder.iterdir():
        if entry.name == "lost+found":
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    return "everything"


if __name__ == "__main__":
    how, where, seed = sys.argv[1:]
    print({"flip": flip, "tear": tear, "wipe": wipe}[how](Path(where), random.Random(int(seed))))
