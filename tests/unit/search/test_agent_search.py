"""Agents found by meaning and by name, with vectors that say what is near."""

import math
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkeeper.search import agents as module
from agentkeeper.search import lexical
from agentkeeper.search import rows as rows_module
from agentkeeper.search.agents import AgentSearch
from agentkeeper.search.blocks import Floats, Rows, VectorBlocks
from agentkeeper.search.document import Document

EAST, NORTH_EAST, NORTH, WEST = 0.0, 45.0, 91.0, 180.0


def toward(degrees: float) -> bytes:
    """A unit vector in the plane: the cosine of two is that of the angle between them."""
    return struct.pack("<2f", math.cos(math.radians(degrees)), math.sin(math.radians(degrees)))


def document(
    agent_id: str, name: str = "", description: str = "busy", tools: tuple[str, ...] = ()
) -> Document:
    return Document(agent_id, name or f"agent {agent_id}", description, tools, (), ())


def everybody(agent_id: str) -> bool:
    return True


def fleet(*given: tuple[Document, float | None]) -> AgentSearch:
    search = AgentSearch()
    search.use_vectors(2)
    for each, degrees in given:
        search.put(each, True)
        if degrees is not None:
            search.give(each.agent_id, toward(degrees))
    return search


def compact(search: AgentSearch) -> None:
    while search.compact():
        pass


def ids(search: AgentSearch, query: str, degrees: float | None, limit: int = 10) -> list[str]:
    vector = None if degrees is None else toward(degrees)
    return [a for a, _ in search.rank(query, vector, (), limit, everybody)]


def test_the_nearest_comes_first_and_all_come() -> None:
    search = fleet(
        (document("w"), WEST), (document("n"), NORTH), (document("e"), EAST), (document("ne"), 45)
    )
    ranked = search.rank("whither", toward(EAST), (), 10, everybody)
    assert [a for a, _ in ranked] == ["e", "ne", "n", "w"]
    assert [score for _, score in ranked] == pytest.approx([1, math.sqrt(0.5), 0, 0], abs=1e-6)


def test_no_query_gives_the_oldest_first() -> None:
    search = fleet((document("c"), EAST), (document("a"), None), (document("b"), NORTH))
    assert search.rank("", None, (), 2, everybody) == [("c", 0.0), ("a", 0.0)]
    assert ids(search, "", NORTH) == ["c", "a", "b"]


def test_who_is_named_comes_first_however_far_away() -> None:
    search = fleet(
        (document("1", "near"), EAST),
        (document("2", "atlas-eu-3fa"), WEST),
        (document("3", "other", tools=("geo_coder",)), WEST),
        (document("4", "third", tools=("geo_coder",)), NORTH_EAST),
        (document("5", "Fair Play"), WEST),
        (document("6", "orpheus"), WEST),
    )
    for query, found in [
        ("atlas-eu-3fa", ["2"]),
        ("ask ATLAS-EU-3FA for a way", ["2"]),
        ("use geo_coder for it", ["4", "3"]),
        ("ask Fair Play about it", ["5"]),
        ("ask Orpheus about it", ["6"]),
        ("ask atlas-eu about it", ["2"]),
        ("geo_cod", ["4", "3"]),
    ]:
        assert ids(search, query, EAST)[: len(found)] == found, query


def test_a_word_that_others_use_names_nobody() -> None:
    search = fleet(
        (document("1", "translator"), WEST),
        (document("2", "lex", "translator of contracts"), EAST),
    )
    assert ids(search, "a translator who knows the law well", EAST) == ["2", "1"]


def test_words_of_a_name_help() -> None:
    search = fleet(
        (document("1", "x"), 60),
        (document("2", "x", tools=("erp_query",)), 70),
    )
    assert ids(search, "erp query", EAST) == ["2", "1"]


def test_who_has_no_vector_yet_is_ranked_by_its_words_among_the_others() -> None:
    search = fleet(
        (document("far"), 89),
        (document("words", "x", "reads crumpled receipts"), None),
        (document("silent"), None),
        (document("near"), 5),
    )
    assert ids(search, "crumpled receipts", EAST) == ["near", "words", "far", "silent"]


def test_without_the_querys_vector_words_decide() -> None:
    search = fleet((document("1"), EAST), (document("2", "x", "reads receipts"), WEST))
    ranked = search.rank("receipts", None, (), 10, everybody)
    assert [a for a, _ in ranked] == ["2", "1"]
    assert 0 < ranked[0][1] < 1
    assert ranked[1][1] == 0


