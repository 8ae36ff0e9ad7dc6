"""What a model's files are: their digests, and which ones they ought to have."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

NAME: Final = "all-MiniLM-L6-v2"
"""The model that is looked for where no other is named."""

WEIGHTS_SHA256: Final = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of the file model.safetensors of that model."""

RECORD: Final = "agentkeeper-model.json"
"""A file beside a model that was installed or exported: what it is, and its digests."""

_CONFIGURATION: Final = {".json", ".txt", ".model"}


def read_json(path: Path) -> Any:
    """Read a JSON file; None if it is missing or damaged."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def read_record(directory: Path) -> dict[str, Any]:
    """Read what `write_record` wrote; empty if nothing was written."""
    record = read_json(directory / RECORD)
    return record if isinstance(record, dict) else {}


def write_record(directory: Path, record: Mapping[str, Any]) -> None:
    """Say beside a model what it is.

    Args:
        directory: the model's.
        record: `sha256` maps names of files to digests; the rest is told by `model status`.
    """
    text = json.dumps(record, indent=2, sort_keys=True) + "\n"
    (directory / RECORD).write_text(text)


def sha256(path: Path) -> str:
    """Digest a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def configuration(directory: Path) -> set[Path]:
    """Return the files beside a sentence-transformers model's weights that decide its vectors."""
    return {
        path
        for path in directory.rglob("*")
        if path.suffix in _CONFIGURATION and path.name != RECORD and path.is_file()
    }


def digests(directory: Path, files: Iterable[Path]) -> dict[str, str]:
    """Digest files of a directory, each by its path within it."""
    return {path.relative_to(directory).as_posix(): sha256(path) for path in sorted(files)}


def expected(directory: Path, *, named: bool) -> dict[str, str]:
    """Return the digests that files of a model are known to have, by their paths.

    Args:
        directory: the model's.
        named: whether it was found under the default model's name, so that it must be that one.
    """
    known = {"model.safetensors": WEIGHTS_SHA256} if named else {}
    recorded = read_record(directory).get("sha256")
    return known | recorded if isinstance(recorded, dict) else known
