"""A lexical index of agents: BM25F over words, and identifiers found exactly.

Ranking is the simple form of BM25F: frequencies and lengths are added up over the fields, each
with its weight, before BM25 sees them (Robertson and Zaragoza, "The Probabilistic Relevance
Framework: BM25 and Beyond", Foundations and Trends in Information Retrieval 3(4), 2009, section
3.6; BM25 itself in section 3.4, with the usual k1 and b, and with 1 added under the logarithm so
that a word most agents use counts little, never against them).

Whole names, tools and capability names are terms of their own, which only an identifier in the
query, what follows "ask" or "@" or the query as a whole can hit; a hit outweighs any sum of words.
So does, half as much, an identifier that only begins a name, as "atlas-eu" does "atlas-eu-3fa".
Words of a sentence that are somebody's name ("translator", "code review") are but a hint.

Common words cost little, since `selection` reads the rarest terms first and stops looking for
agents as soon as it can. Only when a query would read more than `MAX_READS` entries, as a word of
20,000 agents does, does it settle for the `MAX_CONTENDERS` best of those it has read, its rarest
words' first: any query costs a bounded amount.
"""

import heapq
import math
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from itertools import islice

from agentkeeper.core.sorted_keys import SortedKeys
from agentkeeper.search.document import Document
from agentkeeper.search.passage import wanted
from agentkeeper.search.selection import Clause, Order, Selection
from agentkeeper.search.text import (
    fold,
    is_compound,
    may_begin_a_name,
    query_addressees,
    query_identifiers,
    query_phrases,
    query_terms,
    query_words,
    terms,
)

K1 = 1.2
B = 0.75

# Weights are whole numbers, so that sums of them don't depend on the order of changes.
_WORD = 2
_NAME_WEIGHT = 10
_TOOL_WEIGHT = 8
_CAPABILITY_WEIGHT = 8
_METADATA_WEIGHT = 1
_NAMED_BY = 8
"""A word of such weight is in a name, or at the heart of a description."""

# Whole names are terms too, told apart from words by a sign that no word contains.
_EXACT_ID = "=id="
_EXACT_NAME = "=name="
_EXACT_TOOL = "=tool="
_EXACT_BOUNDS = {_EXACT_ID: 5.0, _EXACT_NAME: 3.0, _EXACT_TOOL: 2.0}
"""Above the 1.0 that words can add up to. Two tools outweigh one name."""
_KINDS = tuple(_EXACT_BOUNDS)
_BEGINNING_BOUND = 1.0
_MIN_BEGINNING = {_EXACT_ID: 6, _EXACT_NAME: 4, _EXACT_TOOL: 4}
"""Characters that an identifier must have to be taken as the beginning of one."""
MAX_BEGUN = 16
"""Names of a kind that one beginning may stand for."""
MAX_IDENTIFIERS = 16
"""A query's first identifiers; it drops those beyond."""
MAX_NAMED = 10_000
"""Agents that names of one beginning tell from the others."""
MAX_HINTED = 1_000
"""Agents that share a word of their names with a query; a more common word hints at nobody."""
MAX_HINTS = 2_000
"""Agents that all of a query's words together hint at."""
MAX_HINTING = 16
"""A query's rarest words, which hint at agents."""
_NAME_HINT = 0.5
"""The least that an agent's whole name hints at it."""

MAX_DOCUMENT_CHARS = 12_288
"""How much of a document is read for words, its names first; a few ms. Names are always known."""
MAX_QUERY_TERMS = 64
"""A query's rarest terms; it drops those beyond."""
MAX_READS = 10_000
"""Entries read while any agent may still enter the result; some 3 ms."""
MAX_CONTENDERS = 1_000
"""Or the limit, if that is higher: who stays in the race of a query beyond MAX_READS."""


