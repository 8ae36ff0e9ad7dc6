"""How well agents are found, with the real model: floors that no change may fall below.

Every second family served to choose how passages are made and scores are blended; the floors are
asked of the others on their own too.
"""

import pytest
from asking import Asker, mrr, recall
from corpus import ENTRIES, FAMILIES, Entry, agent_id, document

from agentkeeper.search.passage import spelled
from agentkeeper.search.text import query_terms, terms

pytestmark = pytest.mark.timeout(600)  # the export takes a minute where nothing else is going on

HELD_OUT = [entry for name in list(FAMILIES)[1::2] for entry in FAMILIES[name]]
TOOLS = sorted({tool for entry in ENTRIES for tool in entry.tools})

REQUESTS = [
    "I need an agent that can help me: ",
    "Hello, is there anybody who could help me with this: ",
    "we are looking for a bot for ",
]
"""Openings that only say that something is asked for."""

PARTS = [
    ("atlas-eu", "atlas-eu-3fa"),
    ("atlas-us-9", "atlas-us-9c1"),
    ("ask atlas in the EU", "atlas-eu-3fa"),
    ("the 3fa one", "atlas-eu-3fa"),
    ("9c1", "atlas-us-9c1"),
    ("fleet-2", "fleet-2c"),
    ("lingua", "lingua-7"),
    ("worker 45", "worker-45"),
    ("texttospeechworker", "TextToSpeechWorker"),
    ("synthesize_voice", "TextToSpeechWorker"),
    ("ask Grandmaster Bot about my taxes", "Grandmaster Bot"),
    ("a11y", "a11y-tester"),
]


def test_the_corpus_is_as_large_as_it_should_be_and_names_nobody_twice() -> None:
    assert len(ENTRIES) >= 80
    assert len({entry.name for entry in ENTRIES}) == len(ENTRIES)
    assert len({agent_id(entry) for entry in ENTRIES}) == len(ENTRIES)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_paraphrases_share_no_word_with_what_they_mean(entry: Entry) -> None:
    told = document(entry)
    texts = (told.name, told.description, *told.tools, *sum(told.capabilities, ()))
    own = {term for text in texts for term in terms(text)[0]}
    assert own.isdisjoint(query_terms(entry.paraphrase))


def paraphrased(asker: Asker, entries: list[Entry], opening: str = "") -> list[int]:
    return [asker.place(opening + entry.paraphrase, {agent_id(entry)}) for entry in entries]


def named(name: str) -> set[str]:
    return {agent_id(entry) for entry in ENTRIES if entry.name == name}


def having(*tools: str) -> set[str]:
    return {agent_id(entry) for entry in ENTRIES if set(tools) <= set(entry.tools)}


def test_paraphrases_find_whom_they_mean(by_meaning: Asker) -> None:
    for entries in (ENTRIES, HELD_OUT):
        places = paraphrased(by_meaning, entries)
        assert mrr(places) >= 0.67
        assert recall(places, 5) >= 0.83


@pytest.mark.parametrize("opening", REQUESTS)
def test_asking_politely_finds_no_less(by_meaning: Asker, opening: str) -> None:
    places = paraphrased(by_meaning, ENTRIES, opening)
    assert mrr(places) >= 0.67
    assert recall(places, 5) >= 0.83


def test_identifiers_are_found_first(by_meaning: Asker) -> None:
    for entry in ENTRIES:
        right = {agent_id(entry)}
        for query in (
            entry.name,
            entry.name.upper(),
            f"ask {entry.name} to have a look at this invoice",
            agent_id(entry),
            f"what became of {agent_id(entry)}?",
            agent_id(entry)[:-3],
        ):
            assert by_meaning.place(query, right) == 1, query


def test_tools_find_all_who_have_them_first(by_meaning: Asker) -> None:
    for tool in TOOLS:
        right = having(tool)
        assert set(by_meaning.found(tool, limit=len(right))) == right, tool
        if "_" in tool:
            asked = f"someone with {tool} who can help with my taxes"
            assert set(by_meaning.found(asked, limit=len(right))) == right, tool


@pytest.mark.parametrize(("part", "name"), PARTS)
def test_parts_of_identifiers_are_found_first(by_meaning: Asker, part: str, name: str) -> None:
    assert by_meaning.place(part, named(name)) == 1


def test_words_of_tools_and_names_are_found_high_up(by_meaning: Asker) -> None:
    tools = [
        by_meaning.place(f"something with {spelled(tool).lower()}", having(tool)) for tool in TOOLS
    ]
    assert recall(tools, 5) >= 0.9
    names = [
        by_meaning.place(f"ask {spelled(entry.name).lower()} whether it is done", {agent_id(entry)})
        for entry in ENTRIES
    ]
    assert recall(names, 5) >= 0.97


def test_a_filter_by_tools_leaves_the_meant_among_the_first(by_meaning: Asker) -> None:
    for entry in ENTRIES:
        for tools in (entry.tools, entry.tools[:1]):
            found = by_meaning.found(entry.paraphrase, tools, len(ENTRIES))
            assert set(found) == having(*tools)
            if len(found) <= 10:
                assert agent_id(entry) in found[:5], entry.name


def test_a_crumpled_till_receipt(by_meaning: Asker) -> None:
    query = "someone who can make sense of a crumpled till receipt"
    assert by_meaning.place(query, named("expense-ocr")) == 1


def test_exactly_that_name(by_meaning: Asker) -> None:
    ranked = by_meaning.search.rank(
        "atlas-eu-3fa",
        by_meaning.embed and by_meaning.embed("atlas-eu-3fa"),
        (),
        10,
        lambda _: True,
    )
    (first, score), (_, second), *_ = ranked
    assert first in named("atlas-eu-3fa")
    assert score > 2 > second


def test_words_alone_find_names_tools_and_descriptions(by_words: Asker) -> None:
    for entry in ENTRIES:
        right = {agent_id(entry)}
        assert by_words.place(entry.name, right) == 1
        assert by_words.place(f"ask {entry.name} to have a look at this invoice", right) == 1
        if len(entry.description.split()) > 4:
            opening = " ".join(entry.description.split()[-5:])
            assert by_words.place(f"I need someone who can {opening}", right) <= 3, opening
    tools = [
        by_words.place(f"something with {spelled(tool).lower()}", having(tool)) for tool in TOOLS
    ]
    assert mrr(tools) >= 0.95
    assert recall(tools, 5) == 1
