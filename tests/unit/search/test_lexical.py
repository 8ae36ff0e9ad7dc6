import math
import subprocess
import sys
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkeeper.search import lexical
from agentkeeper.search.document import Document
from agentkeeper.search.lexical import LexicalIndex
from agentkeeper.search.text import query_terms


def document(
    agent_id: str,
    name: str = "",
    description: str = "",
    tools: tuple[str, ...] = (),
    capabilities: tuple[tuple[str, str], ...] = (),
    *,
    metadata: tuple[tuple[str, str], ...] = (),
) -> Document:
    return Document(agent_id, name or agent_id, description, tools, capabilities, metadata)


FLEET = [
    document("a1", "scraper-1", "Fetches and parses web pages", ("browser", "http_client")),
    document(
        "a2",
        "analyst-1",
        "Reads data and produces summaries of it",
        ("sql_runner", "pdf_reader"),
        metadata=(("team", "data"), ("region", "us-east")),
    ),
    document("a3", "clerk", "Processes invoices and receipts", ("pdf_reader", "write_file")),
    document("a4", "atlas-eu-3fa", "Plans routes on the map", ("geocoder",)),
    document("a5", "atlas-eu-3fb", "Plans routes for atlas-eu-3fa", ("geocoder", "map_tiles")),
    document("a6", "writer", "Writes a file, writes files, writes file after file", ("editor",)),
    document(
        "a7",
        "helper",
        "Does many things",
        capabilities=(("translate-text", "From one natural language into another"),),
    ),
    document("a8", "ПОИСК", "Ищет страницы в сети"),
    document("a9", "Invoice Robot", "Zahlt Rechnungen für Café Zürich"),
]


def index_of(documents: list[Document]) -> LexicalIndex:
    index = LexicalIndex()
    for each in documents:
        index.put(each)
    return index


def ids(index: LexicalIndex, query: str, limit: int = 10) -> list[str]:
    return [agent_id for agent_id, _ in index.rank(query, None, limit)]


@pytest.fixture(scope="module")
def fleet() -> LexicalIndex:
    return index_of(FLEET)


@pytest.mark.parametrize(
    ("query", "best"),
    [
        ("fetch and parse web pages", "a1"),
        ("scrape structured data from a web page", "a1"),
        ("process invoices", "a3"),
        ("who can summarise? I need a summary of my data", "a2"),
        ("us-east", "a2"),
        ("plan a route", "a4"),
        ("translate into another language", "a7"),
        ("sql", "a2"),
        ("geocode with map tiles", "a5"),
        ("страницы", "a8"),
        ("zurich cafe", "a9"),
        ("HTTP client", "a1"),
        ("httpClient", "a1"),
    ],
)
def test_relevance(fleet: LexicalIndex, query: str, best: str) -> None:
    assert ids(fleet, query)[0] == best


@pytest.mark.parametrize(
    ("query", "best"),
    [
        ("atlas-eu-3fa", "a4"),
        ("ATLAS-EU-3FA", "a4"),
        ("routes for atlas-eu-3fa", "a4"),
        ("atlas-eu-3fb", "a5"),
        ("write_file", "a3"),
        ("an agent that writes files with tool:write_file, please", "a3"),
        ("translate-text", "a7"),
        ("invoice robot", "a9"),
        ("a6", "a6"),
    ],
)
def test_identifiers_outrank_every_sum_of_words(fleet: LexicalIndex, query: str, best: str) -> None:
    (first, score), *others = fleet.rank(query, None, 10)
    assert first == best
    assert all(score > 2 * other for _, other in others)


def test_an_agent_of_that_name_precedes_one_with_a_tool_of_that_name() -> None:
    index = index_of([document("a", "x", tools=("sql_runner",)), document("b", "sql_runner")])
    assert ids(index, "sql_runner") == ["b", "a"]


def test_having_both_tools_beats_having_one() -> None:
    index = index_of(
        [
            document("a", tools=("t_1",)),
            document("b", tools=("t_2",)),
            document("c", tools=("t_1", "t_2")),
        ]
    )
    assert ids(index, "t_1 t_2")[0] == "c"