def test_tools_filter_and_only_living_agents_are_found() -> None:
    search = fleet(
        (document("1", tools=("a", "b")), EAST),
        (document("2", tools=("a",)), EAST),
        (document("3", tools=("b", "a")), WEST),
        (document("4", tools=("a", "b")), EAST),
    )
    search.set_alive("4", False)
    for query in ("q", ""):
        ranked = search.rank(query, toward(EAST), {"a", "b"}, 10, everybody)
        assert [a for a, _ in ranked] == ["1", "3"]
    assert search.rank("q", toward(EAST), {"c"}, 10, everybody) == []
    search.set_alive("4", True)
    assert ids(search, "q", EAST, 3) == ["1", "2", "4"]


def test_those_that_do_not_fit_take_no_place_however_many_they_are() -> None:
    numbers = [f"{i:03}" for i in range(300)]
    search = fleet(*((document(n), i / 4) for i, n in enumerate(numbers)))
    found = search.rank("q", toward(EAST), (), 3, lambda a: a >= "290")
    assert [a for a, _ in found] == ["290", "291", "292"]
    assert search.rank("q", toward(EAST), (), 3, lambda a: False) == []


def test_an_agent_that_goes_while_a_search_is_under_way_is_not_found() -> None:
    search = fleet((document("1"), EAST), (document("2"), EAST), (document("3"), NORTH))
    under_way = search.prepare("q", toward(EAST), (), 2, everybody)
    assert under_way.rows_scanned == 3
    under_way.run()
    search.drop("1")
    search.put(document("4"), True)
    search.give("4", toward(EAST))
    assert [a for a, _ in search.finish(under_way)] == ["2", "4"]


def test_the_youngest_wait_first_until_they_have_a_vector_or_are_given_up() -> None:
    search = fleet(
        (document("1", tools=("a",)), None),
        (document("2"), EAST),
        (document("3"), None),
        (document("4", tools=("a",)), None),
    )
    assert list(search.waiting()) == ["4", "3", "1"]
    assert list(search.waiting({"a"})) == ["4", "1"]
    search.give_up("4")
    search.give_up("unknown")
    search.set_alive("3", False)
    assert list(search.waiting()) == ["1"]
    assert (search.pending(), search.pending({"a"}), search.vectors) == (1, 1, 1)
    search.give("1", toward(EAST))
    assert (list(search.waiting()), search.pending(), search.vectors) == ([], 0, 2)


def test_before_there_are_vectors_all_wait() -> None:
    search = AgentSearch()
    search.put(document("1"), True)
    search.give("1", toward(EAST))
    assert (search.vectors, search.pending(), list(search.waiting())) == (0, 1, ["1"])
    assert ids(search, "agent", EAST) == ["1"]


def test_the_same_card_keeps_its_vector_and_another_does_not() -> None:
    search = fleet((document("1", "x", "old"), EAST), (document("2"), EAST))
    search.put(document("1", "x", "old"), True)
    assert search.pending() == 0
    search.put(document("1", "x", "new"), True)
    assert list(search.waiting()) == ["1"]
    assert search.passage("1").endswith("new.")
    assert ids(search, "", None) == ["2", "1"]


def test_another_model_begins_anew() -> None:
    search = fleet((document("1"), EAST))
    search.use_vectors(3)
    assert search.pending() == 1
    search.give("1", struct.pack("<3f", 0, 0, 1))
    assert search.rank("q", struct.pack("<3f", 0, 0, 1), (), 5, everybody) == [("1", 1.0)]
    with pytest.raises(ValueError, match="bytes"):
        search.rank("q", toward(EAST), (), 5, everybody)


def test_unknown_agents_and_empty_sets_are_no_trouble() -> None:
    search = fleet()
    search.drop("x")
    search.set_alive("x", True)
    search.give("x", toward(EAST))
    assert ids(search, "q", EAST) == []
    assert len(search) == 0
    search.put(document("1"), True)
    assert ("1" in search, list(search), ids(search, "q", EAST, 0)) == (True, ["1"], [])
    search.drop("1")
    assert list(search) == []


