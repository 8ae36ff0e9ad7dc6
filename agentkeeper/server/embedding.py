"""Vectors of queries and agents, as a process beside this one comes to make them."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final, Protocol

import structlog

from agentkeeper.consensus.distribution import Distribution
from agentkeeper.search.agents import AgentSearch
from agentkeeper.search.passage import wanted
from agentkeeper.search.worker.process import EmbeddingRefused, EmbeddingUnavailable

log = structlog.get_logger(__name__)

WINDOW: Final = 32
"""Agents whose texts are with the embedder at once, in the background."""
YOUNGEST: Final = 8
"""Agents without vector that are embedded within a search."""
QUERIES_AT_ONCE: Final = 32
"""Queries with the embedder at once. With the youngest agents they must fit its urgent queue."""
KEPT_QUERIES: Final = 512
RETRY_S: Final = 0.5
MEANING_S: Final = 1.0
"""How long a search waits for vectors, or half the time that its caller has left."""
BY_WORDS_S: Final = 2.0
"""After one search has waited so long in vain, the others go by words at once for a while."""
EMBEDDING_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25)


class TextEmbedder(Protocol):
    """Makes vectors of texts elsewhere: what is used of `EmbeddingProcess`, and described there."""

    @property
    def state(self) -> str:
        """Texts are taken while this is "ready"."""

    dimension: int
    restarts: int
    embedded: int
    cache_hits: int

    def start(self) -> None:
        """Begin to get ready."""

    async def stop(self) -> None:
        """End it."""

    def rss_bytes(self) -> int:
        """Memory in use there."""

    async def embed(self, texts: Sequence[str], *, urgent: bool = False) -> list[bytes]:
        """One vector for each text. Raises `EmbeddingUnavailable` and `EmbeddingRefused`."""


MakeEmbedder = Callable[[Callable[[], None], Callable[[float], None]], TextEmbedder]
"""Makes one that calls the first whenever its state has changed, and the second with how many
seconds the model took for a text."""


class Embedding:
    """Gives agents their vectors in the background, and queries theirs when asked.

    The embedder is started when there is something to embed.
    """

    def __init__(self, search: AgentSearch, make: MakeEmbedder) -> None:
        self._search = search
        self.model_s = Distribution(EMBEDDING_S)
        """How long the model took for a text."""
        self.wait_s = Distribution(EMBEDDING_S)
        """How long searches waited for vectors, those that gave up left out."""
        self.embedder = make(self._changed, self.model_s.add)
        self._started = False
        self._used = False
        self._feeding: asyncio.Task[None] | None = None
        self._one_of_few = asyncio.Semaphore(QUERIES_AT_ONCE)
        self._alone = asyncio.Lock()
        self._by_words_until_s = 0.0
        self._queries: OrderedDict[str, bytes] = OrderedDict()
        """Vectors by what is wanted, those asked for last at the end."""

    @property
    def ready(self) -> bool:
        """Whether queries can be embedded just now."""
        return self.embedder.state == "ready"

    def wake(self) -> None:
        """There is, or may soon be, something to embed."""
        if not self._started:
            self._started = True
            self.embedder.start()
        elif self.ready and (self._feeding is None or self._feeding.done()):
            self._feeding = asyncio.get_running_loop().create_task(self._feed())

    async def stop(self) -> None:
        """End it all."""
        if self._feeding is not None:
            self._feeding.cancel()
        if self._started:
            await self.embedder.stop()

    async def query(self, query: str, tools: frozenset[str], deadline_s: float) -> bytes | None:
        """The query's vector; None if it takes too long for a caller who waits until `deadline_s`.

        The youngest agents with the tools get theirs in the same time, if they have none yet.
        """
        self.wake()
        text = wanted(query)
        began_s = asyncio.get_running_loop().time()
        wanting = text not in self._queries or any(self._search.waiting(tools))
        if self.ready and wanting and began_s >= self._by_words_until_s:
            patience_s = min(MEANING_S, (deadline_s - began_s) / 2)
            try:
                async with asyncio.timeout(patience_s):
                    await asyncio.gather(self._embed_query(text), self._embed_youngest(tools))
                self.wait_s.add(asyncio.get_running_loop().time() - began_s)
            except TimeoutError:
                if patience_s == MEANING_S and text not in self._queries:
                    self._by_words_until_s = began_s + patience_s + BY_WORDS_S
        if text in self._queries:
            self._queries.move_to_end(text)
        return self._queries.get(text)

    async def _embed_query(self, text: str) -> None:
        async with self._one_of_few:
            if text in self._queries:
                return
            with contextlib.suppress(EmbeddingUnavailable, EmbeddingRefused):
                [self._queries[text]] = await self.embedder.embed([text], urgent=True)
        if len(self._queries) > KEPT_QUERIES:
            self._queries.popitem(last=False)

    async def _embed_youngest(self, tools: frozenset[str]) -> None:
        async with self._alone:  # so that the queries of others are not held up for long
            youngest = list(islice(self._search.waiting(tools), YOUNGEST))
            if youngest:
                await self._embed_agents(youngest, urgent=True)

    async def _feed(self) -> None:
        while self.ready and (waiting := list(islice(self._search.waiting(), WINDOW))):
            if not await self._embed_agents(waiting):
                await asyncio.sleep(RETRY_S)

    async def _embed_agents(self, agent_ids: list[str], *, urgent: bool = False) -> bool:
        """Embed them; whether the embedder was there for it."""
        texts = [self._search.passage(agent_id) for agent_id in agent_ids]
        try:
            vectors = await self.embedder.embed(texts, urgent=urgent)
        except EmbeddingUnavailable:
            return False
        except EmbeddingRefused as refusal:
            for agent_id, text in zip(agent_ids, texts, strict=True):
                if text == refusal.text:
                    log.warning("agent is found by words only", agent=agent_id, reason=str(refusal))
                    self._search.give_up(agent_id)
            return True  # the others still wait
        for agent_id, vector in zip(agent_ids, vectors, strict=True):
            self._search.give(agent_id, vector)
        return True

    def _changed(self) -> None:
        if not self.ready:
            return
        if not self._used:
            self._used = True
            self._search.use_vectors(self.embedder.dimension)
        self.wake()
