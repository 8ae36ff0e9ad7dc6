"""A lexical index of agents: BM25F over words, and identifiers found exactly.

Ranking is the simple form of BM25F: frequencies and lengths are added up over the fields, each
with its weight, before BM25 sees them (Robertson and Zaragoza, "The Probabilistic Relevance
Framework: BM25 and Beyond", Foundations and Trends in Information Retrieval 3(4), 2009, section
3.6; BM25 itself in section 3.4, with the usual k1 and b, and with 1 added under the logarithm so
that a word most agents use counts little, never against them).

Whole names, tools and capability names are terms of their own, which only an identifier in the
query or the query as a whole can hit; a hit outweighs any sum of words.

Common words cost little, since `selection` reads the rarest terms first and stops looking for
agents as soon as it can. Only when a query would read more than `MAX_READS` entries, as ten words
of which 10,000 agents have every second do, does it settle for the `MAX_CONTENDERS` best by its
rarest words: long queries cost a bounded amount.
"""

import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from agentkeeper.search.selection import Clause, Selection
from agentkeeper.search.text import fold, query_identifiers, query_terms, terms

K1 = 1.2
B = 0.75

# Weights are whole numbers, so that sums of them don't depend on the order of changes.
_WORD = 2
_NAME_WEIGHT = 10
_TOOL_WEIGHT = 8
_CAPABILITY_WEIGHT = 8
_METADATA_WEIGHT = 1

# Whole names are terms too, told apart from words by a sign that no word contains.
_EXACT_ID = "=id="
_EXACT_NAME = "=name="
_EXACT_TOOL = "=tool="
_EXACT_BOUNDS = {_EXACT_ID: 50_000.0, _EXACT_NAME: 30_000.0, _EXACT_TOOL: 20_000.0}
"""Far above what MAX_QUERY_TERMS words can add up to. Two tools outweigh one name."""

MAX_DOCUMENT_CHARS = 12_288
"""How much of a document is read for words, its names first; a few ms. Names are always known."""
MAX_QUERY_TERMS = 64
"""A query's rarest terms; it drops those beyond."""
MAX_READS = 50_000
"""Entries read while any agent may still enter the result; some 15 ms."""
MAX_CONTENDERS = 1_000
"""Or the limit, if that is higher: who stays in the race of a query beyond MAX_READS."""


@dataclass(frozen=True, slots=True)
class Document:
    """What the index knows of an agent."""

    agent_id: str
    name: str
    description: str
    tools: tuple[str, ...]
    capabilities: tuple[tuple[str, str], ...]
    """(name, description)"""
    metadata: tuple[tuple[str, str], ...]


class LexicalIndex:
    """Agents by their words. Results depend on the documents alone, not on how they came in."""

    def __init__(self) -> None:
        self._postings: dict[str, dict[str, int]] = {}
        self._terms: dict[str, tuple[str, ...]] = {}
        self._lengths: dict[str, int] = {}
        self._total_length = 0

    def __len__(self) -> int:
        return len(self._terms)

    def put(self, document: Document) -> None:
        """Adds an agent, or replaces what was known of it."""
        agent_id = document.agent_id
        self.drop(agent_id)
        weights, length = _weigh(document)
        interned = tuple(map(sys.intern, weights))
        for term, weight in zip(interned, weights.values(), strict=True):
            self._postings.setdefault(term, {})[agent_id] = weight
        self._terms[agent_id] = interned
        self._lengths[agent_id] = length
        self._total_length += length

    def drop(self, agent_id: str) -> None:
        """Forgets an agent; an unknown one changes nothing."""
        for term in self._terms.pop(agent_id, ()):
            posting = self._postings[term]
            del posting[agent_id]
            if not posting:
                del self._postings[term]
        self._total_length -= self._lengths.pop(agent_id, 0)

    def rank(
        self, query: str, among: Callable[[str], bool] | None, limit: int
    ) -> list[tuple[str, float]]:
        """The agents that match at least one term of the query, best first, ties by agent id.

        Only agents for which `among` holds count towards the limit.
        """
        if limit <= 0:
            return []
        clauses = self._clauses(query)
        selection = Selection(self._lengths, among, limit)
        read, remaining = 0.0, math.fsum(clause.bound for clause in clauses)
        reads = 0
        for clause in clauses:
            if read > remaining:
                selection.settle(remaining)
            if not selection.closed and reads and reads + len(clause.posting) > MAX_READS:
                selection.close(MAX_CONTENDERS)
            selection.add(clause)
            read, remaining = read + clause.bound, remaining - clause.bound
            reads += len(clause.posting)
        return selection.best(limit)

    def _clauses(self, query: str) -> list[Clause]:
        """What the query asks for and somebody has, the rarest first."""
        clauses = []
        for guesses in query_identifiers(query):
            hits = (self._named(guess) for guess in guesses)
            clauses += next((hit for hit in hits if hit), [])
        clauses += [self._word(term) for term in query_terms(query) if term in self._postings]
        distinct = {clause.term: clause for clause in clauses}
        ordered = sorted(distinct.values(), key=lambda clause: (-clause.bound, clause.term))
        return ordered[:MAX_QUERY_TERMS]

    def _named(self, name: str) -> list[Clause]:
        """The agents whose id, name or tool this is."""
        terms_of = ((kind + name, bound) for kind, bound in _EXACT_BOUNDS.items())
        return [
            Clause(term, self._postings[term], bound)
            for term, bound in terms_of
            if term in self._postings
        ]

    def _word(self, term: str) -> Clause:
        posting = self._postings[term]
        having = len(posting)
        idf = math.log1p((len(self) - having + 0.5) / (having + 0.5))
        k1 = K1 * _WORD
        slope = k1 * B * len(self) / self._total_length
        return Clause(term, posting, idf * (K1 + 1), k1 * (1 - B), slope)


def _weigh(document: Document) -> tuple[dict[str, int], int]:
    """Weighted frequencies of a document's terms, and its weighted length."""
    weights: Counter[str] = Counter()
    length = 0
    unread = MAX_DOCUMENT_CHARS
    for text, weight in _fields(document):
        found, words = terms(text[:unread])
        unread -= min(unread, len(text))
        for term in found:
            weights[term] += weight
        length += weight * words
    for kind, name in _exact(document):
        weights[kind + fold(name)] = 1
    return weights, length


def _fields(document: Document) -> Iterator[tuple[str, int]]:
    yield document.name, _NAME_WEIGHT
    for tool in document.tools:
        yield tool, _TOOL_WEIGHT
    for name, _ in document.capabilities:
        yield name, _CAPABILITY_WEIGHT
    yield document.description, _WORD
    for entry in document.metadata:
        for text in entry:
            yield text, _METADATA_WEIGHT
    for _, description in document.capabilities:
        yield description, _WORD


def _exact(document: Document) -> Iterator[tuple[str, str]]:
    yield _EXACT_ID, document.agent_id
    yield _EXACT_NAME, document.name
    for tool in document.tools:
        yield _EXACT_TOOL, tool
    for name, _ in document.capabilities:
        yield _EXACT_TOOL, name
