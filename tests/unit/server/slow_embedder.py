"""An embedder without a model, which answers when a test lets it."""

import asyncio
import math
import struct
import zlib
from collections.abc import Callable, Sequence

from agentkeeper.search.worker.process import EmbeddingRefused, EmbeddingUnavailable

DIMENSION = 64
SAME = {"receipt": "expense", "lorry": "truck"}
"""Words that mean what others mean."""


class SlowEmbedder:
    """Vectors of texts that share words, or words of one meaning, are near each other."""

    def __init__(self, on_change: Callable[[], None], on_embedded: Callable[[float], None]) -> None:
        self._on_change, self._on_embedded = on_change, on_embedded
        self.state = "starting"
        self.dimension, self.model_id = 0, ""
        self.restarts = 0
        self.embedded = 0
        self.cache_hits = 0
        self.started = self.stopped = False
        self.deadly = ""
        """A word in texts that it refuses."""
        self.next_model_id = "slow"
        """What it is when it is ready the next time."""
        self.void = ""
        """A word in texts whose vectors are without direction."""
        self.spent_s = 0.001
        """What it says that a call has taken."""
        self.kept: list[str] = []
        """Texts that might be remembered."""
        self.texts: list[str] = []
        """Those that were asked for, in their order."""
        self.at_once = self.most_at_once = 0
        """Urgent texts."""
        self.lanes = {True: asyncio.Event(), False: asyncio.Event()}
        """Urgent texts and others are answered while theirs is set."""

    def start(self) -> None:
        assert not self.started
        self.started = True

    async def stop(self) -> None:
        self.stopped = True

    def rss_bytes(self) -> int:
        return 12_345

    def turn(self, state: str, *, background: bool = True) -> None:
        """Be in a state from now on; ready means to answer, background texts if they may be."""
        ready = state == "ready"
        if ready:
            self.dimension, self.model_id = DIMENSION, self.next_model_id
        self.restarts += state == "restarting"
        self.state = state
        for urgent, lane in self.lanes.items():
            (lane.set if ready and (urgent or background) else lane.clear)()
        self._on_change()

    async def embed(
        self, texts: Sequence[str], *, urgent: bool = False, keep: bool = True
    ) -> list[bytes]:
        self.texts += texts
        self.kept += texts if keep else []
        self.at_once += len(texts) if urgent else 0
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(0)
            await self.lanes[urgent].wait()
        finally:
            self.at_once -= len(texts) if urgent else 0
        if self.state != "ready":
            raise EmbeddingUnavailable(self.state)
        for text in texts:
            if self.deadly and self.deadly in text:
                raise EmbeddingRefused(text, "deadly")
        self.embedded += len(texts)
        self._on_embedded(self.spent_s)
        return [vector("" if self.void and self.void in text else text) for text in texts]


def vector(text: str) -> bytes:
    numbers = [0.0] * DIMENSION
    for word in text.lower().replace(".", " ").replace(",", " ").split():
        numbers[zlib.crc32(SAME.get(word, word).encode()) % DIMENSION] += 1.0
    length = math.hypot(*numbers) or 1.0
    return struct.pack(f"<{DIMENSION}f", *(number / length for number in numbers))
