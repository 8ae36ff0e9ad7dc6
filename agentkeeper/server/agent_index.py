"""Keeps the search index in step with the registry, a little at a time, and searches it.

Indexing a card takes a good part of a millisecond, so changes are queued and worked off in slices
between other work; a search waits until those before it are done.

Vectors are made in a process beside this one, for all agents in the background. A search that can't
have its query's vector in time goes by words.
"""

from __future__ import annotations

import asyncio
import enum
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import structlog

from agentkeeper.core import codec
from agentkeeper.core.records import Agent, AgentStatus, Event
from agentkeeper.core.state import State
from agentkeeper.search.agents import AgentSearch, Search
from agentkeeper.search.document import Document
from agentkeeper.server.embedding import Embedding, MakeEmbedder
from agentkeeper.server.errors import unavailable

log = structlog.get_logger(__name__)

SLICE_S: Final = 0.003
INLINE_ROWS: Final = 5_000
"""A search that looks at more vectors than these, about 1 ms, does so beside the event loop."""
MAX_SCANS: Final = 16
"""So many wait for their turn at it at most; 100,000 vectors take some 10 ms each."""


class FindMode(enum.IntEnum):
    """How found agents were put in order, numbered as in the protocol."""

    UNRANKED = 1
    LEXICAL = 2
    SEMANTIC = 3


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found."""

    ranked: list[tuple[str, float]]
    """Agent ids with their scores, best first."""
    mode: FindMode
    pending: int
    """ALIVE agents with the tools that wait for their vectors."""


class AgentIndex:
    """The agents that are not DEAD. Searched by meaning if there is an embedder, else by words."""

    def __init__(self, make_embedder: MakeEmbedder | None = None) -> None:
        self._search = AgentSearch()
        self.embedding = None if make_embedder is None else Embedding(self._search, make_embedder)
        """What makes vectors, if anything does."""
        self.finds = Counter[FindMode]()
        """Searches, by how they were done."""
        self._scanner = ThreadPoolExecutor(1, "agentkeeper-search")
        self._scans = 0
        self._queue: deque[Event | Agent | str] = deque()
        self._taken = 0
        self._done = 0
        self._progress = asyncio.Event()
        self._working = False

    def warm_up(self) -> None:
        """Have the embedder ready by the time that there is something to embed."""
        if self.embedding is not None:
            self.embedding.wake()

    def observe(self, event: Event) -> None:
        """Take in what an event says of an agent."""
        if event.topic.startswith("agent."):
            self._take([event])

    def rebuild(self, state: State) -> None:
        """Hold the agents of a restored state; who was there already keeps its vector."""
        self._done = self._taken
        self._queue.clear()
        self._take([agent_id for agent_id in self._search if agent_id not in state.tool_sets])
        living = (state.agents.get(agent_id) for agent_id in state.tool_sets)
        self._take([agent for agent in living if agent is not None])

    async def settled(self, deadline_s: float) -> None:
        """Wait until all changes so far are in. Raises `CallError` (unavailable) if that is not
        the case by the deadline, on the loop's clock.
        """
        wanted = self._taken
        try:
            async with asyncio.timeout_at(deadline_s):
                while self._done < wanted:
                    await self._progress.wait()
        except TimeoutError:
            raise unavailable("this replica is still indexing its agents", "behind") from None

    async def find(
        self,
        query: str,
        tools: frozenset[str],
        fits: Callable[[str], bool],
        limit: int,
        deadline_s: float,
    ) -> Found:
        """The agents that fit best, of those with the tools; without a query, the oldest.

        `fits` has the last word on who is found. Raises `CallError` as `settled` does.
        """
        await self.settled(deadline_s)
        vector = None
        if query and self.embedding is not None:
            vector = await self.embedding.query(query, tools, deadline_s)
        search = None
        if vector is not None:
            search = await self._compared(query, vector, tools, limit, fits)
        if search is not None:
            mode, ranked = FindMode.SEMANTIC, self._search.finish(search)
        else:
            mode = FindMode.LEXICAL if query else FindMode.UNRANKED
            ranked = self.rank(query, fits, limit, tools)
        self.finds[mode] += 1
        return Found(ranked, mode, self.pending(tools))

    async def _compared(
        self,
        query: str,
        vector: bytes,
        tools: frozenset[str],
        limit: int,
        fits: Callable[[str], bool],
    ) -> Search | None:
        """A search that has but to be finished; None if the vector is none, or it would wait."""
        try:
            search = self._search.prepare(query, vector, tools, limit, fits)
        except ValueError as error:
            log.warning("query's vector can't be used", reason=str(error))
            return None
        if search.rows_scanned <= INLINE_ROWS:
            search.run()
            return search
        if self._scans >= MAX_SCANS:
            return None
        self._scans += 1
        try:
            await asyncio.get_running_loop().run_in_executor(self._scanner, search.run)
        finally:
            self._scans -= 1
        return search

    def rank(
        self,
        query: str,
        fits: Callable[[str], bool],
        limit: int,
        tools: frozenset[str] = frozenset(),
    ) -> list[tuple[str, float]]:
        """Search by words alone."""
        return self._search.rank(query, None, tools, limit, fits)

    def pending(self, tools: frozenset[str] = frozenset()) -> int:
        """How many ALIVE agents with the tools wait for their vectors."""
        return 0 if self.embedding is None else self._search.pending(tools)

    @property
    def vectors(self) -> int:
        """How many agents have theirs."""
        return self._search.vectors

    async def stop(self) -> None:
        """Embed nothing any more."""
        if self.embedding is not None:
            await self.embedding.stop()
        self._scanner.shutdown(wait=False, cancel_futures=True)
        self._search.close()

    def _take(self, changes: list[Event | Agent | str]) -> None:
        self._queue.extend(changes)
        self._taken += len(changes)
        if not self._working and self._queue:
            self._working = True
            asyncio.get_running_loop().call_soon(self._work)

    def _work(self) -> None:
        loop = asyncio.get_running_loop()
        end_s = loop.time() + SLICE_S
        while self._queue and loop.time() < end_s:
            change = self._queue.popleft()
            self._done += 1
            try:
                self._put(change)
            except Exception:
                # Finding one agent less well must not keep all others from being found.
                log.exception("agent can't be indexed")
        self._progress.set()
        self._progress = asyncio.Event()
        while (compacting := self._search.compact()) and loop.time() < end_s:
            pass
        self._working = compacting or bool(self._queue)
        if self._working:
            loop.call_later(SLICE_S / 4, self._work)
        if self.embedding is not None and len(self._search):
            self.embedding.wake()

    def _put(self, change: Event | Agent | str) -> None:
        """Take in an event, an agent as it is, or that the one with this id is no more."""
        if isinstance(change, str):
            self._search.drop(change)
        elif isinstance(change, Agent):
            self._search.put(_document(change), change.status == AgentStatus.ALIVE)
        elif change.topic == "agent.registered":
            self._search.put(_document(codec.thaw(Agent, codec.unpack(change.payload))), True)
        elif change.topic == "agent.died":
            self._search.drop(change.subject)
        else:
            self._search.set_alive(change.subject, change.topic == "agent.recovered")


def _document(agent: Agent) -> Document:
    card = agent.card
    return Document(
        agent_id=agent.agent_id,
        name=card.name,
        description=card.description,
        tools=card.tools,
        capabilities=tuple((c.name, c.description) for c in card.capabilities),
        metadata=card.metadata,
    )
