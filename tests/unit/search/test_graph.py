import threading
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest
from pyroaring import BitMap

from agentkeeper.search import graph as graph_module
from agentkeeper.search import rows as rows_module
from agentkeeper.search.blocks import VectorBlocks
from agentkeeper.search.graph import Graph
from agentkeeper.search.rows import AgentRows
from agentkeeper.search.vectors import Hits, VectorIndex

hnswlib = pytest.importorskip("hnswlib")

DIMENSION = 16
GRAPH_FROM = 1000


@pytest.fixture(autouse=True)
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without probation, for what is found to come from the graph."""
    monkeypatch.setattr(graph_module, "PROBATION", 0)
    monkeypatch.setattr(graph_module, "CHECK_EVERY", 1_000_000)
    monkeypatch.setattr(graph_module, "REST", 0)


@pytest.fixture
def scanned(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many vectors are compared, one number for each time."""
    numbers: list[int] = []
    scores = VectorBlocks.scores

    def spy(blocks, rows, query):
        numbers.append(len(rows))
        return scores(blocks, rows, query)

    monkeypatch.setattr(VectorBlocks, "scores", spy)
    return numbers


class Fleet:
    """Agents with vectors that a graph and a plain list know."""

    def __init__(self, vectors: np.ndarray) -> None:
        self.vectors = vectors.astype("<f4")
        self.rows = AgentRows()
        self.index = VectorIndex(self.rows, vectors.shape[1], graph_from=GRAPH_FROM)
        for number in range(len(vectors)):
            tools = ("west",) if vectors[number, 0] < 0 else ("east",)
            self.rows.put(str(number), tools, alive=True)
            self.give(number, self.vectors[number])
        built()

    @property
    def in_graph(self) -> int:
        graph = self.index._graph
        return 0 if graph is None or graph.closed else len(graph)

    def give(self, number: int, vector: np.ndarray) -> None:
        self.vectors[number] = vector / np.linalg.norm(vector)
        self.index.put(str(number), vector.astype("<f4").tobytes())

    def find(self, query: np.ndarray, limit: int = 10, fitting: BitMap | None = None) -> list[int]:
        fitting = self.rows.fitting() if fitting is None else fitting
        plan = self.index.plan(query.astype("<f4").tobytes(), fitting, limit)
        return [int(agent) for agent, _ in self.index.names(plan.run())]

    def nearest(self, query: np.ndarray, limit: int = 10, tools: tuple[str, ...] = ()) -> list[int]:
        living = [int(self.rows.agent(row)) for row in self.rows.fitting(tools)]
        scores = np.vecdot(self.vectors, (query / np.linalg.norm(query)).astype("<f4"))
        return sorted(living, key=lambda number: -scores[number])[:limit]


def built() -> None:
    for thread in threading.enumerate():
        if thread.name == "vector-graph":
            thread.join()


def spread(count: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, DIMENSION))


@pytest.fixture
def fleet() -> Fleet:
    return Fleet(spread(3000))


def recall(fleet: Fleet) -> float:
    queries = spread(50, seed=2)
    shares = [len({*fleet.find(q)} & {*fleet.nearest(q)}) / 10 for q in queries]
    return float(np.mean(shares))


def test_what_the_graph_finds_is_what_a_scan_finds(fleet: Fleet, scanned: list[int]) -> None:
    assert fleet.in_graph > len(fleet.vectors) - graph_module.BATCH_ROWS
    assert recall(fleet) > 0.98
    assert max(scanned) < len(fleet.vectors) / 2


def test_few_vectors_need_no_graph() -> None:
    assert Fleet(spread(GRAPH_FROM - 1)).in_graph == 0


def test_without_the_library_searches_scan(
    monkeypatch: pytest.MonkeyPatch, scanned: list[int]
) -> None:
    monkeypatch.setattr(graph_module, "available", lambda: False)
    fleet = Fleet(spread(1500))
    assert fleet.in_graph == 0
    assert recall(fleet) == 1
    assert min(scanned) == 1500


def test_strong_filters_are_scanned(fleet: Fleet, scanned: list[int]) -> None:
    few = BitMap(range(0, 3000, 3))
    query = spread(1, seed=3)[0]
    assert (
        fleet.find(query, fitting=few) == [n for n in fleet.nearest(query, 3000) if n % 3 == 0][:10]
    )
    assert scanned == [1000]


def test_where_the_near_ones_do_not_fit_all_are_scanned(scanned: list[int]) -> None:
    fleet = Fleet(np.sign(spread(3000)[:, :1]) * np.eye(DIMENSION)[0] * 20 + spread(3000, seed=4))
    query = np.eye(DIMENSION)[0]
    west = fleet.rows.fitting(["west"])
    assert len(west) * 2 > 2900
    assert fleet.find(query, fitting=west) == fleet.nearest(query, tools=("west",))
    assert scanned[-1] == len(west)


@pytest.mark.parametrize("limit", [0, 1, 2999, 3000, 5000])
def test_any_limit(fleet: Fleet, limit: int) -> None:
    query = spread(1, seed=5)[0]
    assert fleet.find(query, limit) == fleet.nearest(query, limit)


