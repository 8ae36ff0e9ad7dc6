"""A small, fast file of a sentence-transformers model: weights in 8 bits, for onnxruntime.

A query takes a sixth of the time and the daemon's machine does without torch. What that costs in
agreement with the original is measured here, each time, on texts as agents and queries have them.
"""

from __future__ import annotations

import logging
import os
import tempfile
import warnings
from dataclasses import asdict, dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from agentkeeper.search.model.embedder import Embedder, ModelError, load
from agentkeeper.search.model.locate import INT8, ModelFiles
from agentkeeper.search.model.record import read_record, recorded_digests, sha256, write_record

NEEDED: Final = ("sentence_transformers", "torch", "onnx", "onnxruntime", "tokenizers")
MEAN_AGREEMENT_LEAST: Final = 0.98
AGREEMENT_LEAST: Final = 0.95
"""Below these the file is of no use: with all-MiniLM-L6-v2, 0.99 on average and 0.98 were measured;
with one scale for each whole matrix instead of each column, 0.84 and 0.72."""

_OPSET: Final = 17
_SAMPLES: Final = (
    "receipt",
    "atlas-eu-3fa",
    "sql runner",
    "someone who can make sense of a crumpled till receipt",
    "I need an agent that tells me why our nightly build has become slow",
    "who keeps the warehouse stocked?",
    "translate a contract from German into Portuguese",
    "Übersetzt Verträge und erklärt die Klauseln",
    "合同翻译和校对",
    "expense ocr. Reads photographs of bills and slips, and files what they say as bookings.",
    "log watcher. Follows the logs of services, groups errors by their cause, and wakes people.",
    "churn model. Predicts which customers are about to leave, from their orders and complaints.",
    "schema migrator. Plans and carries out changes of database tables without downtime."
    " Tools: psql, liquibase, backup. Capabilities: sql, migration, rollback.",
    "travel desk. Books flights, trains and hotels within the rules of the company, changes them"
    " when plans change, and asks a person where a rule has to be broken. Tools: calendar, mail,"
    " fare search, card. Capabilities: booking, rebooking, expense report, visa questions.",
)


@dataclass(frozen=True, slots=True)
class Exported:
    """A file that was made, and how far it agrees with its model."""

    file: Path
    size_bytes: int
    sha256: str
    mean_agreement: float
    """The cosine between the vectors of both for the same text, on average."""
    least_agreement: float
    """The same for the text where they agree least."""
    texts: int


def export(model: ModelFiles, target: Path) -> Exported:
    """Make the file in a directory, in about a minute, unless it disagrees with the model.

    Args:
        model: a sentence-transformers model. Its own files stay as they are.
        target: a directory; made if it is not there. A file that is there already is replaced.

    Raises:
        ModelError: the model cannot be loaded or has parts that cannot be exported, something
            that is needed is not installed, or the file disagrees.
        OSError: it cannot be written.
    """
    missing = [module for module in NEEDED if find_spec(module) is None]
    if missing:
        needed = ", ".join(missing)
        raise ModelError(f"not installed: {needed}; pip install 'agentkeeper[export]'")
    if model.runtime != "sentence-transformers":
        raise ModelError(f"{model.directory}: is exported already; name the original")
    target.mkdir(parents=True, exist_ok=True)
    original = load(model)
    with tempfile.TemporaryDirectory(dir=target, prefix=".export-") as folder:
        made = Path(folder) / INT8
        try:
            _make(original, made)
        except (ModelError, OSError):
            raise
        except Exception as error:  # torch and onnx raise what they like
            raise ModelError(
                f"{model.directory}: cannot be exported: {type(error).__name__}: {error}"
            ) from error
        copy = load(ModelFiles(Path(folder), "setting", "onnxruntime", made))
        cosines = [float(original.embed(text) @ copy.embed(text)) for text in _samples()]
        mean, least = sum(cosines) / len(cosines), min(cosines)
        if mean < MEAN_AGREEMENT_LEAST or least < AGREEMENT_LEAST:
            raise ModelError(
                f"{model.directory}: the exported file does not agree with it: the cosine between"
                f" their vectors is {mean:.3f} on average and {least:.3f} at least, which takes"
                f" {MEAN_AGREEMENT_LEAST} and {AGREEMENT_LEAST}; use the model as it is"
            )
        exported = Exported(
            target / INT8, made.stat().st_size, sha256(made), mean, least, len(cosines)
        )
        os.replace(made, exported.file)
    _note(model, target, exported)
    return exported


