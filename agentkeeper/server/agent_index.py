"""Keeps the search index in step with the registry, a little at a time.

Indexing a card takes a good part of a millisecond, so changes are queued and worked off in slices
between other work; a search waits until those before it are done.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

import structlog

from agentkeeper.core import codec
from agentkeeper.core.records import Agent, Event
from agentkeeper.core.state import State
from agentkeeper.search.lexical import Document, LexicalIndex
from agentkeeper.server.errors import unavailable

log = structlog.get_logger(__name__)

SLICE_S: Final = 0.003


class AgentIndex:
    """The agents that are not DEAD, by their words."""

    def __init__(self) -> None:
        self._index = LexicalIndex()
        self._queue: deque[Event | Agent] = deque()
        self._taken = 0
        self._done = 0
        self._progress = asyncio.Event()
        self._working = False

    def observe(self, event: Event) -> None:
        """Take in what an event says of an agent."""
        if event.topic in ("agent.registered", "agent.died"):
            self._take([event])

    def rebuild(self, state: State) -> None:
        """Begin anew with the agents of a restored state."""
        self._index = LexicalIndex()
        self._done = self._taken
        self._queue.clear()
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

    def rank(self, query: str, among: Callable[[str], bool], limit: int) -> list[tuple[str, float]]:
        """See `LexicalIndex.rank`."""
        return self._index.rank(query, among, limit)

    def _take(self, changes: list[Event | Agent]) -> None:
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
        self._working = bool(self._queue)
        if self._working:
            loop.call_later(SLICE_S / 4, self._work)

    def _put(self, change: Event | Agent) -> None:
        if isinstance(change, Agent):
            self._index.put(_document(change))
        elif change.topic == "agent.died":
            self._index.drop(change.subject)
        else:
            self._index.put(_document(codec.thaw(Agent, codec.unpack(change.payload))))


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
