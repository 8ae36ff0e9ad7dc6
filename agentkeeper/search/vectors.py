"""Agents by the vectors of their passages: who is nearest to a query, among those who fit.

The exact scan is the rule: a dot product with every fitting vector. All vectors have unit length,
so that is the cosine, unless an agent's is to count for less. Only where it would take long, and
few agents are filtered out, a graph (`graph`) proposes whose vectors to look at.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pyroaring import BitMap

from agentkeeper.search import graph as graphs
from agentkeeper.search.blocks import Floats, Rows, VectorBlocks, row_array, unit
from agentkeeper.search.graph import Graph
from agentkeeper.search.rows import AgentRows

GRAPH_FROM = 50_000
"""From so many vectors on there is a graph: scanning them takes some 6 ms, walking it 1 ms."""
MAX_OUTSIDE = 4096
"""The most rows that are scanned beside what the graph proposes."""
MAX_PROPOSED = 1000
"""The most rows that the graph is asked for."""

Best = tuple[list[int], list[float]]
"""Rows and their cosines, best first."""


@dataclass(frozen=True, slots=True)
class Hits:
    """Rows and their cosines, best first. Only `VectorIndex.names` makes agents of them."""

    plan: "Plan"
    rows: list[int]
    scores: list[float]

    @property
    def cut(self) -> bool:
        """Whether there are more than those found."""
        return len(self.plan.targets) > self.plan.limit


@dataclass(frozen=True, slots=True)
class Proposals:
    """What to ask a graph, and whom to look at besides."""

    graph: Graph
    count: int
    outside: BitMap
    """The targets that the graph does not know."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A search that is about to be done: `run` may be called in any thread."""

    query: Floats
    targets: BitMap
    limit: int
    blocks: VectorBlocks
    moves: int
    """`AgentRows.moves` when it was made."""
    proposals: Proposals | None = None

    @property
    def rows_scanned(self) -> int:
        """How many vectors `run` may look at: 10,000 take a millisecond or two."""
        return len(self.targets)

    def run(self) -> Hits:
        """The best of the targets. Meanwhile the index may change: an agent that gets another
        vector is scored by either, and one that goes or moves is left out by `VectorIndex.names`.
        """
        best = None if self.proposals is None else self._walk(self.proposals)
        rows, scores = self._scan(self.targets) if best is None else best
        return Hits(self, rows, scores)

    def _scan(self, targets: BitMap) -> Best:
        rows = row_array(targets)
        return best_of(rows, self.blocks.scores(rows, self.query), self.limit)

    def _walk(self, proposals: Proposals) -> Best | None:
        """The best of what the graph proposes, or None if that may not be all of them."""
        graph = proposals.graph
        near = graph.near(self.query, proposals.count)
        if near is None or len(near & self.targets) < self.limit:
            return None
        farthest = float(np.min(self.blocks.scores(row_array(near), self.query)))
        found = rows, scores = self._scan((near & self.targets) | proposals.outside)
        if scores[-1] <= farthest:
            return None  # others who are just as near would have the lower rows
        if graph.to_check():
            exact = self._scan(self.targets)
            graph.judge(len({*rows} & {*exact[0]}) / len(exact[0]))
            return exact
        return found


