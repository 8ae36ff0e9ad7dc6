"""Rows and vectors against a plain list of agents, with blocks small enough to have many."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from core_budget import bounded
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from pyroaring import BitMap

from agentkeeper.search import blocks as blocks_module
from agentkeeper.search import rows as rows_module
from agentkeeper.search.rows import AgentRows
from agentkeeper.search.vectors import Plan, VectorIndex

DIMENSION = 2
TOOLS = ("git", "ocr", "sql")
DIRECTIONS = ((1, 0), (0, 1), (-1, 0), (3, 4), (4, 3), (-3, 4))

agents = st.sampled_from([f"agent-{number}" for number in range(12)])
tool_sets = st.sets(st.sampled_from(TOOLS)).map(lambda tools: tuple(sorted(tools)))
directions = st.sampled_from(DIRECTIONS)


@dataclass
class Known:
    tools: tuple[str, ...]
    alive: bool
    vector: tuple[int, int] | None = None


def cosine(left: Sequence[float], right: Sequence[float]) -> float:
    product = left[0] * right[0] + left[1] * right[1]
    return product / float(np.hypot(*left) * np.hypot(*right))


def packed(vector: tuple[int, int]) -> bytes:
    return np.array(vector, "<f4").tobytes()


@pytest.fixture(autouse=True, scope="module")
def small_blocks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks_module, "BLOCK_ROWS", 4)
        patch.setattr(rows_module, "MIN_GONE", 2)
        patch.setattr(rows_module, "STEP_ROWS", 3)
        yield


class Changes(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.known: dict[str, Known] = {}  # in order of registration
        self.rows = AgentRows()
        self.index = VectorIndex(self.rows, DIMENSION)
        self.under_way: list[tuple[Plan, dict[str, set[float]], dict[str, int]]] = []

    @rule(agent=agents, tools=tool_sets, alive=st.booleans())
    def put(self, agent: str, tools: tuple[str, ...], alive: bool) -> None:
        vector = self.known[agent].vector if agent in self.known else None
        self.known[agent] = Known(tools, alive, vector)
        self.rows.put(agent, tools, alive, tools)

    @rule(agent=agents, alive=st.booleans())
    def set_alive(self, agent: str, alive: bool) -> None:
        if agent in self.known:
            self.known[agent].alive = alive
        self.rows.set_alive(agent, alive)

    @rule(agent=agents)
    def drop(self, agent: str) -> None:
        self.known.pop(agent, None)
        self.rows.drop(agent)

    @rule()
    def compact(self) -> None:
        self.rows.compact()

    @rule()
    def compact_all(self) -> None:
        while self.rows.compact():
            pass
        if not self.rows.compact():
            last = max((self.rows.row(agent) or 0 for agent in self.known), default=0)
            assert last < max(2 * len(self.known), len(self.known) + 2)

    @rule(agent=agents, direction=directions)
    def give(self, agent: str, direction: tuple[int, int]) -> None:
        if agent in self.known:
            self.known[agent].vector = direction
            for plan, scores, _ in self.under_way:
                scores.setdefault(agent, set()).add(cosine(plan.query.tolist(), direction))
        self.index.put(agent, packed(direction))

    @rule(tools=tool_sets, query=directions, limit=st.integers(0, 14))
    def find(self, tools: tuple[str, ...], query: tuple[int, int], limit: int) -> None:
        plan = self.index.plan(packed(query), self.rows.fitting(tools), limit)
        found, expected = self.index.names(plan.run()), self.nearest(tools, query, limit)
        assert [agent for agent, _ in found] == [agent for agent, _ in expected]
        assert [score for _, score in found] == pytest.approx([score for _, score in expected])

    @rule(tools=tool_sets, query=directions)
    def begin(self, tools: tuple[str, ...], query: tuple[int, int]) -> None:
        plan = self.index.plan(packed(query), self.rows.fitting(tools), 14)
        scores = {agent: {score} for agent, score in self.nearest(tools, query, 14)}
        rows = {agent: row for agent in scores if (row := self.rows.row(agent)) is not None}
        self.under_way.append((plan, scores, rows))

    @rule()
    def end(self) -> None:
        """What was begun earlier finds whom it meant, with a score they have had since, but for
        those who have gone or moved.
        """
        for plan, scores, rows in self.under_way:
            found = dict(self.index.names(plan.run()))
            for agent, score in found.items():
                assert agent in self.known
                assert any(score == pytest.approx(had) for had in scores[agent])
            assert set(found) == {a for a, row in rows.items() if self.rows.row(a) == row}
        self.under_way.clear()

    @invariant()
    def sets_agree(self) -> None:
        assert [self.rows.agent(row) for row in self.rows.fitting()] == self.fitting(())
        lacking = [self.rows.agent(row) for row in self.index.lacking(self.rows.fitting())]
        assert lacking == [a for a in self.fitting(()) if self.known[a].vector is None]
        assert len(self.rows) == len(self.known)
        for tool in TOOLS:
            having = [self.rows.agent(row) for row in self.rows.fitting([tool])]
            assert having == self.fitting((tool,))
            named = [self.rows.agent(row) for row in self.rows.named(tool)]
            assert named == [a for a, known in self.known.items() if tool in known.tools]
        assert len(self.index) == sum(known.vector is not None for known in self.known.values())

    def fitting(self, tools: tuple[str, ...]) -> list[str]:
        return [a for a, k in self.known.items() if k.alive and set(tools) <= set(k.tools)]

    def nearest(
        self, tools: tuple[str, ...], query: tuple[int, int], limit: int
    ) -> list[tuple[str, float]]:
        scored = [
            (agent, cosine(vector, query))
            for agent in self.fitting(tools)
            if (vector := self.known[agent].vector) is not None
        ]
        return sorted(scored, key=lambda hit: -hit[1])[:limit]


class TestChanges(Changes.TestCase):
    settings = settings(bounded(60), stateful_step_count=40)


@bounded(100)
@given(
    st.lists(st.integers(-3, 3), min_size=1, max_size=300),
    st.data(),
)
def test_ties_fall_to_the_first_wherever_the_limit_cuts(
    levels: list[int], data: st.DataObject
) -> None:
    fitting = BitMap(data.draw(st.sets(st.integers(0, len(levels) - 1))))
    limit = data.draw(st.integers(0, len(levels) + 1))
    rows = AgentRows()
    index = VectorIndex(rows, DIMENSION)
    for number, level in enumerate(levels):
        rows.put(str(number), (), alive=True)
        index.put(str(number), packed((level, 2)))
    found = index.names(index.plan(packed((1, 0)), fitting, limit).run())
    expected = sorted(fitting, key=lambda row: (-levels[row], row))[:limit]
    assert [int(agent) for agent, _ in found] == expected
