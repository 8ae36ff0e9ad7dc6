"""Keeps the search index in step with the registry, a little at a time.

Indexing a card takes a good part of a millisecond, so changes are queued and worked off in slices
between other work; a search waits until those before it are done.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from agentkeeper.core import codec
from agentkeeper.core.records import Agent, Event
from agentkeeper.core.state import State
from agentkeeper.search.lexical import Document, LexicalIndex

SLICE_S: Final = 0.003


class AgentIndex:
    """The agents that are not DEAD, by their words."""

    def __init__(self) -> None:
        self._index = LexicalIndex()
        self._queue: deque[Event | Agent] = deque()
        self._idle = asyncio.Event()
        self._idle.set()

    def observe(self, event: Event) -> None:
        """Take in what an event says of an agent."""
        if event.topic in ("agent.registered", "agent.died"):
            self._queue.append(event)
            self._start()

    def rebuild(self, state: State) -> None:
        """Begin anew with the agents of a restored state."""
        self._index = LexicalIndex()
        living = (state.agents.get(agent_id) for agent_id in state.tool_sets)
        self._queue = deque(agent for agent in living if agent is not None)
        self._start()

    async def settled(self) -> None:
        """Wait until all changes are in."""
        await self._idle.wait()

    def rank(self, query: str, among: Callable[[str], bool], limit: int) -> list[tuple[str, float]]:
        """See `LexicalIndex.rank`."""
        return self._index.rank(query, among, limit)

    def _start(self) -> None:
        if self._idle.is_set() and self._queue:
            self._idle.clear()
            asyncio.get_running_loop().call_soon(self._work)

    def _work(self) -> None:
        loop = asyncio.get_running_loop()
        end_s = loop.time() + SLICE_S
        while self._queue and loop.time() < end_s:
            change = self._queue.popleft()
            if isinstance(change, Agent):
                self._index.put(_document(change))
            elif change.topic == "agent.died":
                self._index.drop(change.subject)
            else:
                self._index.put(_document(codec.thaw(Agent, codec.unpack(change.payload))))
        if self._queue:
            loop.call_later(SLICE_S / 4, self._work)
        else:
            self._idle.set()


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