NAMES = ["atlas-1", "atlas-2", "orpheus", "Fair Play", "reader"]
TOOLS = ["geo_coder", "sql_runner"]
QUERIES = [
    "",
    "atlas-1",
    "ask orpheus",
    "reader with geo_coder",
    "sql_runner geo_coder",
    "Fair Play",
]
changes = st.lists(
    st.tuples(
        st.sampled_from("abcdefgh"),
        st.sampled_from(["put", "drop", "dead", "give", "give"]),
        st.sampled_from(NAMES),
        st.sets(st.sampled_from(TOOLS)),
        st.sampled_from([0, 30, 60, 90, 120]),
    ),
    max_size=40,
)


@settings(max_examples=200, deadline=None)
@given(
    changes=changes,
    query=st.sampled_from(QUERIES),
    tools=st.sets(st.sampled_from(TOOLS), max_size=1),
    limit=st.integers(0, 6),
    unfit=st.sets(st.sampled_from("abcdefgh")),
)
def test_small_searches_agree_with_one_that_looks_at_everybody(
    changes: list[tuple[str, str, str, set[str], float]],
    query: str,
    tools: set[str],
    limit: int,
    unfit: set[str],
) -> None:
    search = fleet()
    living: dict[str, Document] = {}
    for agent_id, change, name, having, degrees in changes:
        if change == "put":
            search.put(document(agent_id, name, tools=tuple(sorted(having))), True)
            if living.get(agent_id) != search._documents[agent_id]:
                living.pop(agent_id, None)
            living[agent_id] = search._documents[agent_id]
        elif change == "drop":
            search.drop(agent_id)
            living.pop(agent_id, None)
        elif change == "dead":
            search.set_alive(agent_id, False)
            living.pop(agent_id, None)
        else:
            search.give(agent_id, toward(degrees))
    vector = toward(20)
    whole = search.rank(query, vector, (), 100, everybody)
    assert {a for a, _ in whole} == set(living)
    assert [s for _, s in whole] == sorted((s for _, s in whole), reverse=True)
    expected = [(a, s) for a, s in whole if a not in unfit and tools <= set(living[a].tools)]
    found = search.rank(query, vector, tools, limit, lambda a: a not in unfit)
    assert [a for a, _ in found] == [a for a, _ in expected[:limit]]
    assert [s for _, s in found] == pytest.approx([s for _, s in expected[:limit]])


def test_all_who_have_a_tool_are_told_from_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lexical, "MAX_NAMED", 5)
    search = fleet(
        *((document(f"{i:02}", "x", tools=("geo_coder",)), 80 - i) for i in range(20)),
        (document("near"), EAST),
    )
    assert ids(search, "use geo_coder for it", EAST, 21) == [
        f"{i:02}" for i in range(19, -1, -1)
    ] + ["near"]


def test_whom_a_name_means_changes_with_the_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "MIN_GONE", 1)
    search = fleet(*((document(str(i), "x", tools=("geo_coder",)), 10 * i) for i in range(6)))
    search.put(document("1", "x"), True)
    search.give("1", toward(EAST))
    for gone in "0234":
        search.drop(gone)
    assert ids(search, "geo_coder", EAST) == ["5", "1"]
    compact(search)
    assert ids(search, "geo_coder", EAST) == ["5", "1"]


def under_way(search: AgentSearch, limit: int = 10) -> module.Search:
    begun = search.prepare("crumpled receipts", toward(EAST), (), limit, everybody)
    begun.run()
    return begun


@pytest.mark.parametrize("limit", [1, 5, 30])
def test_a_vector_that_comes_during_a_search_counts(limit: int) -> None:
    search = fleet(*((document(f"{i:02}"), 80) for i in range(20)), (document("new"), None))
    begun = under_way(search, limit)
    search.give("new", toward(EAST))
    found = [a for a, _ in search.finish(begun)]
    assert found == ["new", *(f"{i:02}" for i in range(20))][:limit]


def test_who_is_not_alive_when_a_search_ends_is_not_found() -> None:
    search = fleet((document("1"), EAST), (document("2"), NORTH_EAST))
    begun = under_way(search)
    search.set_alive("1", False)
    assert [a for a, _ in search.finish(begun)] == ["2"]


def test_compaction_during_a_search_names_nobody_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "MIN_GONE", 1)
    search = fleet(*((document(str(i), "x", "old"), 10 * i) for i in range(10)))
    begun = under_way(search)
    for i in range(10):
        if i not in (0, 8, 9):
            search.drop(str(i))
    compact(search)
    search.put(document("0", "x", "new"), True)
    assert [a for a, _ in search.finish(begun)] == ["8", "9", "0"]


