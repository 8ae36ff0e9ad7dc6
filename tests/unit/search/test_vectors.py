import threading

import numpy as np
import pytest
from pyroaring import BitMap

from agentkeeper.search import blocks
from agentkeeper.search import rows as rows_module
from agentkeeper.search.rows import AgentRows
from agentkeeper.search.vectors import VectorIndex


def packed(*numbers: float) -> bytes:
    return np.array(numbers, "<f4").tobytes()


EAST, NORTH, WEST = packed(1, 0, 0), packed(0, 1, 0), packed(-1, 0, 0)


@pytest.fixture
def rows() -> AgentRows:
    rows = AgentRows()
    for agent_id in "abcd":
        rows.put(agent_id, ("even",) if agent_id in "bd" else ("odd",), alive=True)
    return rows


@pytest.fixture
def index(rows: AgentRows) -> VectorIndex:
    index = VectorIndex(rows, 3)
    index.put("a", EAST)
    index.put("b", NORTH)
    index.put("c", WEST)
    return index


def compact(rows: AgentRows) -> None:
    while rows.compact():
        pass


def search(
    index: VectorIndex, query: bytes, fitting: BitMap, limit: int = 10
) -> list[tuple[str, float]]:
    return index.names(index.plan(query, fitting, limit).run())


def test_the_nearest_come_first_with_their_cosines(rows: AgentRows, index: VectorIndex) -> None:
    found = search(index, packed(3, 4, 0), rows.fitting())
    assert [agent for agent, _ in found] == ["b", "a", "c"]
    assert [score for _, score in found] == pytest.approx([0.8, 0.6, -0.6])


def test_only_those_who_fit_are_found(rows: AgentRows, index: VectorIndex) -> None:
    assert [agent for agent, _ in search(index, EAST, rows.fitting(["odd"]))] == ["a", "c"]
    assert search(index, EAST, BitMap()) == []


@pytest.mark.parametrize(("limit", "agents"), [(0, ""), (-1, ""), (1, "a"), (2, "ab"), (9, "abc")])
def test_limits(rows: AgentRows, index: VectorIndex, limit: int, agents: str) -> None:
    found = search(index, EAST, rows.fitting(), limit)
    assert [agent for agent, _ in found] == list(agents)


def test_an_empty_index_finds_nobody() -> None:
    assert search(VectorIndex(AgentRows(), 3), EAST, BitMap([0, 7])) == []


def test_equal_vectors_are_tied_by_row_however_many_fit() -> None:
    rows, rng = AgentRows(), np.random.default_rng(6)
    index = VectorIndex(rows, 384)
    twin, query = (rng.standard_normal(384).astype("<f4").tobytes() for _ in range(2))
    for number in range(5000):
        rows.put(str(number), (), alive=True)
        index.put(str(number), twin)
    for fitting in (rows.fitting(), BitMap(range(0, 5000, 7)), BitMap(range(3, 5000, 999))):
        found = search(index, query, fitting, 50)
        assert [agent for agent, _ in found] == [str(row) for row in list(fitting)[:50]]
        assert len({score for _, score in found}) == 1


def test_who_lacks_a_vector(rows: AgentRows, index: VectorIndex) -> None:
    assert list(index.lacking(rows.fitting())) == [3]
    index.put("d", EAST)
    assert not index.lacking(rows.fitting())
    assert len(index) == 4


def test_a_later_vector_replaces_the_first(rows: AgentRows, index: VectorIndex) -> None:
    index.put("a", WEST)
    assert search(index, WEST, rows.fitting(["odd"])) == [("a", 1.0), ("c", 1.0)]


def test_a_vector_may_count_for_less(rows: AgentRows, index: VectorIndex) -> None:
    index.put("a", packed(2, 0, 0), 0.5)
    assert search(index, EAST, rows.fitting(["odd"])) == [("a", 0.5), ("c", -1.0)]


