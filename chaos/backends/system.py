"""The system's own commands, by which disks and networks are made."""

from __future__ import annotations

import subprocess

from chaos.backends import Unsupported

PATIENCE_S = 60


def run(*command: str, told: str = "") -> str:
    """Run a command, with `told` as its input, and return what it says.

    Raises `Unsupported` with what it said if it fails.
    """
    try:
        ended = subprocess.run(
            command, input=told, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
    except FileNotFoundError as error:
        raise Unsupported(f"there is no {command[0]} on this machine") from error
    if ended.returncode:
        said = (ended.stderr or ended.stdout).strip()
        raise Unsupported(f"`{' '.join(command)}` ended with {ended.returncode}: {said}")
    return ended.stdout
