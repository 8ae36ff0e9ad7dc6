"""What is embedded of an agent, and of a query."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkeeper.search.document import Document
from agentkeeper.search.passage import MAX_CHARS, passage, spelled, wanted


def agent(
    name: str,
    description: str = "",
    tools: tuple[str, ...] = (),
    capabilities: tuple[tuple[str, str], ...] = (),
) -> Document:
    return Document("id", name, description, tools, capabilities, (("team", "data"),))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("expense-ocr", "expense ocr"),
        ("parseInvoice_v2", "parse Invoice v2"),
        ("HTTPClient", "HTTP Client"),
        ("tool:write_file", "tool write file"),
        ("Grandmaster Bot", "Grandmaster Bot"),
        ("größenRechner", "größen Rechner"),
        ("--", ""),
    ],
)
def test_names_are_spelled_out(name: str, words: str) -> None:
    assert spelled(name) == words


def test_a_passage_is_the_name_and_what_the_agent_says() -> None:
    told = agent(
        "expense-ocr",
        "Reads receipts and writes them down.",
        ("image_ocr",),
        (("read-total", "Finds the sum"),),
    )
    assert passage(told) == (
        "expense ocr: Reads receipts and writes them down. read total: Finds the sum."
    )


def test_who_says_little_is_known_by_its_tools() -> None:
    assert passage(agent("w-1", "Worker.", ("sql_runner", "pdfReader"))) == (
        "w 1: Worker. sql runner, pdf Reader."
    )
    assert passage(agent("w-1")) == "w 1"


def test_a_long_description_leaves_room_for_capabilities() -> None:
    told = agent("n", "word " * 2000, capabilities=(("ski", "on snow"),))
    assert "ski: on snow" in passage(told)
    assert len(passage(told)) <= MAX_CHARS
    assert len(passage(agent("n", "word " * 2000))) == MAX_CHARS


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        ("I need an agent that can read receipts", "read receipts"),
        ("someone who can make sense of a till receipt", "make sense of a till receipt"),
        ("Hello! Is there anybody who could help me with my taxes?", "my taxes?"),
        ("I'm looking for a bot which would sing", "sing"),
        ("which agents are able to handle PDFs", "handle PDFs"),
        ("can you please help us to move", "move"),
        ("who knows how to fix a pipe", "fix a pipe"),
        ("find someone: bake bread", "bake bread"),
        ("help me with math", "math"),
        # What only looks like the beginning of a request is what is asked for.
        ("find receipts", "find receipts"),
        ("I would like two weeks off", "I would like two weeks off"),
        ("which bin does this go into", "which bin does this go into"),
        ("agent", "agent"),
        ("what agent", "what agent"),
        ("atlas-eu-3fa", "atlas-eu-3fa"),
        ("need bot detection", "need bot detection"),
        ("I need a bot detector", "I need a bot detector"),
        ("find expert witnesses for a trial", "find expert witnesses for a trial"),
        ("I need people analytics", "I need people analytics"),
        ("find people on LinkedIn", "find people on LinkedIn"),
        ("find people who are on LinkedIn", "are on LinkedIn"),
        ("is there an expert on taxes", "on taxes"),
        ("find somebody  booking\tflights", "booking flights"),
        ("hi-res image upscaling", "hi-res image upscaling"),
        ("", ""),
    ],
)
def test_what_a_query_asks_for(query: str, asked: str) -> None:
    assert wanted(query) == asked


POLITE = ["i", "need", "an", "agent", "who", "can", "help", "me", ",", "receipts"]


@given(st.one_of(st.text(), st.lists(st.sampled_from(POLITE)).map(" ".join)))
def test_what_is_asked_for_is_the_end_of_the_query(query: str) -> None:
    asked = wanted(query)
    whole = " ".join(query.split())
    assert asked == whole or (asked and whole.endswith(asked))