def test_a_word_in_the_name_counts_more_than_one_in_the_description() -> None:
    index = index_of(
        [document("a", "runner", "an atlas of maps"), document("b", "atlas agent", "of maps, runs")]
    )
    assert ids(index, "the atlas maps agent")[0] == "b"


def test_only_agents_that_match_something_are_ranked(fleet: LexicalIndex) -> None:
    assert ids(fleet, "browser") == ["a1"]
    assert ids(fleet, "nothing-like-this-xyzzy") == []
    assert ids(fleet, "") == []
    assert ids(fleet, "?!") == []


def test_limit_and_ties(fleet: LexicalIndex) -> None:
    same = index_of([document(f"{i:02}", "worker", "works") for i in range(30)])
    assert ids(same, "worker", 3) == ["00", "01", "02"]
    assert ids(same, "works", 100) == [f"{i:02}" for i in range(30)]
    assert ids(same, "worker", 0) == []
    assert ids(fleet, "pdf_reader", 1) == ids(fleet, "pdf_reader", 5)[:1]


def test_those_not_among_take_no_place() -> None:
    index = index_of([document(f"{i:02}", "worker", "works") for i in range(30)])
    assert [a for a, _ in index.rank("worker", lambda a: a >= "20", 2)] == ["20", "21"]


def test_put_replaces_and_drop_forgets() -> None:
    index = index_of([document("a", "old", "alpha"), document("b", "other", "beta")])
    index.put(document("a", "new", "gamma"))
    assert len(index) == 2
    assert ids(index, "alpha old") == []
    assert ids(index, "gamma") == ["a"]
    index.drop("a")
    index.drop("a")
    index.drop("never-seen")
    assert len(index) == 1
    assert ids(index, "gamma") == []
    index.drop("b")
    assert len(index) == 0
    assert index.rank("beta", None, 5) == []


def test_nothing_of_a_dropped_agent_is_kept() -> None:
    index = LexicalIndex()
    for i in range(50):
        index.put(document(f"id{i}", f"name-{i}", f"word{i}", (f"tool_{i}",)))
        index.drop(f"id{i}")
    assert not any([index._postings, index._terms, index._lengths, index._total_length])


def test_of_a_huge_document_the_beginning_and_all_names_are_known() -> None:
    tools = tuple(f"tool_{i}_{'x_y_z_' * 30}" for i in range(256))
    index = index_of([document("a", "n", "needle", tools), document("b", "n", "needle")])
    assert ids(index, "needle") == ["b"]
    assert ids(index, tools[-1]) == ["a"]
    index.drop("a")
    assert ids(index, "x") == []


WORDS = [
    "fetch",
    "web",
    "page",
    "sql",
    "sql_runner",
    "atlas-eu-3fa",
    "tool:write_file",
    "the",
    "é",
    "数据库",
    "=",
]
texts = st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join)
documents = st.builds(
    Document,
    agent_id=st.sampled_from(["id-1", "id-2", "id-3", "id-4", "id-5"]),
    name=texts,
    description=texts,
    tools=st.lists(st.sampled_from(WORDS), max_size=3).map(tuple),
    capabilities=st.lists(st.tuples(texts, texts), max_size=2).map(tuple),
    metadata=st.lists(st.tuples(texts, texts), max_size=2).map(tuple),
)
queries = st.one_of(texts, st.text(max_size=20))


@given(
    changes=st.lists(st.one_of(documents, st.sampled_from(["id-1", "id-2", "id-9"]))), query=queries
)
def test_changes_one_by_one_equal_a_rebuilt_index(
    changes: list[Document | str], query: str
) -> None:
    index = LexicalIndex()
    present: dict[str, Document] = {}
    for change in changes:
        if isinstance(change, str):
            index.drop(change)
            present.pop(change, None)
        else:
            index.put(change)
            present[change.agent_id] = change
    rebuilt = index_of([present[key] for key in sorted(present, reverse=True)])
    assert len(index) == len(rebuilt) == len(present)
    for limit in (1, 2, 10):
        assert index.rank(query, None, limit) == rebuilt.rank(query, None, limit)
        kept = index.rank(query, lambda a: a != "id-2", limit)
        assert kept == rebuilt.rank(query, lambda a: a != "id-2", limit)