def test_the_dropped_are_not_found_and_come_back_without_vector(
    rows: AgentRows, index: VectorIndex
) -> None:
    rows.drop("a")
    assert [agent for agent, _ in search(index, EAST, rows.fitting())] == ["b", "c"]
    rows.put("a", (), alive=True)
    assert list(index.lacking(rows.fitting())) == [3, 4]
    index.put("unknown", EAST)
    assert len(index) == 2


@pytest.mark.parametrize(
    "vector",
    [
        b"",
        EAST[:-1],
        packed(1, 0),
        packed(1, 0, 0, 0),
        packed(0, 0, 0),
        packed(1, np.nan, 0),
        packed(np.inf, 0, 0),
    ],
)
def test_bad_vectors_are_refused(rows: AgentRows, index: VectorIndex, vector: bytes) -> None:
    with pytest.raises(ValueError, match="vector"):
        index.put("a", vector)
    with pytest.raises(ValueError, match="vector"):
        index.plan(vector, rows.fitting(), 1)
    assert search(index, EAST, rows.fitting(), 1) == [("a", 1.0)]


def test_huge_and_tiny_numbers_have_a_direction_too(rows: AgentRows, index: VectorIndex) -> None:
    index.put("a", packed(3e38, 3e38, 0))
    index.put("c", packed(1e-40, 0, 0))
    found = search(index, EAST, rows.fitting(["odd"]))
    assert [agent for agent, _ in found] == ["c", "a"]
    assert [score for _, score in found] == pytest.approx([1, 0.5**0.5])


def test_what_changes_during_a_search_gives_nobody_anothers_score(
    rows: AgentRows, index: VectorIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_module, "MIN_GONE", 1)
    plan = index.plan(WEST, rows.fitting(), 10)
    for agent_id in "abd":
        rows.drop(agent_id)
    before = plan.run()
    assert index.names(before) == [("c", 1.0)]
    compact(rows)
    after = plan.run()
    rows.put("e", (), alive=True)
    index.put("e", EAST)
    for hits in (before, after, plan.run()):
        assert index.names(hits) == [], "c has moved"
    assert search(index, WEST, rows.fitting()) == [("c", 1.0), ("e", -1.0)]


def test_rows_without_vector_are_moved_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "MIN_GONE", 1)
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 4)
    rows = AgentRows()
    index = VectorIndex(rows, 2)
    for number in range(20):
        rows.put(str(number), (), alive=True)
    for number in range(0, 12, 2):
        index.put(str(number), packed(1, number))
    for number in range(15):
        if number % 4:
            rows.drop(str(number))
    compact(rows)
    assert list(index.lacking(rows.fitting())) == [3, 4, 5, 6, 7, 8]
    assert [agent for agent, _ in search(index, packed(1, 0), rows.fitting())] == ["0", "4", "8"]


def test_a_plan_tells_how_much_it_reads(rows: AgentRows, index: VectorIndex) -> None:
    assert index.plan(EAST, rows.fitting(), 1).rows_scanned == 3
    assert index.plan(EAST, rows.fitting(["even"]), 1).rows_scanned == 1


def test_searching_while_others_come_and_go() -> None:
    rows, rng = AgentRows(), np.random.default_rng(2)
    index = VectorIndex(rows, 16)
    own = np.eye(16, dtype="<f4")

    def register(number: int) -> None:
        rows.put(str(number), (), alive=True)
        index.put(str(number), own[number % 16].tobytes())

    for number in range(6000):
        register(number)
    for first in range(6000, 30_000, 3000):
        sign = int(rng.integers(16))
        plan = index.plan(own[sign].tobytes(), rows.fitting(), 2000)
        hits = []
        thread = threading.Thread(target=lambda plan=plan, hits=hits: hits.append(plan.run()))
        thread.start()
        for number in range(first, first + 3000):
            register(number)
            rows.drop(str(number - 6000))
        compact(rows)
        thread.join()
        for agent, score in index.names(hits[0]):
            assert score == (1.0 if int(agent) % 16 == sign else 0.0)
    assert rows.moves > 0
