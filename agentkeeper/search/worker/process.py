"""The daemon's side of the worker: texts in, vectors out, and whatever happens to the process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

import structlog

from agentkeeper.search.model.locate import ModelFiles
from agentkeeper.search.worker.child import Child, WorkerDied
from agentkeeper.search.worker.lanes import (
    MAX_URGENT,
    EmbeddingRefused,
    EmbeddingUnavailable,
    Lanes,
    Wanted,
)
from agentkeeper.search.worker.suspects import Suspects

__all__ = [
    "LOADER",
    "MAX_TEXT_BYTES",
    "MAX_URGENT",
    "EmbeddingProcess",
    "EmbeddingRefused",
    "EmbeddingUnavailable",
    "Limits",
    "State",
]

log = structlog.get_logger(__name__)

LOADER: Final = "agentkeeper.search.model.embedder:load"
"""What the worker calls with `ModelFiles` for an `Embedder`: module, colon, function."""

MAX_TEXT_BYTES: Final = 1024 * 1024
"""Longest text taken."""

State = Literal["starting", "ready", "restarting", "failed"]


@dataclass(frozen=True, slots=True)
class Limits:
    """How long the worker may take, and how long it is left alone before it is started again."""

    load_s: float = 300.0
    """A few seconds, where nothing else wants the processor."""
    answer_s: float = 30.0
    first_pause_s: float = 0.5
    """After a death; doubled after each that follows."""
    longest_pause_s: float = 30.0
    proven_s: float = 60.0
    """A worker that has been ready for so long starts the pauses from the first again."""
    failed_pause_s: float = 60.0
    """After a model that can't be loaded."""


class _LoadError(Exception):
    """The model can't be loaded, and could not be loaded again a moment later."""