def plain_bm25f(
    fleet: list[Document], query: str, among: Callable[[str], bool]
) -> list[tuple[str, float]]:
    """The formula as it is written, over everybody, for words alone."""
    weighed = {each.agent_id: lexical._weigh(each) for each in fleet}
    average = sum(length for _, length in weighed.values()) / len(weighed)
    scores: dict[str, float] = {}
    total = 0.0
    for term in query_terms(query):
        having = [a for a, (weights, _) in weighed.items() if term in weights]
        idf = math.log(1 + (len(weighed) - len(having) + 0.5) / (len(having) + 0.5))
        total += idf
        for agent_id in filter(among, having):
            weights, length = weighed[agent_id]
            tf = weights[term] / 2
            k = 1.2 * (0.25 + 0.75 * length / average)
            scores[agent_id] = scores.get(agent_id, 0.0) + idf * tf / (tf + k)
    shares = ((agent_id, score / total) for agent_id, score in scores.items())
    return sorted(shares, key=lambda item: (-item[1], item[0]))


PLAIN = ["fetch", "web", "page", "sql", "maps", "route", "the", "of", "plan", "data", "file"]
SKEWED = [word for i, word in enumerate(PLAIN) for _ in range(2 ** (i // 2))]
crowds = st.lists(
    st.lists(st.sampled_from(SKEWED), min_size=1, max_size=8), min_size=1, max_size=60
)


AMONG: list[Callable[[str], bool]] = [
    lambda _: True,
    lambda agent_id: not agent_id.endswith("7"),
    lambda agent_id: agent_id.endswith("7"),
    lambda _: False,
]


@settings(max_examples=300)
@given(
    crowd=crowds,
    query=st.lists(st.sampled_from(PLAIN), min_size=1, max_size=6),
    limit=st.integers(1, 8),
    among=st.sampled_from(AMONG),
)
def test_stopping_early_changes_no_result(
    crowd: list[list[str]], query: list[str], limit: int, among: Callable[[str], bool]
) -> None:
    fleet = [document(f"{i:03}", "n", " ".join(words)) for i, words in enumerate(crowd)]
    text = " ".join(query) + " x"  # the query as a whole names nobody
    found = index_of(fleet).rank(text, among, limit)
    expected = plain_bm25f(fleet, text, among)
    assert [score for _, score in found] == pytest.approx([s for _, s in expected[:limit]])
    by_id = dict(expected)
    assert all(by_id[agent_id] == pytest.approx(score) for agent_id, score in found)
    assert len({agent_id for agent_id, _ in found}) == len(found)


@pytest.mark.parametrize("every", [1, 2, 100, 400, 10_000])
def test_a_selective_filter_gets_the_best_of_its_own(every: int) -> None:
    fleet = [document(f"{i:04}", "n", "map " * (1 + i * 7 % 9) + "route") for i in range(1000)]
    index = index_of(fleet)

    def among(agent_id: str) -> bool:
        return int(agent_id) % every == every - 1

    everybody = index.rank("map route", None, 1000)
    expected = [item for item in everybody if among(item[0])]
    for limit in (1, 3, 10, 1000):
        assert index.rank("map route", among, limit) == expected[:limit]


def test_a_filter_that_lets_most_pass_is_asked_about_few() -> None:
    index = index_of([document(f"{i:04}", "n", "map " * (1 + i % 9)) for i in range(2000)])
    asked: list[str] = []

    def among(agent_id: str) -> bool:
        asked.append(agent_id)
        return True

    assert len(index.rank("map", among, 10)) == 10
    assert len(asked) == 10


def test_a_query_beyond_its_bound_still_finds_the_rarest_words_agents(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lexical, "MAX_READS", 100)
    monkeypatch.setattr(lexical, "MAX_CONTENDERS", 5)
    common = " ".join(f"common{i}" for i in range(10))
    fleet = [document(f"{i:03}", "n", common) for i in range(200)]
    fleet += [document("rare", "n", "needle and much else besides")]
    asked = 0

    def among(_: str) -> bool:
        nonlocal asked
        asked += 1
        return True

    found = index_of(fleet).rank(f"needle {common}", among, 3)
    assert "rare" in [agent_id for agent_id, _ in found]
    assert asked <= 201


@given(
    crowd=crowds,
    query=st.lists(st.sampled_from(PLAIN), min_size=1, max_size=6).map(" ".join),
    limit=st.integers(1, 8),
)
def test_contenders_get_the_scores_they_would_get_among_all(
    crowd: list[list[str]], query: str, limit: int
) -> None:
    fleet = [document(f"{i:03}", "n", " ".join(words)) for i, words in enumerate(crowd)]
    index = index_of(fleet)
    some = [each.agent_id for each in fleet[::3]]
    found = index.rank(query, None, limit, [*some, "unknown"])
    expected = [item for item in index.rank(query, None, 1000) if item[0] in some][:limit]
    assert [score for _, score in found] == pytest.approx([score for _, score in expected])
    assert {a for a, _ in found} <= set(some)


def test_an_identifier_may_be_the_beginning_of_names_but_no_word_or_number_is() -> None:
    index = index_of(
        [
            document("4711aa", "atlas-eu-3fa"),
            document("471299", "atlas-eu-3fb"),
            document("b", "realtime-7", "for real-time needs"),
            document("c", "real-time-bidder"),
        ]
    )
    assert [(a, round(s)) for a, s in index.rank("ask atlas-eu-3f", None, 2)] == [
        ("4711aa", 1),
        ("471299", 1),
    ]
    for query in ("4711", "471299 a", "atla", "real-time"):
        clauses = index.identified(query)
        assert all(clause.bound > 1 for clause in clauses), query
    index.drop("4711aa")
    assert [a for a, s in index.rank("atlas-eu-3", None, 9) if s >= 1] == ["471299"]


def test_words_of_names_hint_at_agents_and_those_of_descriptions_do_not() -> None:
    index = index_of(
        [
            document("a", "invoice-reader", tools=("pdf_reader",)),
            document("b", "x", "reads an invoice"),
            document("c", "invoice-writer"),
        ]
    )
    hinted = index.hinted("I need someone for an invoice reader")
    assert hinted["a"] == pytest.approx(1)
    assert 0 < hinted["c"] < hinted["a"]
    assert "b" not in hinted
    assert index.hinted("?!") == index.hinted("") == {}


@pytest.mark.parametrize(
    "query",
    [
        "I need a translator for a German contract",
        "code review of my Go pull request",
        "please help me with my taxes",
        "answer my customer's e-mail",
        "a 3pm call about GitHub",
        "figures of sales for 2024",
    ],
)
def test_ordinary_words_of_a_sentence_are_but_hints(query: str) -> None:
    names = ["translator", "Code Review", "help me", "e-mail-harvester", "3pm", "GitHub", "sales"]
    index = index_of([document(f"id-{name}", name) for name in names])
    assert index.identified(query) == []
    assert all(score < 1 for _, score in index.rank(query, None, 10))


def test_a_whole_name_hints_more_than_its_share_of_the_words() -> None:
    index = index_of([document("1", "translator"), document("2", "Code Review")])
    assert index.hinted("a translator for my German contract with somebody") == {"1": 0.5}
    assert index.hinted("review my long German contract with somebody")["2"] < 0.5
    assert index.hinted("code review of my long German contract")["2"] >= 0.5


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("curator", 3),
        ("Curator!", 3),
        ("ask curator for it", 3),
        ("please ask the curator", 3),
        ("tell @curator about it", 3),
        ("a curator for our museum", None),
        ("the-cur", 1),
        ("ask the-cur for it", 1),
        ("ask of the-cur to wait", None),
    ],
)
def test_a_name_of_words_counts_where_it_is_all_or_is_asked(query: str, found: int | None) -> None:
    index = index_of([document("1", "curator"), document("2", "the-curious")])
    bounds = [clause.bound for clause in index.identified(query)]
    assert bounds == ([] if found is None else [found])


def test_a_plural_that_is_a_name_hints_and_a_number_among_words_does_not() -> None:
    index = index_of([document("1", "sales"), document("2", "2024-archive"), document("3", "b-45")])
    assert set(index.hinted("who does sales well in 2024")) == {"1"}
    assert index.hinted("who does sales well in 2024")["1"] >= 0.5
    assert set(index.hinted("archive of 2024")) == {"2"}
    assert set(index.hinted("45")) == {"3"}, "there is nothing else to go by"


def test_hints_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lexical, "MAX_HINTS", 5)
    monkeypatch.setattr(lexical, "MAX_HINTING", 2)
    fleet = [document(f"{i:02}", f"n{'abc'[i % 3]} x") for i in range(12)]
    fleet += [document("rare", "needle")]
    hinted = index_of(fleet).hinted("na nb nc needle")
    assert len(hinted) == 5
    assert "rare" in hinted


