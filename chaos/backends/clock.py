"""Wall clocks of their own for replicas: a small library, preloaded into each."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Iterable
from pathlib import Path

from chaos.backends import Unsupported

SOURCE = Path(__file__).with_name("clock.c")
NS_PER_S = 1_000_000_000


class LocalClocks:
    """`Clocks` of processes that are started with `environment`."""

    def __init__(self, names: Iterable[str], folder: Path) -> None:
        """Build the library into `folder`. Raises Unsupported, if that can't be done."""
        folder.mkdir(parents=True, exist_ok=True)
        self._library = folder / "clock.so"
        _build(self._library)
        self._offsets = {name: folder / name for name in names}
        for path in self._offsets.values():
            path.write_bytes(struct.pack("=q", 0))

    def environment(self, name: str) -> dict[str, str]:
        """What makes a process believe in the clock of replica `name`."""
        return {"LD_PRELOAD": str(self._library), "CHAOS_CLOCK": str(self._offsets[name])}

    def shift(self, name: str, offset_s: float) -> None:
        """Let a replica's wall clock be this far off the true time; its other clocks go on."""
        offset = os.open(self._offsets[name], os.O_WRONLY)
        try:
            os.pwrite(offset, struct.pack("=q", round(offset_s * NS_PER_S)), 0)
        finally:
            os.close(offset)


def _build(library: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        raise Unsupported("clocks: there is no C compiler (cc) on this machine")
    command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    if built.returncode:
        raise Unsupported(f"clocks: {SOURCE.name} can't be built here:\n{built.stderr.strip()}")
