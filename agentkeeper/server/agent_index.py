"""Keeps the search index in step with the registry."""

from __future__ import annotations

from agentkeeper.core import codec
from agentkeeper.core.records import Agent, Event
from agentkeeper.core.state import State
from agentkeeper.search.lexical import Document, LexicalIndex


def empty() -> LexicalIndex:
    """An index without agents."""
    return LexicalIndex()


def of(state: State) -> LexicalIndex:
    """An index of all agents that are not DEAD."""
    index = LexicalIndex()
    for agent_id in state.tool_sets:
        agent = state.agents.get(agent_id)
        if agent is not None:
            index.put(_document(agent))
    return index


def observe(index: LexicalIndex, event: Event) -> None:
    """Take in what an event says of an agent."""
    if event.topic == "agent.registered":
        index.put(_document(codec.thaw(Agent, codec.unpack(event.payload))))
    elif event.topic == "agent.died":
        index.drop(event.subject)


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