def test_identifiers_are_bounded_and_named_by_their_terms() -> None:
    index = index_of([document("a", "x", tools=tuple(f"tool_{i}" for i in range(40)))])
    query = " ".join(f"tool_{i}" for i in range(40))
    named = index.named_terms(query)
    assert 0 < len(named) <= lexical.MAX_IDENTIFIERS
    assert {term for those, _ in named for term in those} <= set(
        lexical.whole_names(document("a", "x", tools=tuple(f"tool_{i}" for i in range(40))))
    )
    assert [clause.bound for clause in index.identified(query)] == [bound for _, bound in named]


@given(fleet=st.lists(documents, max_size=5), query=st.one_of(queries, st.text(max_size=60)))
def test_no_text_is_too_odd_to_be_looked_for(fleet: list[Document], query: str) -> None:
    index = index_of(fleet)
    assert all(0 < hint <= 1 + 1e-9 for hint in index.hinted(query).values())
    assert all(score > 0 for _, score in index.rank(query, None, 5))


@pytest.mark.parametrize("query", ["and/or", "is-it", "अनुवाद", "תִּרְגּוּם", "க்க"])
def test_compounds_and_marks_that_nobody_has_hint_at_nobody(query: str) -> None:
    index = index_of([document("1", "x", "reads receipts")])
    assert index.hinted(query) == {}


