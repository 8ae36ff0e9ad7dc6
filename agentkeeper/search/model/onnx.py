"""Vectors by onnxruntime, from the one file that `agentkeeper model export` makes.

The file has all it takes: besides the network, as properties, the tokenizer and how the vectors of
the tokens become that of the text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from agentkeeper.search.model.embedder import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agentkeeper.search.model.locate import ModelFiles

FORMAT: Final = "1"
POOLINGS: Final = ("mean", "cls")
"""The mean of the tokens' vectors, or that of the first token."""
INPUTS: Final = ("input_ids", "attention_mask", "token_type_ids")


class OnnxEmbedder:
    """An `Embedder` in one thread of the processor."""

    def __init__(self, files: ModelFiles, model_id: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors
        # It would keep what the longest text ever took.
        options.enable_cpu_mem_arena = False
        self._session = onnxruntime.InferenceSession(
            str(files.weights), options, providers=["CPUExecutionProvider"]
        )
        properties = self._session.get_modelmeta().custom_metadata_map
        if properties.get("format") != FORMAT or properties.get("pooling") not in POOLINGS:
            raise ModelError(
                f"{files.weights}: not of this version's making: make it anew with agentkeeper"
                " model export"
            )
        self._pooling = properties["pooling"]
        self._inputs = {given.name for given in self._session.get_inputs()}
        self._tokenizer = Tokenizer.from_str(properties["tokenizer"])
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(int(properties["max_tokens"]))
        self.model_id = model_id
        self.dimension = len(self.embed(""))

    def embed(self, text: str) -> NDArray[np.float32]:
        """Return the vector of a text: shape (dimension,), length 1."""
        encoded = self._tokenizer.encode(text)
        given = zip(INPUTS, (encoded.ids, encoded.attention_mask, encoded.type_ids), strict=True)
        feed = {name: np.array([ids], np.int64) for name, ids in given if name in self._inputs}
        (tokens,) = self._session.run(None, feed)  # shape (1, tokens, dimension)
        vector = tokens[0].mean(axis=0) if self._pooling == "mean" else tokens[0, 0]
        return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)
