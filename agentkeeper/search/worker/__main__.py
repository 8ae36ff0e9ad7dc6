"""The worker: reads texts, writes vectors, one at a time. Started by `child`, never by hand.

python -m agentkeeper.search.worker PARENT_PID
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import math
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from agentkeeper.search.model.embedder import ModelError
from agentkeeper.search.model.locate import ModelFiles
from agentkeeper.search.worker import frames
from agentkeeper.search.worker.cache import VectorCache

if TYPE_CHECKING:
    from agentkeeper.search.model.embedder import Embedder

NICENESS: Final = 5
OOM_SCORE: Final = 500
"""If memory is short, this process goes rather than the daemon."""
LEAST_SQUARE: Final = 1e-6
"""A vector whose length squared is not above this has no direction worth the name."""

_PR_SET_PDEATHSIG: Final = 1


def main() -> None:
    """Answer what the parent asks until it is gone."""
    _settle(int(sys.argv[1]))
    incoming, outgoing = _pipes()
    question = frames.read(incoming)
    if question is None:
        return
    answer, worker = _load(question)
    with contextlib.closing(worker) if worker else contextlib.nullcontext():
        while True:
            answer["number"] = question["number"]
            try:
                outgoing.write(frames.pack(answer))
                outgoing.flush()
            except BrokenPipeError:
                return
            if worker is None or (question := frames.read(incoming)) is None:
                return
            answer = worker.answer(question["text"], keep=question["keep"])


class Worker:
    """A loaded model and its cache."""

    def __init__(self, embedder: Embedder, cache: VectorCache) -> None:
        self._embedder = embedder
        self._cache = cache

    def introduce(self) -> dict[str, Any]:
        """Return what the parent has to know of the model."""
        known = {"model_id": self._embedder.model_id, "dimension": self._embedder.dimension}
        return known | self._notes()

    def answer(self, text: bytes, *, keep: bool) -> dict[str, Any]:
        """Return a text's vector, or why it has none; unless kept, the cache is left alone."""
        return (self._cached(text) if keep else self._vector(text)) | self._notes()

    def close(self) -> None:
        """Let go of the cache's file."""
        self._cache.close()

    def _notes(self) -> dict[str, Any]:
        notes = self._cache.take_notes()
        return {"notes": notes} if notes else {}

    def _cached(self, text: bytes) -> dict[str, Any]:
        vector = self._cache.get(text)
        if vector is not None:
            return {"vector": vector}
        answer = self._vector(text)
        if "vector" in answer:
            self._cache.put(text, answer["vector"])
        return answer

    def _vector(self, text: bytes) -> dict[str, Any]:
        began_s = time.perf_counter()
        try:
            vector = self._embed(text.decode())
        except (MemoryError, OSError):
            raise  # not the text's fault: another process may do it
        except Exception as error:  # models raise what they like
            return {"refused": f"{type(error).__name__}: {error}"[:500]}
        return {"vector": vector, "spent_s": time.perf_counter() - began_s}

    def _embed(self, text: str) -> bytes:
        vector = self._embedder.embed(text)
        if vector.shape != (self._embedder.dimension,):
            raise ValueError(f"the model gave a vector of shape {vector.shape}")
        if not LEAST_SQUARE < float(vector @ vector) < math.inf:
            raise ValueError("the model gave a vector without direction, or one that is not finite")
        return vector.astype("<f4").tobytes()


def _load(question: dict[str, Any]) -> tuple[dict[str, Any], Worker | None]:
    try:
        files = question["load"]
        module, _, name = question["loader"].partition(":")
        load = getattr(importlib.import_module(module), name)
        places = {key: Path(files[key]) for key in ("directory", "weights")}
        embedder: Embedder = load(ModelFiles(**files | places))
    except ModelError as error:
        return {"failed": str(error)[:2_000]}, None
    except Exception as error:  # a broken installation, most likely
        return {"failed": f"{type(error).__name__}: {error}"[:2_000]}, None
    path = question["cache"] and Path(question["cache"])
    cache = VectorCache(path, embedder.model_id, embedder.dimension)
    worker = Worker(embedder, cache)
    return worker.introduce(), worker


def _settle(parent_pid: int) -> None:
    """Take the place of a process that serves another: last in line, and gone with it."""
    for number in (signal.SIGINT, signal.SIGTERM):  # sent to a group, they are for the parent,
        signal.signal(number, signal.SIG_IGN)  # which ends this process when it ends itself
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:  # it died before it could be watched
        sys.exit(1)
    os.nice(NICENESS)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE))


def _pipes() -> tuple[BinaryIO, BinaryIO]:
    """Return the pipes to the parent, which nothing but this module can write to.

    What libraries print goes to the standard error.
    """
    incoming, outgoing = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    os.close(nothing)
    return os.fdopen(incoming, "rb"), os.fdopen(outgoing, "wb")


if __name__ == "__main__":
    main()
