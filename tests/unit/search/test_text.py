import pytest

from agentkeeper.search.text import (
    MAX_TERM_CHARS,
    fold,
    is_compound,
    may_begin_a_name,
    query_addressees,
    query_identifiers,
    query_phrases,
    query_terms,
    terms,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", set()),
        ("  ,;! ", set()),
        ("Hello, world.", {"hello", "world"}),
        ("sql_runner", {"sql_runner", "sql", "runner"}),
        ("atlas-eu-3fa", {"atlas-eu-3fa", "atla", "eu", "3fa", "3", "fa"}),
        ("tool:write_file", {"tool:write_file", "write_file", "tool", "write", "file"}),
        ("httpClient", {"httpclient", "http", "client"}),
        ("HTTPServer2", {"httpserver2", "http", "server", "2"}),
        ("v1.2", {"v1.2", "v1", "v", "1", "2"}),
        ("C++ and C#", {"c++", "c#", "c", "and"}),
        ("a@b.example", {"a@b.example", "b.example", "a", "b", "example"}),
        ("Café CAFÉ cafe\u0301", {"cafe"}),
        ("Maß", {"mass"}),
        ("ПОИСК данных", {"поиск", "данных"}),
        ("हिन्दी", {"हिन्दी"}),
        ("网页抓取", {"网页", "页抓", "抓取"}),
        ("読", {"読"}),
        ("１２", {"12"}),  # noqa: RUF001
        ("🤖 bot", {"bot"}),
    ],
)
def test_terms_of_a_text(text: str, expected: set[str]) -> None:
    assert set(terms(text)[0]) == expected


def test_length_counts_words_not_the_terms_made_of_them() -> None:
    assert terms("runs sql_runner on HTTPServer2")[1] == 5


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("page", "pages"),
        ("fetch", "fetches"),
        ("parse", "parses"),
        ("process", "processes"),
        ("summary", "summaries"),
        ("cache", "caches"),
        ("box", "boxes"),
        ("size", "sizes"),
        ("PDF", "PDFs"),
    ],
)
def test_plural_and_third_person_are_one_term(one: str, other: str) -> None:
    assert set(terms(one)[0]) & set(terms(other)[0])


@pytest.mark.parametrize("word", ["analysis", "status", "access", "aws", "this", "bus", "is"])
def test_a_final_s_that_is_no_plural_stays(word: str) -> None:
    assert terms(word)[0] == [word]


def test_overlong_runs_are_no_terms() -> None:
    assert terms("x" * (MAX_TERM_CHARS + 1))[0] == []
    assert terms("x" * MAX_TERM_CHARS)[0] == ["x" * MAX_TERM_CHARS]


def test_a_query_drops_filler_unless_it_is_all_there_is() -> None:
    assert query_terms("who can write to the database") == ["write", "database"]
    assert query_terms("who can") == ["who", "can"]
    assert query_terms("data, data; DATA") == ["data"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", []),
        ("find the browser on GitHub", []),
        ("use sql_runner!", [["sql_runner!", "sql_runner"]]),
        ("at 3pm, 3:30 pm, 24/7 or on 2024-11-23, the 2nd", []),
        ("the 3fa one", [["3fa"]]),
        ("who has (tool:write_file)?", [["(tool:write_file)?", "tool:write_file", "write_file"]]),
    ],
)
def test_what_tokens_of_a_query_may_name(query: str, expected: list[list[str]]) -> None:
    assert query_identifiers(query) == expected


def test_names_are_compared_without_case_and_compatibility_forms() -> None:
    assert fold(" Ａtlas-ÉU ") == fold("atlas-eu")  # noqa: RUF001


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("translate it", []),
        ("ask for it, task me, a@b", []),
        ("Ask Fair Play", [["fair play", "fair"]]),
        ("please ask the curator", [["curator"]]),
        ("@Max, do it", [["max do it", "max do", "max"]]),
    ],
)
def test_who_is_asked(query: str, expected: list[list[str]]) -> None:
    assert query_addressees(query) == expected


def test_names_in_a_sentence_have_no_words_that_say_nothing() -> None:
    assert query_phrases("Code review, help me") == {
        "code",
        "review",
        "help",
        "code review",
        "review help",
        "code review help",
    }


@pytest.mark.parametrize(
    ("identifier", "inside", "alone"),
    [
        ("e-mail", False, True),
        ("atlas-eu", False, True),
        ("atlas-eu-west", True, True),
        ("geo_cod", True, True),
        ("atlas-3", True, True),
        ("atlas", False, False),
        ("4711", False, False),
        ("atlas eu-3", False, False),
    ],
)
def test_what_may_begin_a_name(identifier: str, inside: bool, alone: bool) -> None:
    assert may_begin_a_name(identifier, alone=False) == inside
    assert may_begin_a_name(identifier, alone=True) == alone


def test_compounds_are_joined_words_in_any_script() -> None:
    assert all(map(is_compound, ["and/or", "sql_runner", "c++"]))
    assert not any(map(is_compound, ["sql", "अनुवाद", "3fa", "网页"]))
