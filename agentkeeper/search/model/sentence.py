"""Vectors by sentence-transformers, from any local directory that it can read."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agentkeeper.search.model.locate import ModelFiles


class SentenceEmbedder:
    """An `Embedder` in one thread of the processor. Runs no code that comes with the model."""

    def __init__(self, files: ModelFiles, model_id: str) -> None:
        torch.set_num_threads(1)
        with contextlib.suppress(RuntimeError):  # it can be set but once in a process
            torch.set_num_interop_threads(1)
        self.model = SentenceTransformer(
            str(files.directory), device="cpu", local_files_only=True, trust_remote_code=False
        )
        self.model_id = model_id
        self.dimension = len(self.embed(""))

    def embed(self, text: str) -> NDArray[np.float32]:
        """Return the vector of a text: shape (dimension,), length 1."""
        vector = self.model.encode(text, normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(vector, dtype=np.float32)