class VectorIndex:
    """The vectors of agents. One thread owns it; only plans may be run in others."""

    def __init__(
        self, rows: AgentRows, dimension: int, *, graph_from: int | None = GRAPH_FROM
    ) -> None:
        self.dimension = dimension
        self._graph_from = graph_from if graphs.available() else None
        self._graph: Graph | None = None
        self._rows = rows
        self._having = BitMap()
        self._blocks = VectorBlocks(dimension)
        rows.follow(self)

    def __len__(self) -> int:
        return len(self._having)

    def put(self, agent_id: str, vector: bytes, weight: float = 1.0) -> None:
        """Gives an agent its vector, in place of any before; an unknown one changes nothing.

        The vector is little-endian float32 and is brought to unit length. The agent's cosines are
        multiplied by `weight`. Raises ValueError if it has another dimension, no direction, or a
        number that is not finite.
        """
        ready = unit(vector, self.dimension)
        row = self._rows.row(agent_id)
        if row is None:
            return
        self.dropped(row)  # not by its former vector, from now on
        self._blocks.put(row, ready * np.float32(weight))
        self._having.add(row)
        if self._graph is None or self._graph.worn:
            self._begin_graph()
        else:
            self._graph.add(BitMap([row]))

    def lacking(self, fitting: BitMap) -> BitMap:
        """Those of the rows that have no vector yet."""
        return fitting - self._having

    def plan(self, query: bytes, fitting: BitMap, limit: int) -> Plan:
        """A search for the `limit` nearest of the fitting rows that have a vector.

        Raises ValueError for a query that `put` would not take as a vector.
        """
        targets = fitting & self._having
        ready = unit(query, self.dimension)
        proposals = self._proposals(targets, limit)
        return Plan(ready, targets, limit, self._blocks, self._rows.moves, proposals)

    def unmoved(self, plan: Plan) -> BitMap:
        """The plan's targets, without rows that have come to mean another agent."""
        return self._rows.unmoved(plan.targets, plan.moves)

    def names(self, hits: Hits) -> list[tuple[str, float]]:
        """Agents and cosines, best first, ties by row; without those gone or moved since."""
        targets = self.unmoved(hits.plan)
        scored = zip(hits.rows, hits.scores, strict=True)
        named = ((self._rows.agent(row), score) for row, score in scored if row in targets)
        return [(agent, score) for agent, score in named if agent is not None]

    def close(self) -> None:
        """Ends the graph's thread, if there is one, and hears no more of the rows."""
        self._rows.unfollow(self)
        if self._graph is not None:
            self._graph.close()

    def dropped(self, row: int) -> None:
        """See `RowFollower`."""
        self._having.discard(row)
        if self._graph is not None:
            self._graph.drop(row)

    def moved(self, before: Sequence[int], after: Sequence[int]) -> None:
        """See `RowFollower`. No graph can follow."""
        self._end_graph()
        taken = [to for row, to in zip(before, after, strict=True) if row in self._having]
        left = self._having & BitMap(before)
        for row, vector in zip(taken, self._blocks.gather(row_array(left)), strict=True):
            self._blocks.put(row, vector)
        self._having -= left
        self._having |= BitMap(taken)

    def cut(self, end: int) -> None:
        """See `RowFollower`."""
        self._blocks.cut(end)
        self._begin_graph()

    def _begin_graph(self) -> None:
        """Builds a graph anew, if there are enough vectors for one that stay where they are."""
        self._end_graph()
        if self._graph_from is None or self._rows.compacting or len(self) < self._graph_from:
            return
        self._graph = Graph(self.dimension, self._blocks)
        self._graph.add(self._having)

    def _end_graph(self) -> None:
        if self._graph is not None:
            self._graph.close()
            self._graph = None

    def _proposals(self, targets: BitMap, limit: int) -> Proposals | None:
        graph = self._graph
        if graph is None or graph.closed or limit <= 0:
            return None
        if len(targets) * 2 < max(len(graph), self._graph_from or 0):
            return None  # the walk would meet too few who fit
        inside = graph.covers(targets)
        outside = targets - inside
        if not inside or len(outside) > MAX_OUTSIDE:
            return None
        count = 2 * math.ceil(limit * len(graph) / len(inside)) + 16
        return Proposals(graph, count, outside) if count <= MAX_PROPOSED else None


def best_of(rows: Rows, scores: Floats, limit: int) -> Best:
    """The `limit` highest scores, ties by row; the rows are ascending."""
    scores = np.clip(scores, -1, 1)  # rounding may leave equal directions a bit above 1
    if limit < len(rows):
        limit = max(limit, 0)
        least = np.partition(scores, len(rows) - limit)[len(rows) - limit] if limit else np.inf
        above = np.flatnonzero(scores > least)
        equal = np.flatnonzero(scores == least)[: limit - len(above)]
        chosen = np.sort(np.concatenate((above, equal)))
        rows, scores = rows[chosen], scores[chosen]
    order = np.argsort(-scores, kind="stable")
    return rows[order].tolist(), scores[order].tolist()