def test_ties_go_by_the_order_given_however_few_are_asked_for() -> None:
    index = index_of([document(f"{i:02}", "worker", "works") for i in range(60)])
    for limit in (1, 3, 60):
        found = index.rank("worker", None, limit, (), lambda agent_id: -int(agent_id))
        assert [a for a, _ in found] == [f"{59 - i:02}" for i in range(limit)]


def test_one_word_of_very_many_still_finds_as_many_as_are_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lexical, "MAX_READS", 50)
    monkeypatch.setattr(lexical, "MAX_CONTENDERS", 20)
    fleet = [document(f"{i:03}", "n", "common", ("all_have",)) for i in range(200)]
    fleet += [document("rare", "n", "needle", ("all_have",))]
    index = index_of(fleet)
    assert len(index.rank("common", None, 10)) == 10
    found = index.rank("needle with all_have", None, 10)
    assert found[0][0] == "rare"
    assert len(found) == 10
    assert all(score > 2 for _, score in found)


def test_words_beyond_the_number_a_query_may_have_are_dropped() -> None:
    words = [f"w{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(lexical.MAX_QUERY_TERMS + 20)]
    fleet = [document(f"{i:03}", "n", word) for i, word in enumerate(words)]
    found = index_of(fleet).rank(" ".join(words), None, 1000)
    assert len(found) == lexical.MAX_QUERY_TERMS


def test_results_do_not_depend_on_the_hash_seed() -> None:
    program = (
        "from agentkeeper.search.lexical import *\n"
        "ix = LexicalIndex()\n"
        "for i in range(40):\n"
        "    ix.put(Document(f'{i:x}', f'atlas-{i % 7}', 'plans routes ' * (i % 3) + 'on maps',"
        " (f'tool_{i % 5}',), (), (('zone', str(i % 4)),)))\n"
        "print(ix.rank('plan maps atlas-3 tool_2 zone', None, 15))\n"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "77")
    }
    assert len(outputs) == 1
    assert outputs != {b""}