def _samples() -> tuple[str, ...]:
    """Return texts as they come, and one that is longer than any window."""
    return (*_SAMPLES, " ".join(_SAMPLES * 20))


def _make(original: Embedder, file: Path) -> None:
    """Write the network in 8 bits, with all that is needed to run it."""
    import onnx  # noqa: PLC0415  # needed for this alone
    from onnxruntime.quantization import QuantType, quantize_dynamic  # noqa: PLC0415

    from agentkeeper.search.model.sentence import SentenceEmbedder  # noqa: PLC0415

    assert isinstance(original, SentenceEmbedder)
    properties = _properties(original.model)
    whole = file.with_name("whole.onnx")
    _trace(original.model, whole)
    # Seven bits of the eight, as processors without VNNI instructions overflow silently on eight;
    # and a scale for each column, without which little of the meaning is left.
    logging.disable(logging.WARNING)  # advice for who writes networks
    try:
        quantize_dynamic(
            whole, file, per_channel=True, reduce_range=True, weight_type=QuantType.QInt8
        )
    finally:
        logging.disable(logging.NOTSET)
    whole.unlink()
    network = onnx.load(file)
    onnx.helper.set_model_props(network, properties)
    onnx.save(network, file)


def _properties(model: Any) -> dict[str, str]:
    """Return what the file's reader must know, or refuse what it cannot do."""
    from agentkeeper.search.model.onnx import FORMAT, POOLINGS  # noqa: PLC0415

    parts = [type(part).__name__ for part in model]
    if parts not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise ModelError(
            f"consists of {', '.join(parts)}; only Transformer, Pooling, Normalize can be exported"
        )
    pooling = model[1].pooling_mode
    if pooling not in POOLINGS:
        raise ModelError(f"pools by {pooling}; only {' and '.join(POOLINGS)} can be exported")
    if model.default_prompt_name is not None:
        raise ModelError("puts a prompt before each text, which cannot be exported")
    return {
        "format": FORMAT,
        "pooling": pooling,
        "max_tokens": str(model.max_seq_length),
        "tokenizer": model.tokenizer.backend_tokenizer.to_str(),
    }


def _trace(model: Any, file: Path) -> None:
    """Write the network as it is."""
    import torch  # noqa: PLC0415  # heavy

    from agentkeeper.search.model.onnx import INPUTS  # noqa: PLC0415

    features = model.preprocess(["a short text", "and another one, which is somewhat longer"])
    names = [name for name in INPUTS if name in features]

    class Network(torch.nn.Module):  # type: ignore[misc]  # torch is not looked into
        def __init__(self) -> None:
            super().__init__()
            self.inner = model[0].auto_model

        def forward(self, *tensors: Any) -> Any:
            return self.inner(**dict(zip(names, tensors, strict=True))).last_hidden_state

    axes = {0: "texts", 1: "tokens"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Network().eval(),
            tuple(features[name] for name in names),
            file,
            input_names=names,
            output_names=["token_embeddings"],
            dynamic_axes=dict.fromkeys([*names, "token_embeddings"], axes),
            opset_version=_OPSET,
            dynamo=False,  # the other way needs a package more and gives the same
        )


def _note(model: ModelFiles, target: Path, exported: Exported) -> None:
    """Say beside the file what it is."""
    record = read_record(target)
    told = asdict(exported) | {
        "file": INT8,
        "mean_agreement": round(exported.mean_agreement, 4),
        "least_agreement": round(exported.least_agreement, 4),
        "made_of": str(model.directory),
        "made_with": {name: metadata.version(name) for name in ("torch", "onnxruntime")},
    }
    record["sha256"] = recorded_digests(target) | {INT8: exported.sha256}
    record["export"] = told
    write_record(target, record)
