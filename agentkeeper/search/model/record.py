"""What a model's files are: their digests, and which ones they ought to have."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final

NAME: Final = "all-MiniLM-L6-v2"
"""The model that is looked for where no other is named."""

WEIGHTS_SHA256: Final = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of the file model.safetensors of that model."""

RECORD: Final = "agentkeeper-model.json"
"""A file beside a model that was installed or exported: what it is, and its digests."""

_DECIDING: Final = {".json", ".txt", ".model", ".safetensors"}
_JSON_BYTES_MOST: Final = 1_000_000


def read_json(path: Path) -> Any:
    """Read a JSON file; None if it is missing, damaged or larger than such a file ever is."""
    try:
        with path.open("rb") as file:
            content = file.read(_JSON_BYTES_MOST + 1)
        return json.loads(content) if len(content) <= _JSON_BYTES_MOST else None
    except (OSError, ValueError, RecursionError):
        return None


def read_modules(directory: Path) -> tuple[tuple[str, Path], ...]:
    """Read what a sentence-transformers model consists of, from its modules.json.

    Returns:
        The class and the folder of each part; nothing if it is no such model, or if a part of it
        would lie outside its directory.
    """
    listed = read_json(directory / "modules.json")
    try:
        parts = [(str(part["type"]), PurePosixPath(part["path"])) for part in listed]
    except (TypeError, LookupError):
        return ()
    if any(path.is_absolute() or ".." in path.parts for _, path in parts):
        return ()
    return tuple((kind, directory / path) for kind, path in parts)


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


def deciding(directory: Path) -> set[Path]:
    """Return the files of a sentence-transformers model that decide its vectors."""
    return {
        path
        for path in directory.rglob("*")
        if path.suffix in _DECIDING and path.name != RECORD and path.is_file()
    }


def digests(directory: Path, files: Iterable[Path]) -> dict[str, str]:
    """Digest files of a directory, each by its path within it."""
    return {path.relative_to(directory).as_posix(): sha256(path) for path in sorted(files)}


def recorded_digests(directory: Path) -> dict[str, str]:
    """Return the digests that a model's files had when it was installed, by their paths."""
    recorded = read_record(directory).get("sha256")
    if not isinstance(recorded, dict):
        return {}
    return {name: digest for name, digest in recorded.items() if isinstance(digest, str)}


def expected(directory: Path, named: Path | None) -> dict[str, str]:
    """Return the digests that files of a model ought to have, by their paths.

    Args:
        directory: the model's.
        named: the file with its weights if it was found under the default model's name, so that
            it must be that one, whatever the file is called.
    """
    known = recorded_digests(directory)
    if named is not None:
        known[named.relative_to(directory).as_posix()] = WEIGHTS_SHA256
    return known
