"""A lexical index of agents: BM25F over words, and identifiers found exactly.

Ranking is the simple form of BM25F: frequencies and lengths are added up over the fields, each
with its weight, before BM25 sees them (Robertson and Zaragoza, "The Probabilistic Relevance
Framework: BM25 and Beyond", Foundations and Trends in Information Retrieval 3(4), 2009, section
3.6; BM25 itself in section 3.4, with the usual k1 and b, and with 1 added under the logarithm so
that a word most agents use counts little, never against them).

Whole names, tools and capability names are terms of their own, which only an identifier in the
query or the query as a whole can hit; a hit outweighs any sum of words.

A query reads its rarest terms first. As soon as the words not yet read cannot lift an agent that
has not shown up among the best, they only settle the order of those that have (Turtle and Flood,
"Query evaluation: strategies and optimizations", IPM 31(6), 1995, "max_score"); that changes no
result. Only when a query would read more than `MAX_READS` entries, as ten words of which
10,000 agents have every second do, does it settle for the `MAX_CONTENDERS` best by its rarest
words: long queries cost a bounded amount.
"""

import heapq
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

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
_EXACT = "="
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

_EMPTY: dict[str, int] = {}


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


@dataclass(frozen=True, slots=True)
class _Clause:
    """A term of a query: who has it, and the most that it can add to a score."""

    bound: float
    term: str
    posting: dict[str, int]


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
        return _best(self._score(self._clauses(query), among, limit), limit)

    def _clauses(self, query: str) -> list[_Clause]:
        """What the query asks for and somebody has, the rarest first."""
        clauses = []
        for guesses in query_identifiers(query):
            hits = (self._named(guess) for guess in guesses)
            clauses += next((hit for hit in hits if hit), [])
        for term in query_terms(query):
            posting = self._postings.get(term, _EMPTY)
            if posting:
                clauses.append(_Clause(self._idf(posting) * (K1 + 1), term, posting))
        distinct = {clause.term: clause for clause in clauses}
        ordered = sorted(distinct.values(), key=lambda clause: (-clause.bound, clause.term))
        return ordered[:MAX_QUERY_TERMS]

    def _named(self, name: str) -> list[_Clause]:
        """The agents whose id, name or tool this is."""
        terms_of = ((kind + name, bound) for kind, bound in _EXACT_BOUNDS.items())
        return [
            _Clause(bound, term, self._postings[term])
            for term, bound in terms_of
            if term in self._postings
        ]

    def _idf(self, posting: dict[str, int]) -> float:
        having = len(posting)
        return math.log1p((len(self) - having + 0.5) / (having + 0.5))

    def _score(
        self, clauses: list[_Clause], among: Callable[[str], bool] | None, limit: int
    ) -> dict[str, float]:
        """Scores of at least the `limit` best agents."""
        scores: dict[str, float] = {}
        refused: set[str] = set()
        read, remaining = 0.0, math.fsum(clause.bound for clause in clauses)
        reads = 0
        closed = False
        for clause in clauses:
            if read > remaining:
                settled = _settled(scores, remaining, limit)
                closed = closed or settled is not None
                scores = scores if settled is None else settled
            if not closed and reads and reads + len(clause.posting) > MAX_READS:
                closed = True
                scores = dict(_best(scores, max(limit, MAX_CONTENDERS)))
            read, remaining = read + clause.bound, remaining - clause.bound
            reads += len(clause.posting)
            if closed:
                self._refine(clause, scores)
            else:
                self._admit(clause, scores, refused, among)
        return scores

    def _admit(
        self,
        clause: _Clause,
        scores: dict[str, float],
        refused: set[str],
        among: Callable[[str], bool] | None,
    ) -> None:
        """Adds what a term gives to everybody who has it and may be found."""
        bound, fixed, slope = self._shape(clause)
        lengths, known = self._lengths, scores.get
        for agent_id, weight in clause.posting.items():
            score = known(agent_id)
            if score is None:
                if agent_id in refused:
                    continue
                if among is not None and not among(agent_id):
                    refused.add(agent_id)
                    continue
                score = 0.0
            saturation = fixed + slope * lengths[agent_id]
            scores[agent_id] = score + bound * weight / (weight + saturation)

    def _refine(self, clause: _Clause, scores: dict[str, float]) -> None:
        """Adds what a term gives to those who are in the race already."""
        bound, fixed, slope = self._shape(clause)
        posting, lengths = clause.posting, self._lengths
        for agent_id in scores:
            weight = posting.get(agent_id)
            if weight is not None:
                saturation = fixed + slope * lengths[agent_id]
                scores[agent_id] += bound * weight / (weight + saturation)

    def _shape(self, clause: _Clause) -> tuple[float, float, float]:
        """A clause's bound, and what its weights saturate against: fixed, and by length."""
        if clause.term.startswith(_EXACT):
            return clause.bound, 0.0, 0.0
        k1 = K1 * _WORD
        return clause.bound, k1 * (1 - B), k1 * B * len(self) / self._total_length


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


def _settled(scores: dict[str, float], remaining: float, limit: int) -> dict[str, float] | None:
    """Those who can still be among the best, if nobody else can; None while others can."""
    if len(scores) < limit:
        return None
    least = heapq.nlargest(limit, scores.values())[-1]
    margin = remaining * (1 + 1e-9)  # the bounds were added up in another order
    if least <= margin:
        return None
    return {agent_id: score for agent_id, score in scores.items() if score + margin >= least}


def _best(scores: dict[str, float], limit: int) -> list[tuple[str, float]]:
    """The best, without sorting all: ties at the end of the list may be many."""
    if len(scores) <= limit:
        return sorted(scores.items(), key=lambda item: (-item[1], item[0]))
    least = heapq.nlargest(limit, scores.values())[-1]
    above = [item for item in scores.items() if item[1] > least]
    ties = (agent_id for agent_id, score in scores.items() if score == least)
    above.sort(key=lambda item: (-item[1], item[0]))
    return above + [(agent_id, least) for agent_id in heapq.nsmallest(limit - len(above), ties)]
