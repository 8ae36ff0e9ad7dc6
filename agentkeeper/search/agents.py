"""Agents found by meaning and by name.

Synchronous, without clock or threads of its own: whoever owns it gives it agents and vectors, and
may run the long step of a search, `Search.run`, elsewhere.

Scores compare within one answer. Their fraction, 0 to 1, is how well an agent fits: the cosine of
query and agent, more if words of the query are in its names; without a query's vector, the share
of the query's words that it has. To that is added what an identifier in the query says: 5 for its
id, 3 for its name, 2 for each of its tools and capabilities, 1 for the beginning of one of these.
Agents that point away from the query have score 0, and come by how little they do.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from pyroaring import BitMap

from agentkeeper.search.blend import by_meaning, by_words
from agentkeeper.search.document import Document
from agentkeeper.search.lexical import MAX_CONTENDERS, LexicalIndex, whole_names
from agentkeeper.search.passage import passage, spelled
from agentkeeper.search.rows import AgentRows

if TYPE_CHECKING:
    from agentkeeper.search.vectors import Hits, Plan, VectorIndex  # numpy: only with a model

SPARE = 8
"""Hits beyond the limit, for those that turn out not to fit any more."""
MORE = 1_000
"""Hits and agents beyond the limit that are looked at if too few fit; nobody looks further."""
NAME_WEIGHT = 0.9
"""What a cosine counts where nothing but a name was compared: names are near to many a query."""

Ranked = list[tuple[str, float]]
Found = list[tuple[str, float, float]]
"""Agents, scores and cosines, which order those of the same score."""


@dataclass(slots=True)
class Tier:
    """Agents that the query's identifiers speak for alike, to be ordered by meaning."""

    bonus: float
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
    hints: Mapping[str, float] = field(default_factory=dict)
    tiers: list[Tier] = field(default_factory=list)

    @property
    def rows_scanned(self) -> int:
        """How many vectors `run` may look at: 10,000 take a millisecond or two."""
        return sum(plan.rows_scanned for tier in self.tiers for plan in tier.plans)

    def run(self) -> None:
        """Compares the query with the agents' vectors; with each tier's only once."""
        for tier in self.tiers:
            if not tier.hits:
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
            if not passage(document):
                self._given_up.add(agent_id)
            self._rows.put(agent_id, document.tools, alive, whole_names(document))
        else:
            self._rows.set_alive(agent_id, alive)

    def set_alive(self, agent_id: str, alive: bool) -> None:
        """Says whether an agent may be found; an unknown one changes nothing."""
        self._rows.set_alive(agent_id, alive)

    def drop(self, agent_id: str) -> None:
        """Forgets an agent; an unknown one changes nothing."""
        if self._documents.pop(agent_id, None) is not None:
            self._lexical.drop(agent_id)
            self._rows.drop(agent_id)
            self._given_up.discard(agent_id)

    def compact(self) -> bool:
        """Gives back some of what dropped agents have left behind, if that is much. Tells whether
        there is more to do; see `AgentRows`.
        """
        return self._rows.compact()

    def use_vectors(self, dimension: int) -> None:
        """Ranks by meaning from now on, with vectors of a model yet to be given, all anew."""
        from agentkeeper.search.vectors import VectorIndex  # noqa: PLC0415 (needs numpy)

        self.close()
        self._vectors = VectorIndex(self._rows, dimension)
        self._given_up = {a for a in self._given_up if not self.passage(a)}

    def close(self) -> None:
        """Forgets all vectors, and ends what works on them."""
        if self._vectors is not None:
            self._vectors.close()
            self._vectors = None

    def passage(self, agent_id: str) -> str:
        """The text whose vector stands for the agent, empty for one that says nothing and waits for
        none. KeyError if there is no such agent.
        """
        return passage(self._documents[agent_id])

    def give(self, agent_id: str, vector: bytes) -> None:
        """Takes the vector of an agent's passage; see `VectorIndex.put`."""
        document = self._documents.get(agent_id)
        if self._vectors is not None and document is not None:
            self._vectors.put(agent_id, vector, NAME_WEIGHT if _only_named(document) else 1.0)

    def give_up(self, agent_id: str) -> None:
        """Waits no longer for an agent's vector: it is found by its words until `take_up`."""
        if agent_id in self._documents:
            self._given_up.add(agent_id)

    def take_up(self, agent_id: str) -> None:
        """Waits again for the vector of an agent that was given up, if it is still there."""
        if agent_id in self._documents and self.passage(agent_id):
            self._given_up.discard(agent_id)

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
        self._plan(search, self._rows.fitting(search.tools), limit + SPARE)
        return search

    def finish(self, search: Search) -> Ranked:
        """`rank`'s last step, after `Search.run`. Finds those who fit by now."""
        fitting = self._rows.fitting(search.tools)
        found: Found = []
        if search.index is not None and search.index is self._vectors:
            found = self._by_meaning(search, search.index, fitting)
            lacking = search.index.lacking(fitting)
            words = self._by_words(search, lacking)
            found += [(a, s // 1 + by_words(s % 1), 0.0) for a, s in words]
        elif search.query:
            found = [(a, s, 0.0) for a, s in self._by_words(search, fitting)]
        found.sort(key=lambda item: (-item[1], -item[2], self._rows.row(item[0])))
        ranked = [(agent_id, score) for agent_id, score, _ in found[: search.limit]]
        return self._filled(ranked, search, fitting)

    def _filled(self, ranked: Ranked, search: Search, fitting: BitMap) -> Ranked:
        """With the oldest of those that match nothing, up to the limit."""
        missing = search.limit - len(ranked)
        if missing > 0:
            taken = {agent_id for agent_id, _ in ranked}
            agents = map(self._rows.agent, islice(fitting, search.limit + MORE))
            others = (a for a in agents if a is not None and a not in taken and search.fits(a))
            ranked += [(agent_id, 0.0) for agent_id in islice(others, missing)]
        return ranked

    def _plan(self, search: Search, fitting: BitMap, count: int) -> None:
        """Sets out to find, of the fitting agents with vectors that it has not set out for yet, the
        `count` nearest of each tier, and all those with hints.
        """
        index, vector = search.index, search.query_vector
        if index is None or vector is None:
            return
        fresh = fitting - index.lacking(fitting)
        for tier in search.tiers:
            fresh = fresh.difference(*map(index.unmoved, tier.plans))
        if not fresh:
            return
        search.hints = self._lexical.hinted(search.query)
        hinted = self._rows_of(search.hints)
        for bonus, members in self._tiers(search.query, fresh):
            some, others = members & hinted, members - hinted
            plans = [index.plan(vector, some, len(some)), index.plan(vector, others, count)]
            search.tiers.append(Tier(bonus, plans))

    def _tiers(self, query: str, fitting: BitMap) -> list[tuple[float, BitMap]]:
        """The fitting agents by what the query's identifiers say of them."""
        tiers = {0.0: fitting}
        for terms, bound in self._lexical.named_terms(query):
            named = BitMap.union(*map(self._rows.named, terms))
            divided: dict[float, BitMap] = {}
            for bonus, members in tiers.items():
                for total, part in (
                    (bonus, members - named),
                    (bonus + bound, members & named),
                ):
                    divided[total] = divided.get(total, BitMap()) | part
            tiers = {bonus: members for bonus, members in divided.items() if members}
        return list(tiers.items())

    def _by_meaning(self, search: Search, index: VectorIndex, fitting: BitMap) -> Found:
        """Who has a vector by now. Looks again, further down, if too many don't fit."""
        self._plan(search, fitting, search.limit + SPARE)
        search.run()
        found, enough = self._scored(search, index, fitting)
        if not enough:
            search.tiers = []
            self._plan(search, fitting, search.limit + MORE)
            search.run()
            found, _ = self._scored(search, index, fitting)
        return found

    def _scored(self, search: Search, index: VectorIndex, fitting: BitMap) -> tuple[Found, bool]:
        """Who was found and fits, and whether nobody better can have been left out."""
        found: Found = []
        enough = True
        for tier in search.tiers:
            for hits in tier.hits:
                fit = [
                    (agent_id, cosine)
                    for agent_id, cosine in index.names(hits)
                    if self._within(agent_id, fitting) and search.fits(agent_id)
                ]
                enough = enough and (len(fit) >= search.limit or not hits.cut)
                for agent_id, cosine in fit:
                    score = by_meaning(cosine, search.hints.get(agent_id, 0.0))
                    found.append((agent_id, tier.bonus + score, cosine))
        return found, enough

    def _by_words(self, search: Search, rows: BitMap) -> Ranked:
        if not rows:
            return []

        def among(agent_id: str) -> bool:
            return self._within(agent_id, rows) and search.fits(agent_id)

        few = [self._rows.agent(r) for r in rows] if len(rows) <= MAX_CONTENDERS else []
        contenders = [agent_id for agent_id in few if agent_id is not None]
        return self._lexical.rank(search.query, among, search.limit, contenders, self._rows.row)

    def _within(self, agent_id: str, rows: BitMap) -> bool:
        row = self._rows.row(agent_id)
        return row is not None and row in rows

    def _rows_of(self, agents: Iterable[str]) -> BitMap:
        rows = map(self._rows.row, agents)
        return BitMap([row for row in rows if row is not None])

    def _lacking(self, tools: Collection[str]) -> BitMap:
        fitting = self._rows.fitting(tools)
        return fitting if self._vectors is None else self._vectors.lacking(fitting)


def _only_named(document: Document) -> bool:
    return passage(document) == spelled(document.name)