@settings(deadline=None, max_examples=60)
@given(data=st.data(), limit=st.integers(1, 12))
def test_a_search_during_compaction_finds_what_one_after_it_does(
    data: st.DataObject, limit: int
) -> None:
    angles = data.draw(st.lists(st.integers(0, 90), min_size=5, max_size=40))
    names = [f"{i:02}" for i in range(len(angles))]
    gone = data.draw(st.lists(st.sampled_from(names), unique=True, max_size=len(names)))
    scores = VectorBlocks.scores

    def step(search: AgentSearch) -> None:
        for _ in range(data.draw(st.integers(0, 6))):
            if gone and data.draw(st.booleans()):
                search.drop(gone.pop())
            search.compact()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows_module, "MIN_GONE", 1)
        patch.setattr(rows_module, "STEP_ROWS", 2)
        patch.setattr(module, "SPARE", 1)
        search = fleet(*((document(a, "x"), angle) for a, angle in zip(names, angles, strict=True)))
        for agent_id in names[: data.draw(st.integers(0, len(names)))]:
            search.drop(agent_id)
        begun = search.prepare("crumpled receipts", toward(EAST), (), limit, everybody)
        step(search)

        def moving(blocks: VectorBlocks, rows: Rows, query: Floats) -> Floats:
            step(search)  # as it would while another thread compares
            found = scores(blocks, rows, query)
            step(search)
            return found

        patch.setattr(VectorBlocks, "scores", moving)
        begun.run()
        patch.setattr(VectorBlocks, "scores", scores)
        step(search)
        search.put(document("new", "x"), True)
        search.give("new", toward(30))
        found = search.finish(begun)
        assert found == search.rank("crumpled receipts", toward(EAST), (), limit, everybody)


def test_whoever_comes_during_a_search_takes_no_ones_place_that_is_better(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "SPARE", 1)
    search = fleet((document("1"), 0), (document("2"), 5), (document("3"), 10))
    begun = under_way(search, 1)
    search.drop("1")
    search.drop("2")
    search.put(document("new"), True)
    search.give("new", toward(60))
    assert [a for a, _ in search.finish(begun)] == ["3"]


def test_a_search_of_a_former_model_ends_with_words() -> None:
    search = fleet((document("1"), EAST), (document("2", "x", "reads receipts"), WEST))
    begun = under_way(search)
    search.use_vectors(3)
    assert [a for a, _ in search.finish(begun)] == ["2", "1"]


@pytest.mark.parametrize("degrees", [None, EAST])
def test_ties_fall_to_the_oldest_wherever_the_limit_cuts(degrees: float | None) -> None:
    search = fleet(*((document(a, "atlas-1"), None) for a in "cab"))
    for limit in (1, 2, 3):
        assert ids(search, "atlas-1", degrees, limit) == ["c", "a", "b"][:limit]


def test_it_looks_at_a_bounded_number_when_few_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MORE", 50)
    search = fleet(*((document(f"{i:03}"), i / 4) for i in range(300)))
    asked: list[str] = []

    def nobody(agent_id: str) -> bool:
        asked.append(agent_id)
        return False

    for query in ("q", ""):
        asked.clear()
        assert search.rank(query, toward(EAST), (), 3, nobody) == []
        assert 0 < len(asked) <= 3 * (3 + 50)


def test_nothing_is_looked_at_again_for_those_without_vector() -> None:
    search = fleet(
        *((document(f"{i:02}"), EAST if i < 3 else None) for i in range(60)),
    )
    begun = under_way(search)
    assert [hits.cut for tier in begun.tiers for hits in tier.hits] == [False, False]


def test_a_mere_name_counts_for_less() -> None:
    search = fleet((document("1", "reader", ""), 30), (document("2", "reader"), 35))
    assert ids(search, "q", 30) == ["2", "1"]


def test_who_says_nothing_at_all_waits_for_no_vector() -> None:
    search = fleet((document("1", "!!!", ""), None), (document("2"), None))
    for _ in range(2):
        assert (list(search.waiting()), search.pending()) == (["2"], 1)
        search.use_vectors(2)
    search.put(document("1", "!!!"), True)
    assert list(search.waiting()) == ["1", "2"]
