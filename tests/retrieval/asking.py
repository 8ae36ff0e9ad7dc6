"""Asks a search over the corpus, and measures how high the right agents come."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from corpus import ENTRIES, agent_id, document

from agentkeeper.search.agents import AgentSearch
from agentkeeper.search.passage import wanted

Vector = Callable[[str], bytes]


def filled(embed: Vector | None, dimension: int = 0) -> AgentSearch:
    """A search over the corpus: by meaning, if there is something that embeds."""
    search = AgentSearch()
    if embed is not None:
        search.use_vectors(dimension)
    for entry in ENTRIES:
        search.put(document(entry), True)
        if embed is not None:
            search.give(agent_id(entry), embed(search.passage(agent_id(entry))))
    return search


@dataclass(frozen=True)
class Asker:
    """A search, and what makes the vectors of queries."""

    search: AgentSearch
    embed: Vector | None

    def found(self, query: str, tools: Collection[str] = (), limit: int = 10) -> list[str]:
        """The agents' ids, best first."""
        vector = None if self.embed is None else self.embed(wanted(query))
        ranked = self.search.rank(query, vector, tools, limit, lambda _: True)
        return [agent_id for agent_id, _ in ranked]

    def place(self, query: str, right: Collection[str], tools: Collection[str] = ()) -> int:
        """The place of the first of the right agents, from 1."""
        found = self.found(query, tools, len(ENTRIES))
        return 1 + next(i for i, agent_id in enumerate(found) if agent_id in right)


def mrr(places: Sequence[int]) -> float:
    """The mean of the places' reciprocals."""
    return sum(1 / place for place in places) / len(places)


def recall(places: Sequence[int], at: int) -> float:
    """The share of places up to `at`."""
    return sum(place <= at for place in places) / len(places)
