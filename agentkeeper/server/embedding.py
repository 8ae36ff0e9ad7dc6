"""Vectors of queries and agents, as a process beside this one comes to make them."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final, Protocol

import structlog

from agentkeeper.consensus.distribution import Distribution
from agentkeeper.search.agents import AgentSearch
from agentkeeper.search.passage import wanted
from agentkeeper.search.worker.process import EmbeddingRefused, EmbeddingUnavailable
from agentkeeper.search.worker.suspects import FORGIVEN_S

log = structlog.get_logger(__name__)

WINDOW: Final = 32
"""Agents whose texts are with the embedder at once, in the background."""
YOUNGEST: Final = 8
"""So many agents without vector are embedded within a search. Were there more, all would wait."""
MAX_ASKED: Final = 128
"""Texts with the embedder that searches wait for. They must fit its urgent queue."""
KEPT_QUERIES: Final = 512
RETRY_S: Final = 0.5
MEANING_S: Final = 1.0
"""How long a search waits for vectors, or half the time that its caller has left."""
EMBEDDING_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25)
_RECENT: Final = 1 / 8
"""What the last text counts for in how long one takes."""


class TextEmbedder(Protocol):
    """Makes vectors of texts elsewhere: what is used of `EmbeddingProcess`, and described there."""

    @property
    def state(self) -> str:
        """Texts are taken while this is "ready"."""

    model_id: str
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

    async def embed(
        self, texts: Sequence[str], *, urgent: bool = False, keep: bool = True
    ) -> list[bytes]:
        """One vector for each text. Raises `EmbeddingUnavailable` and `EmbeddingRefused`."""


MakeEmbedder = Callable[[Callable[[], None], Callable[[float], None]], TextEmbedder]
"""Makes one that calls the first whenever its state has changed, and the second with how many
seconds the model took for a text."""


class Embedding:
    """Gives agents their vectors in the background, and queries theirs when asked.

    What a search asks of the embedder is done even if the search waits no longer, and once for all
    who ask for the same.
    """

    def __init__(self, search: AgentSearch, make: MakeEmbedder) -> None:
        self._search = search
        self.model_s = Distribution(EMBEDDING_S)
        """How long the model took for a text."""
        self.wait_s = Distribution(EMBEDDING_S)
        """How long searches waited for vectors, those that gave up left out."""
        self.embedder = make(self._changed, self._embedded)
        self._started = False
        self._model_id = ""
        """Whose vectors are in use."""
        self._feeding: asyncio.Task[None] | None = None
        self._queries: OrderedDict[str, bytes] = OrderedDict()
        """Vectors by what is wanted, those asked for last at the end."""
        self._asked: dict[tuple[str, str], asyncio.Task[object]] = {}
        """What searches wait for: ("query", what is wanted) or ("agent", its id)."""
        self._text_s = 0.0
        """How long a text took of late."""
        self._watching: asyncio.TimerHandle | None = None
        self._hanging = False

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
        if self._watching is not None:
            self._watching.cancel()
        tasks = [*self._asked.values()] + ([self._feeding] if self._feeding else [])
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._started:
            await self.embedder.stop()

    async def query(self, query: str, tools: frozenset[str], deadline_s: float) -> bytes | None:
        """The query's vector; None if it takes too long for a caller who waits until `deadline_s`.

        Agents with the tools that have no vector get theirs in the same time, if they are few.
        """
        self.wake()
        text = wanted(query)
        began_s = asyncio.get_running_loop().time()
        patience_s = min(MEANING_S, (deadline_s - began_s) / 2)
        asked = self._ask(text, tools, patience_s)
        if asked:
            _, late = await asyncio.wait(asked, timeout=patience_s)
            if not late:
                self.wait_s.add(asyncio.get_running_loop().time() - began_s)
        if text in self._queries:
            self._queries.move_to_end(text)
        return self._queries.get(text)

    def _ask(
        self, text: str, tools: frozenset[str], patience_s: float
    ) -> list[asyncio.Task[object]]:
        """Have done what a search lacks, as far as it can be done in time."""
        if not self.ready or self._hanging:
            return []
        fresh = list(islice(self._search.waiting(tools), YOUNGEST + 1))
        lacking = [] if len(fresh) > YOUNGEST else [("agent", agent_id) for agent_id in fresh]
        if text not in self._queries:
            lacking.insert(0, ("query", text))
        asked = []
        for what in lacking:
            task = self._asked.get(what)
            if task is None:
                before = len(self._asked)
                if before >= MAX_ASKED or before * self._text_s > patience_s:
                    break
                task = self._begin(what)
            asked.append(task)
        return asked

    def _begin(self, what: tuple[str, str]) -> asyncio.Task[object]:
        loop = asyncio.get_running_loop()
        kind, name = what
        embed = self._embed_query(name) if kind == "query" else self._embed_agents([name], True)
        task: asyncio.Task[object] = loop.create_task(embed)

        def ended(task: asyncio.Task[object]) -> None:
            self._hanging = False
            del self._asked[what]
            if not task.cancelled() and (error := task.exception()) is not None:
                log.error("text can't be embedded", of=kind, exc_info=error)

        self._asked[what] = task
        task.add_done_callback(ended)
        if self._watching is None:
            self._watching = loop.call_later(MEANING_S, self._watch, self._done)
        return task

    @property
    def _done(self) -> int:
        return self.embedder.embedded + self.embedder.cache_hits

    def _watch(self, done: int) -> None:
        """See whether the embedder has done anything since. Where it hangs, no search waits."""
        self._watching = None
        self._hanging = bool(self._asked) and self._done == done
        if self._asked:
            loop = asyncio.get_running_loop()
            self._watching = loop.call_later(MEANING_S, self._watch, self._done)

    async def _embed_query(self, text: str) -> None:
        try:
            [vector] = await self.embedder.embed([text], urgent=True, keep=False)
        except (EmbeddingUnavailable, EmbeddingRefused):
            return
        self._queries[text] = vector
        if len(self._queries) > KEPT_QUERIES:
            self._queries.popitem(last=False)

    async def _feed(self) -> None:
        while self.ready and (waiting := list(islice(self._search.waiting(), WINDOW))):
            try:
                getting_on = await self._embed_agents(waiting)
            except Exception:
                log.exception("agents can't be embedded")
                getting_on = False
            if not getting_on:
                await asyncio.sleep(RETRY_S)

    async def _embed_agents(self, agent_ids: list[str], urgent: bool = False) -> bool:
        """Embed them; whether any of them waits no longer."""
        texts = {a: self._search.passage(a) for a in agent_ids if a in self._search}
        try:
            vectors = await self.embedder.embed([*texts.values()], urgent=urgent)
        except EmbeddingUnavailable:
            return False
        except EmbeddingRefused as refusal:
            refused = [agent_id for agent_id, text in texts.items() if text == refusal.text]
            for agent_id in refused:
                self._give_up(agent_id, refusal)
            return bool(refused)  # the others still wait
        for agent_id, vector in zip(texts, vectors, strict=True):
            try:
                self._search.give(agent_id, vector)
            except ValueError as error:
                self._give_up(agent_id, error)
        return True

    def _give_up(self, agent_id: str, reason: Exception) -> None:
        log.warning("agent is found by words only", agent=agent_id, reason=str(reason))
        self._search.give_up(agent_id)
        asyncio.get_running_loop().call_later(FORGIVEN_S, self._take_up, agent_id)

    def _take_up(self, agent_id: str) -> None:
        """Try again: it may have been a passing trouble."""
        self._search.take_up(agent_id)
        self.wake()

    def _embedded(self, spent_s: float) -> None:
        self.model_s.add(spent_s)
        self._text_s += (spent_s - self._text_s) * (_RECENT if self._text_s else 1)

    def _changed(self) -> None:
        if not self.ready:
            return
        if self.embedder.model_id != self._model_id:  # its files may have been replaced
            self._queries.clear()
            self._search.use_vectors(self.embedder.dimension)
            self._model_id = self.embedder.model_id
        self.wake()
