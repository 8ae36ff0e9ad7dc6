"""Agents found by meaning and by name.

Synchronous, without clock or threads of its own: whoever owns it gives it agents and vectors, and
may run the long step of a search, `Search.run`, elsewhere.

Scores compare within one answer. Their fraction, 0 to 1, is how well an agent fits: the cosine of
query and agent, more if words of the query are in its names; without a query's vector, the share
of the query's words that it has. To that is added what an identifier in the query says: 5 for its
id, 3 for its name, 2 for each of its tools and capabilities, 1 for the beginning of one of these.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import TYPE_CHECKING

from pyroaring import BitMap

from agentkeeper.search.blend import by_meaning, by_words
from agentkeeper.search.document import Document
from agentkeeper.search.lexical import MAX_CONTENDERS, MAX_NAMED, LexicalIndex
from agentkeeper.search.passage import passage
from agentkeeper.search.rows import AgentRows

if TYPE_CHECKING:
    from agentkeeper.search.vectors import Hits, Plan, VectorIndex  # numpy: only with a model

SPARE = 8
"""Hits beyond the limit, for those that turn out not to fit any more."""

Ranked = list[tuple[str, float]]


@dataclass(slots=True)
class Tier:
    """Agents that the query's identifiers speak for alike, to be ordered by meaning."""

    bonus: float
    size: int
    plans: list[Plan]
    hits: list[Hits] = field(default_factory=list)


@dataclass(slots=True)
class Search:
    """A search under way. `run` may be called on any thread, all else on the owner's."""

    query: str
    query_vector: bytes | None
    tools: frozenset[str]
    limit: int
    fits: Callable[[str], bool]
    index: VectorIndex | None
    """The vectors it is done with; without, it goes by words."""
    hints: dict[str, float] = field(default_factory=dict)
    count: int = 0
    """How many of each tier are looked for."""
    tiers: list[Tier] = field(default_factory=list)

    @property
    def rows_scanned(self) -> int:
        """How many vectors `run` may look at: 10,000 take a millisecond or two."""
        return sum(plan.rows_scanned for tier in self.tiers for plan in tier.plans)

    def run(self) -> None:
        """Compares the query with the agents' vectors."""
        for tier in self.tiers:
            tier.hits = [plan.run() for plan in tier.plans]