def test_equal_vectors_are_tied_by_row_once_checks_have_shown_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(graph_module, "PROBATION", 32)
    vectors = np.repeat(spread(3), 500, axis=0)
    fleet = Fleet(vectors)
    assert fleet.in_graph > 0
    for _ in range(50):
        assert fleet.find(vectors[500], 40) == list(range(500, 540))


def test_the_dropped_and_the_changed(fleet: Fleet) -> None:
    query = spread(1, seed=6)[0].astype("<f4")
    first, second, third = fleet.find(query, 3)
    fleet.rows.drop(str(first))
    fleet.give(second, -query)
    assert fleet.find(query, 1) == [third]
    fleet.give(second, query)
    assert fleet.find(query, 2) == [second, third]
    for number in range(0, 3000, 4):
        fleet.rows.drop(str(number))
    built()
    assert recall(fleet) > 0.98


def test_newcomers_are_found_at_once_and_fill_the_graph_beyond_its_size(fleet: Fleet) -> None:
    for number, vector in enumerate(spread(6000, seed=7), 3000):
        fleet.rows.put(str(number), (), alive=True)
        fleet.index.put(str(number), vector.astype("<f4").tobytes())
        if number % 500 == 0:
            assert fleet.find(vector, 1) == [number]
    built()
    assert fleet.in_graph > 9000 - graph_module.BATCH_ROWS


def test_after_compacting_a_new_graph_is_built(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_module, "MIN_GONE", 1)
    for number in range(3000):
        if number % 5 < 3:
            fleet.rows.drop(str(number))
    built()
    query = spread(1, seed=12)[0]
    assert fleet.rows.compact()
    while fleet.rows.compact():
        assert fleet.in_graph == 0
        assert fleet.find(query) == fleet.nearest(query)
    built()
    assert fleet.in_graph == 1200
    assert recall(fleet) > 0.98


def test_a_graph_of_those_gone_gives_way_to_a_new_one(fleet: Fleet) -> None:
    for number in range(3000):
        fleet.rows.drop(str(number))
    vectors = spread(2000, seed=8)
    for number, vector in enumerate(vectors):
        fleet.rows.put(str(number), (), alive=True)
        fleet.give(number, vector)
        if number == 1500:
            built()
    built()
    assert fleet.in_graph > 2000 - graph_module.BATCH_ROWS
    assert recall(fleet) > 0.98


def test_vectors_too_alike_are_scanned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_module, "PROBATION", 32)
    monkeypatch.setattr(graph_module, "SEARCH_WIDTH", 1)
    monkeypatch.setattr(graph_module, "LINKS", 2)
    groups = np.repeat(spread(20), 100, axis=0) + 0.01 * spread(2000, seed=9)
    fleet = Fleet(groups)
    assert fleet.in_graph > 0
    assert recall(fleet) == 1  # while they are checked, searches give what the scan does
    assert fleet.in_graph == 0
    assert recall(fleet) == 1


def test_a_graph_that_finds_most_is_kept(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_module, "PROBATION", 32)
    recall(fleet)
    assert fleet.in_graph > 0


def test_a_failing_library_leaves_the_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def __init__(self, **_: object) -> None:
            raise MemoryError

    monkeypatch.setattr(hnswlib, "Index", Broken)
    fleet = Fleet(spread(1500))
    assert fleet.in_graph == 0
    assert recall(fleet) == 1


def test_searches_while_it_grows(fleet: Fleet) -> None:
    searches: list[tuple[int, Future[Hits]]] = []
    with ThreadPoolExecutor(2) as threads:
        for number, vector in enumerate(spread(3000, seed=10), 3000):
            fleet.rows.put(str(number), (), alive=True)
            fleet.index.put(str(number), vector.astype("<f4").tobytes())
            if number % 10 == 0:
                wanted = number - 3000
                query = fleet.vectors[wanted].tobytes()
                plan = fleet.index.plan(query, fleet.rows.fitting(), 1)
                searches.append((wanted, threads.submit(plan.run)))
            else:
                fleet.rows.drop(str(number - 3000))
    built()
    for wanted, search in searches:
        assert [agent for agent, _ in fleet.index.names(search.result())] == [str(wanted)]


def test_a_closed_index_still_scans_and_hears_no_more(fleet: Fleet) -> None:
    query = spread(1, seed=11)[0]
    fleet.index.close()
    assert fleet.find(query) == fleet.nearest(query)
    assert fleet.in_graph == 0
    fleet.rows.drop("0")
    assert len(fleet.index) == 3000


def test_a_graph_asked_for_too_many_or_too_early_says_so() -> None:
    blocks = VectorBlocks(2)
    graph = Graph(2, blocks)
    query = np.array([1, 0], "<f4")
    assert graph.near(query, 1) is None
    for row in range(graph_module.BATCH_ROWS):
        blocks.put(row, np.array([1, row], "<f4"))
    graph.add(BitMap(range(graph_module.BATCH_ROWS)))
    built()
    assert graph.near(query, graph_module.BATCH_ROWS + 1) is None
    assert graph.near(query, 1) is not None
    graph.close()
    assert graph.near(query, 1) is None