class EmbeddingProcess:
    """A worker process that is kept alive, and the texts that wait for it.

    It belongs to the event loop that runs when it is started, and has to be started from that
    loop's thread while it is the process's main thread: the worker ends with the thread.

    Urgent texts go before the others, each kind in the order of its coming. The worker does one at
    a time, so that an urgent one waits for at most one other.
    """

    def __init__(
        self,
        files: ModelFiles,
        cache: Path | None,
        *,
        on_change: Callable[[], None],
        on_embedded: Callable[[float], None] | None = None,
        loader: str = LOADER,
        limits: Limits | None = None,
    ) -> None:
        """Take note of what to run; nothing runs before `start`.

        Args:
            files: the model.
            cache: file for vectors of texts seen before; None for a cache in memory alone.
            on_change: called when `state` has changed; must not raise.
            on_embedded: called with the seconds that the model took for a text; must not raise.
            loader: what loads the model, in the worker; see `LOADER`.
            limits: see `Limits`.
        """
        self.state: State = "starting"
        """`starting` before the first worker is ready, `restarting` while there is none after a
        death, `failed` while the model can't be loaded (tried again every minute)."""
        self.model_id = ""
        """Names the model by its content; empty until it was ready once. Where its files were
        replaced, the next worker has another one, and vectors of the two do not compare."""
        self.dimension = 0
        """How many numbers a vector has; 0 until it was ready once."""
        self.restarts = 0
        """How often a worker has died and was replaced."""
        self.embedded = 0
        """Vectors that the model has computed."""
        self.cache_hits = 0
        """Vectors that the cache had."""
        self._load: dict[str, Any] = {
            "load": {key: str(value) for key, value in asdict(files).items()},
            "loader": loader,
            "cache": None if cache is None else str(cache),
        }
        self._on_change = on_change
        self._on_embedded = on_embedded
        self._limits = limits or Limits()
        self._lanes = Lanes()
        self._running: asyncio.Task[None] | None = None
        self._child: Child | None = None
        self._in_hand: Wanted | None = None
        self._suspects = Suspects()
        self._failure = ""
        self._told = ""
        self._ready_at_s = 0.0
        self._pause_s = self._limits.first_pause_s

    def start(self) -> None:
        """Start the worker, and keep one running until `stop`."""
        if self._running is None:
            self._running = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End the worker; calls that wait raise `EmbeddingUnavailable`."""
        if self._running is None:
            return
        running, self._running = self._running, None
        running.cancel()
        await asyncio.wait({running})
        self.state = "starting"
        self._put_off("the worker was stopped")

    def rss_bytes(self) -> int:
        """Memory that the worker holds; 0 without one, or where the system does not tell."""
        return 0 if self._child is None else self._child.rss_bytes()

    async def embed(
        self, texts: Sequence[str], *, urgent: bool = False, keep: bool = True
    ) -> list[bytes]:
        """Return the vectors of some texts, in their order: little-endian float32, of length 1.

        A call that is cancelled, or fails for one of its texts, takes the others back; vectors
        that were done by then are in the cache.

        Args:
            texts: what goes beyond the model's window is left out.
            urgent: go before what is not urgent. At most `MAX_URGENT` such texts may wait.
            keep: remember the vectors on disk; what people ask for is better forgotten.

        Raises:
            EmbeddingUnavailable: no worker is ready, it died, or too many urgent texts wait.
            EmbeddingRefused: the model can't do one of the texts, or keeps dying of it.
        """
        if self.state != "ready":
            raise EmbeddingUnavailable(self._failure or "the worker is not ready")
        wanted = [self._wanted(text, keep) for text in texts]
        self._lanes.put(wanted, urgent=urgent)
        try:
            return await asyncio.gather(*(each.vector for each in wanted))
        finally:
            self._lanes.take_back(wanted)

    def _wanted(self, text: str, keep: bool) -> Wanted:
        encoded = text.encode(errors="replace")
        loop = asyncio.get_running_loop()
        if len(encoded) > MAX_TEXT_BYTES:
            raise EmbeddingRefused(text, f"the text has more than {MAX_TEXT_BYTES} bytes")
        if self._suspects.deadly(encoded, loop.time()):
            raise EmbeddingRefused(text, "the worker has died of this text")
        return Wanted(encoded, loop.create_future(), keep)

    async def _run(self) -> None:
        limits = self._limits
        while True:
            child = None
            try:
                child = self._child = await Child.start()
                await self._introduce(child)
                await self._serve(child)
            except _LoadError as failure:
                pause_s, reason = limits.failed_pause_s, str(failure)
                self._turn("failed", reason)
            except Exception as error:  # a death, or what nonsense in its answers leads to
                reason = str(error) if isinstance(error, WorkerDied) else f"sent {error!r}"
                pause_s = self._mourn(reason)
            finally:
                self._child = None
                if child is not None:
                    await child.end()
            self._tell(reason, child)
            await asyncio.sleep(pause_s)

    async def _introduce(self, child: Child) -> None:
        """Let the worker load the model. Raises `_LoadError` or `WorkerDied`."""
        answer = await child.ask(self._limits.load_s, **self._load)
        _log_notes(answer)
        if "failed" in answer:
            raise _LoadError(str(answer["failed"]))
        model_id, dimension = answer.get("model_id"), answer.get("dimension")
        if not isinstance(model_id, str) or not isinstance(dimension, int) or dimension < 1:
            raise WorkerDied("named no model")
        self.model_id, self.dimension = model_id, dimension
        self._failure = ""
        self._ready_at_s = asyncio.get_running_loop().time()
        self._turn("ready", "")

    async def _serve(self, child: Child) -> None:
        """Work off what is wanted. Raises `WorkerDied` at the end."""
        while True:
            self._in_hand = self._lanes.take()
            if self._in_hand is None:
                await child.attend(self._lanes.arrival())
                continue
            asked = self._in_hand
            answer = await child.ask(self._limits.answer_s, text=asked.text, keep=asked.keep)
            _log_notes(answer)
            self._take(asked, answer)
            self._in_hand = None

    def _take(self, wanted: Wanted, answer: dict[str, Any]) -> None:
        """Give a text's vector to who wants it. Raises `WorkerDied` if it is none."""
        refused, vector, spent_s = (answer.get(key) for key in ("refused", "vector", "spent_s"))
        if refused is not None:
            wanted.refuse(str(refused))
        elif not isinstance(vector, bytes) or len(vector) != 4 * self.dimension:
            raise WorkerDied("gave no vector")
        else:
            self._count(spent_s)
            wanted.give(vector)
        self._suspects.clear(wanted.text)

    def _count(self, spent_s: float | None) -> None:
        if spent_s is None:
            self.cache_hits += 1
            return
        self.embedded += 1
        if self._on_embedded is not None:
            self._on_embedded(spent_s)

    def _mourn(self, reason: str) -> float:
        """Fail all calls after a death; return how long to wait before the next start."""
        now_s = asyncio.get_running_loop().time()
        if self.state == "ready" and now_s - self._ready_at_s >= self._limits.proven_s:
            self._pause_s = self._limits.first_pause_s
        pause_s = self._pause_s
        self._pause_s = min(2 * pause_s, self._limits.longest_pause_s)
        self.restarts += 1
        if self._in_hand is not None:
            text = self._in_hand.text
            self._suspects.blame(text, now_s)
            if self._suspects.deadly(text, now_s):
                self._in_hand.refuse(f"the worker {reason} over it, as it did before")
        self._turn("restarting", f"the worker {reason}")
        return pause_s

    def _turn(self, state: State, failure: str) -> None:
        self._failure = failure
        if failure:
            self._put_off(failure)
        if state != self.state:
            self.state = state
            self._on_change()

    def _put_off(self, reason: str) -> None:
        """Fail all calls that still wait."""
        if self._in_hand is not None:
            self._in_hand.put_off(reason)
            self._in_hand = None
        self._lanes.put_off(reason)

    def _tell(self, reason: str, child: Child | None) -> None:
        if self.state == "failed":
            if reason != self._told:
                log.error("the model can't be loaded, agents are found by words", reason=reason)
            self._told = reason
        else:
            ended = "" if child is None else child.describe()
            log.warning("embedding worker died", reason=reason, ended=ended, deaths=self.restarts)


def _log_notes(answer: dict[str, Any]) -> None:
    for note in answer.get("notes", ()):
        log.warning("embedding worker", note=note)