class LexicalIndex:
    """Agents by their words. Results depend on the documents alone, not on how they came in."""

    def __init__(self) -> None:
        self._postings: dict[str, dict[str, int]] = {}
        self._whole = SortedKeys()
        """The terms that are whole names."""
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
            posting = self._postings.setdefault(term, {})
            if not posting and term.startswith(_KINDS):
                self._whole.add(term)
            posting[agent_id] = weight
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
                if term.startswith(_KINDS):
                    self._whole.remove(term)
        self._total_length -= self._lengths.pop(agent_id, 0)

    def rank(
        self,
        query: str,
        among: Callable[[str], bool] | None,
        limit: int,
        contenders: Collection[str] = (),
        order: Order | None = None,
    ) -> list[tuple[str, float]]:
        """The agents that match at least one term of the query, best first, ties by `order`, or
        else by agent id.

        Only agents for which `among` holds count towards the limit. A score's fraction says how
        much of the query's words an agent has, rare ones counting more; to it are added 5 for its
        id, 3 for its name and 2 for each of its tools and capabilities that the query names, and 1
        if the query has an identifier that begins one of these. If there are `contenders`, only
        they are looked at, which costs the less the fewer they are.
        """
        if limit <= 0:
            return []
        clauses = self._clauses(query)
        selection = Selection(self._lengths, among, limit, order)
        if contenders:
            selection.confine(agent_id for agent_id in contenders if agent_id in self._terms)
        read, remaining = 0.0, math.fsum(clause.bound for clause in clauses)
        reads = look_again = 0
        bounded = bool(contenders)
        for clause in clauses:
            if read > remaining and not selection.closed and reads >= look_again:
                selection.settle(remaining)
                look_again = 2 * reads
            cost = selection.cost(clause)
            if bounded or reads + cost <= MAX_READS:
                selection.add(clause)
            else:
                selection.add_some(clause, MAX_READS - reads)
                selection.close(MAX_CONTENDERS)
                bounded = True
            reads += cost
            read, remaining = read + clause.bound, remaining - clause.bound
        return [(agent_id, score) for agent_id, score in selection.best(limit) if score > 0]

    def named_terms(self, query: str) -> list[tuple[tuple[str, ...], float]]:
        """What the query names: terms that are whole ids, names, tools and capabilities, and what
        an agent gets that has one of them or, if they only begin so, several.
        """
        asked = wanted(query)
        whole = (fold(query), fold(asked), " ".join(query_words(asked)))
        alone = [list(dict.fromkeys(filter(None, whole))), *query_addressees(query)]
        named: dict[tuple[str, ...], float] = {}
        guessed = [(guesses, True) for guesses in alone]
        guessed += [(guesses, False) for guesses in query_identifiers(query)]
        for guesses, is_alone in guessed[:MAX_IDENTIFIERS]:
            hit = next(filter(None, map(self._named, guesses)), [])
            if not hit:
                begun = (self._begun(guess, alone=is_alone) for guess in guesses)
                hit = [(those, _BEGINNING_BOUND) for those in begun if those][:1]
            for those, bound in hit:
                named.setdefault(those, bound)
        return list(named.items())

    def identified(self, query: str) -> list[Clause]:
        """`named_terms`, and who has them."""
        return [
            Clause(terms[0], self._having(terms), bound) for terms, bound in self.named_terms(query)
        ]

    def hinted(self, query: str) -> dict[str, float]:
        """The agents whose names, tools or capabilities have words of the query, and how much of
        it those are, from 0 to 1, rare words counting more; at least a half of those whose whole
        name is in it.

        A number among other words hints only at agents that these hint at too.
        """
        asked = wanted(query)
        words = query_terms(asked)
        # A compound that nobody has is judged by its parts.
        worth = math.fsum(
            self._rarity(w) for w in words if w in self._postings or not is_compound(w)
        )
        hinted: dict[str, float] = {}
        for word in self._hints(words):
            share = self._rarity(word) / worth
            for agent_id, weight in self._postings[word].items():
                let_in = len(hinted) < MAX_HINTS and (words == [word] or not word.isdigit())
                if weight >= _NAMED_BY and (let_in or agent_id in hinted):
                    hinted[agent_id] = hinted.get(agent_id, 0.0) + share
        for name in sorted(query_phrases(asked)):
            for agent_id in self._called(name):
                if agent_id in hinted or len(hinted) < MAX_HINTS:
                    hinted[agent_id] = max(_NAME_HINT, hinted.get(agent_id, 0.0))
        return hinted

    def _clauses(self, query: str) -> list[Clause]:
        """What the query asks for and somebody has, the rarest first."""
        words = query_terms(wanted(query))
        worth = math.fsum(map(self._rarity, words))
        clauses = self.identified(query)
        clauses += [self._word(term, worth) for term in words if term in self._postings]
        clauses.sort(key=lambda clause: (-clause.bound, clause.term))
        # Who has a rare word is let in before one of very many that have the same tool.
        return sorted(clauses[:MAX_QUERY_TERMS], key=lambda clause: len(clause.posting) > MAX_READS)

    def _named(self, name: str) -> list[tuple[tuple[str, ...], float]]:
        """The terms of ids, names and tools that are this."""
        terms_of = ((kind + name, bound) for kind, bound in _EXACT_BOUNDS.items())
        return [((term,), bound) for term, bound in terms_of if term in self._postings]

    def _begun(self, beginning: str, *, alone: bool) -> tuple[str, ...]:
        """The terms of ids, names and tools that begin so."""
        if beginning in self._postings or not may_begin_a_name(beginning, alone=alone):
            return ()  # a word that agents use otherwise
        return tuple(
            term
            for kind, least in _MIN_BEGINNING.items()
            if len(beginning) >= least
            for term in islice(self._whole.beginning_with(kind + beginning), MAX_BEGUN)
        )

    def _having(self, terms: tuple[str, ...]) -> dict[str, int]:
        """Who has one of the terms; of several, about the first `MAX_NAMED`."""
        if len(terms) == 1:
            return self._postings[terms[0]]
        having: dict[str, int] = {}
        for term in terms:
            posting = self._postings[term]
            having |= dict.fromkeys(islice(posting, MAX_NAMED - len(having)), 1)
        return having

    def _hints(self, words: list[str]) -> list[str]:
        """The rarest of the words that few enough agents have; numbers last."""
        few = [w for w in words if 0 < len(self._postings.get(w, ())) <= MAX_HINTED]
        rarest = heapq.nsmallest(MAX_HINTING, few, key=lambda word: len(self._postings[word]))
        return sorted(rarest, key=str.isdigit)

    def _called(self, name: str) -> Collection[str]:
        """The agents of that name; of a single word only if no other agent uses it."""
        posting = self._postings.get(_EXACT_NAME + name, {})
        if len(posting) > MAX_HINTED:
            return ()
        if posting and " " not in name:
            using = max((len(self._postings.get(term, ())) for term in terms(name)[0]), default=0)
            return posting if using <= len(posting) else ()
        return posting

    def _word(self, term: str, worth: float) -> Clause:
        """What a word gives, as a share of what the whole query is worth.

        BM25's factor of k1 + 1 is the same for all words, so it would change nothing.
        """
        k1 = K1 * _WORD
        slope = k1 * B * len(self) / self._total_length
        bound = self._rarity(term) / worth
        return Clause(term, self._postings[term], bound, k1 * (1 - B), slope)

    def _rarity(self, term: str) -> float:
        """The word's inverse document frequency, of one that nobody has too."""
        having = len(self._postings.get(term, ()))
        return math.log1p((len(self) - having + 0.5) / (having + 0.5))


def whole_names(document: Document) -> set[str]:
    """The terms that `LexicalIndex.named_terms` has for the agent: its id, name and tools."""
    return {sys.intern(kind + fold(name)) for kind, name in _exact(document)}


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