class AgentSearch:
    """Agents by their words and, once vectors are used, by meaning.

    A query ranks and never filters: agents that match nothing come last with score 0, oldest first.
    """

    def __init__(self) -> None:
        self._documents: dict[str, Document] = {}
        self._lexical = LexicalIndex()
        self._rows = AgentRows()
        self._vectors: VectorIndex | None = None
        self._given_up: set[str] = set()

    def __len__(self) -> int:
        return len(self._documents)

    def __contains__(self, agent_id: object) -> bool:
        return agent_id in self._documents

    def __iter__(self) -> Iterator[str]:
        return iter(self._documents)

    @property
    def vectors(self) -> int:
        """How many agents have one."""
        return 0 if self._vectors is None else len(self._vectors)

    def put(self, document: Document, alive: bool) -> None:
        """Adds an agent, the youngest. One that is there with the same card stays as it is."""
        agent_id = document.agent_id
        known = self._documents.get(agent_id)
        if known != document:
            if known is not None:
                self.drop(agent_id)
            self._lexical.put(document)
            self._documents[agent_id] = document
        self._rows.put(agent_id, document.tools, alive)

    def set_alive(self, agent_id: str, alive: bool) -> None:
        """Says whether an agent may be found; an unknown one changes nothing."""
        self._rows.set_alive(agent_id, alive)

    def drop(self, agent_id: str) -> None:
        """Forgets an agent; an unknown one changes nothing."""
        if self._documents.pop(agent_id, None) is not None:
            self._lexical.drop(agent_id)
            self._rows.drop(agent_id)
            self._given_up.discard(agent_id)

    def compact(self) -> None:
        """Gives back what dropped agents have left behind, if that is much: then some 100 ms."""
        self._rows.compact()

    def use_vectors(self, dimension: int) -> None:
        """Ranks by meaning from now on, with vectors of a model yet to be given, all anew."""
        from agentkeeper.search.vectors import VectorIndex  # noqa: PLC0415 (needs numpy)

        self.close()
        self._vectors = VectorIndex(self._rows, dimension)
        self._given_up.clear()

    def close(self) -> None:
        """Forgets all vectors, and ends what works on them."""
        if self._vectors is not None:
            self._vectors.close()
            self._vectors = None

    def passage(self, agent_id: str) -> str:
        """The text whose vector stands for the agent. KeyError if there is no such agent."""
        return passage(self._documents[agent_id])

    def give(self, agent_id: str, vector: bytes) -> None:
        """Takes the vector of an agent's passage; see `VectorIndex.put`."""
        if self._vectors is not None:
            self._vectors.put(agent_id, vector)

    def give_up(self, agent_id: str) -> None:
        """Waits no longer for an agent's vector: it is found by its words, for good."""
        if agent_id in self._documents:
            self._given_up.add(agent_id)

    def waiting(self, tools: Collection[str] = ()) -> Iterator[str]:
        """The ALIVE agents with all of the tools that wait for a vector, the youngest first.

        What has just been registered is looked for next. The index must not change meanwhile.
        """
        agents = map(self._rows.agent, reversed(self._lacking(tools)))
        return (a for a in agents if a is not None and a not in self._given_up)

    def pending(self, tools: Collection[str] = ()) -> int:
        """How many `waiting` gives."""
        lacking = self._lacking(tools)
        return len(lacking) - sum(self._within(a, lacking) for a in self._given_up)

    def rank(
        self,
        query: str,
        query_vector: bytes | None,
        tools: Collection[str],
        limit: int,
        fits: Callable[[str], bool],
    ) -> Ranked:
        """The `limit` best ALIVE agents that have the tools and for which `fits` holds, with
        scores; without a query, the oldest.

        `query_vector`: of `passage.wanted(query)` by the model in use, float32, or None: by words.
        Raises ValueError for one that is no such vector.
        """
        search = self.prepare(query, query_vector, tools, limit, fits)
        search.run()
        return self.finish(search)

    def prepare(
        self,
        query: str,
        query_vector: bytes | None,
        tools: Collection[str],
        limit: int,
        fits: Callable[[str], bool],
    ) -> Search:
        """`rank`'s first step; `Search.run` and `finish` follow."""
        index = None if not query or query_vector is None else self._vectors
        search = Search(query, query_vector, frozenset(tools), limit, fits, index)
        if index is not None:
            search.hints = self._lexical.hinted(query)
            self._plan(search, limit + SPARE)
        return search

    def finish(self, search: Search) -> Ranked:
        """`rank`'s last step, after `Search.run`."""
        fitting = self._rows.fitting(search.tools)
        ranked: Ranked = []
        if search.index is not None:
            ranked = self._by_meaning(search, search.index)
            lacking = search.index.lacking(fitting)
            ranked += [(a, s // 1 + by_words(s % 1)) for a, s in self._by_words(search, lacking)]
        elif search.query:
            ranked = self._by_words(search, fitting)
        ranked = [(a, score) for a, score in ranked if score > 0]
        ranked.sort(key=lambda item: (-item[1], self._rows.row(item[0])))
        return self._filled(ranked[: search.limit], search, fitting)

    def _filled(self, ranked: Ranked, search: Search, fitting: BitMap) -> Ranked:
        """With the oldest of those that match nothing, up to the limit."""
        missing = search.limit - len(ranked)
        if missing > 0:
            taken = {agent_id for agent_id, _ in ranked}
            agents = map(self._rows.agent, fitting)
            others = (a for a in agents if a is not None and a not in taken and search.fits(a))
            ranked += [(agent_id, 0.0) for agent_id in islice(others, missing)]
        return ranked

    def _plan(self, search: Search, count: int) -> None:
        """Sets out to find the `count` nearest of each tier, and all those with hints."""
        index, vector = search.index, search.query_vector
        if index is None or vector is None:
            return
        search.count = count
        hinted = self._rows_of(search.hints)
        search.tiers = []
        for bonus, members in self._tiers(search.query, self._rows.fitting(search.tools)):
            some, others = members & hinted, members - hinted
            plans = [index.plan(vector, some, len(some)), index.plan(vector, others, count)]
            search.tiers.append(Tier(bonus, len(others), plans))

    def _tiers(self, query: str, fitting: BitMap) -> list[tuple[float, BitMap]]:
        """The fitting agents by what the query's identifiers say of them."""
        tiers = {0.0: fitting}
        for clause in self._lexical.identified(query):
            named = self._rows_of(islice(clause.posting, MAX_NAMED))
            divided: dict[float, BitMap] = {}
            for bonus, members in tiers.items():
                for total, part in (
                    (bonus, members - named),
                    (bonus + clause.bound, members & named),
                ):
                    divided[total] = divided.get(total, BitMap()) | part
            tiers = {bonus: members for bonus, members in divided.items() if members}
        return list(tiers.items())

    def _by_meaning(self, search: Search, index: VectorIndex) -> Ranked:
        """Who has a vector. Looks again, further down, if too many of those found don't fit."""
        while True:
            ranked: Ranked = []
            for tier in search.tiers:
                found = chain.from_iterable(map(index.names, tier.hits))
                ranked += [
                    (a, tier.bonus + by_meaning(cosine, search.hints.get(a, 0.0)))
                    for a, cosine in found
                    if search.fits(a)
                ]
            cut = any(tier.size > search.count for tier in search.tiers)
            if len(ranked) >= search.limit or not cut:
                return ranked
            self._plan(search, 8 * search.count)
            search.run()

    def _by_words(self, search: Search, rows: BitMap) -> Ranked:
        if not rows:
            return []

        def among(agent_id: str) -> bool:
            return self._within(agent_id, rows) and search.fits(agent_id)

        few = [self._rows.agent(r) for r in rows] if len(rows) <= MAX_CONTENDERS else []
        contenders = [agent_id for agent_id in few if agent_id is not None]
        return self._lexical.rank(search.query, among, search.limit, contenders)

    def _within(self, agent_id: str, rows: BitMap) -> bool:
        row = self._rows.row(agent_id)
        return row is not None and row in rows

    def _rows_of(self, agents: Iterable[str]) -> BitMap:
        rows = map(self._rows.row, agents)
        return BitMap([row for row in rows if row is not None])

    def _lacking(self, tools: Collection[str]) -> BitMap:
        fitting = self._rows.fitting(tools)
        return fitting if self._vectors is None else self._vectors.lacking(fitting)
