"""From a model's files to something that turns texts into vectors."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any, Protocol

from agentkeeper.search.model.locate import ModelFiles, lacking
from agentkeeper.search.model.record import deciding, digests, expected, read_modules

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

_PROBE = "agent"
_ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_OF_THE_RUNTIME = "sentence_transformers."
_QUIET = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "ORT_DISABLE_TELEMETRY": "1",  # or it tells its makers, over the network, what it is used for
}


class ModelError(Exception):
    """A model cannot be used. The message says which, and why; trying again does not help."""


class Embedder(Protocol):
    """Turns texts into vectors whose cosine says how near their meanings are."""

    model_id: str
    """Names the runtime and the content of the model's files: other files, other name."""
    dimension: int

    def embed(self, text: str) -> NDArray[np.float32]:
        """Return the vector of a text: shape (dimension,), length 1.

        What goes beyond the model's window is left out.
        """


def load(files: ModelFiles) -> Embedder:
    """Load a model, in some seconds, to run in one thread and without any network.

    It sets variables of this process's environment to that end, so it belongs into a process of its
    own, before anything else there has imported the runtime.

    Raises:
        ModelError: a file is unreadable, damaged or not the one it is known to be, the model has
            code of its own or pickled weights, the runtime is not installed, or what comes out is
            no vector.
    """
    os.environ.update(_QUIET)
    for name in _ONE_THREAD:
        os.environ[name] = "1"
    if missing := lacking(files.runtime):
        raise ModelError(f"{files.directory}: not installed: {', '.join(missing)}")
    if files.runtime == "sentence-transformers":
        _refuse_code(files.directory)
    model_id = f"{files.runtime}:{_content(files)}"
    embedder: Embedder
    try:
        if files.runtime == "onnxruntime":
            from agentkeeper.search.model.onnx import OnnxEmbedder  # noqa: PLC0415  # heavy

            embedder = OnnxEmbedder(files, model_id)
        else:
            from agentkeeper.search.model.sentence import SentenceEmbedder  # noqa: PLC0415  # heavy

            embedder = SentenceEmbedder(files, model_id)
        vector = embedder.embed(_PROBE)
    except ModelError:
        raise
    except Exception as error:  # the runtimes raise what they like
        raise ModelError(f"{files.directory}: {type(error).__name__}: {error}") from error
    _check(files, vector)
    return embedder


def _refuse_code(directory: Path) -> None:
    """Refuse a model that code comes with: classes of its own, or pickled weights.

    The runtime refuses the first as well, but not in all of its versions.

    Raises:
        ModelError: it has some, or cannot be told to have none.
    """
    modules = read_modules(directory)
    if not modules:
        raise ModelError(f"{directory}: modules.json is missing, damaged or points elsewhere")
    for kind, folder in modules:
        if not kind.startswith(_OF_THE_RUNTIME):
            raise ModelError(f"{directory}: needs code that is not sentence-transformers': {kind}")
        if any(folder.glob("*.bin")) and not any(folder.glob("*.safetensors")):
            raise ModelError(f"{folder}: has pickled weights, which can run code; convert them")


def _content(files: ModelFiles) -> str:
    """Digest a model's files, having compared them with what is known of them.

    Raises:
        ModelError: unreadable, or not what they should be.
    """
    try:
        parts = {files.weights}
        if files.runtime == "sentence-transformers":
            parts |= deciding(files.directory)
        found = digests(files.directory, parts)
    except OSError as error:
        raise ModelError(f"{error.filename}: {error.strerror}") from None
    named = files.weights if files.source in {"package", "hub cache"} else None
    for name, known in expected(files.directory, named).items():
        if found.get(name, known) != known:
            raise ModelError(
                f"{files.directory / name} is damaged or not what it should be: its SHA-256 begins"
                f" {found[name][:8]}, not {known[:8]}; install the model anew"
            )
    lines = "".join(f"{name}\0{digest}\n" for name, digest in found.items())
    return hashlib.sha256(lines.encode()).hexdigest()[:32]


def _check(files: ModelFiles, vector: Any) -> None:
    if vector.ndim != 1 or not len(vector) or str(vector.dtype) != "float32":
        shape = f"{vector.dtype} of shape {vector.shape}"
        raise ModelError(f"{files.directory}: gives {shape} instead of a vector")
    if not abs(float(vector @ vector) - 1) < 1e-3:
        raise ModelError(f"{files.directory}: gives vectors that are not of length 1")
