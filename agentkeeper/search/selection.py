"""The best few of many agents, whose scores grow term by term.

A query reads its rarest terms first. As soon as the terms not yet read cannot lift an agent that
has not shown up among the best, they only settle the order of those that have (Turtle and Flood,
"Query evaluation: strategies and optimizations", IPM 31(6), 1995, "max_score"); that changes no
result.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

Order = Callable[[str], Any]
"""What agents of the same score are ordered by: it must tell them apart."""

_SLACK = 1 + 1e-9  # sums of the same numbers in another order differ by less


@dataclass(frozen=True, slots=True)
class Clause:
    """A term of a query: who has it with what weight, and what it gives.

    An agent gets `bound` times weight / (weight + fixed + slope * the agent's length).
    """

    term: str
    posting: dict[str, int]
    bound: float
    fixed: float = 0.0
    slope: float = 0.0


class Selection:
    """The `limit` best agents for which `among` holds, ties by `order`, or else by agent id."""

    def __init__(
        self,
        lengths: dict[str, int],
        among: Callable[[str], bool] | None,
        limit: int,
        order: Order | None = None,
    ) -> None:
        self._lengths = lengths
        self._among = among
        self._limit = limit
        self._order = order or _by_id
        self._scores: dict[str, float] = {}
        self._answers: dict[str, bool] = {}
        self._strict = False
        self.closed = False
        """Nobody new is let in."""

    def confine(self, agents: Iterable[str]) -> None:
        """Lets in nobody but these."""
        self.closed = True
        self._scores = dict.fromkeys(agents, 0.0)

    def cost(self, clause: Clause) -> int:
        """How many entries `add` looks at."""
        return len(self._scores if self.closed else clause.posting)

    def add(self, clause: Clause) -> None:
        """Gives those who have the term what it adds to their scores."""
        if self.closed:
            self._refine(clause)
        else:
            self._admit(clause)

    def add_some(self, clause: Clause, count: int) -> None:
        """Gives all who are known what the term adds, but lets in only the posting's first."""
        first = () if self.closed else islice(clause.posting.items(), count)
        fresh = {a: weight for a, weight in first if a not in self._scores}
        self._refine(clause)
        self._admit(replace(clause, posting=fresh))

    def settle(self, remaining: float) -> None:
        """Lets nobody else in, and drops who is beaten, if no score can still rise by more.

        Costs as much as reading an entry for each agent known so far.
        """
        best = self.best(self._limit)
        if len(best) == self._limit and best[-1][1] > remaining * _SLACK:
            self.closed = True
            least = best[-1][1] - remaining * _SLACK
            self._scores = {a: score for a, score in self._scores.items() if score >= least}

    def close(self, keep: int) -> None:
        """Lets nobody else in, and keeps only the best so far."""
        self.closed = True
        self._scores = dict(self.best(max(keep, self._limit)))

    def best(self, count: int) -> list[tuple[str, float]]:
        """The best by what has been added so far."""
        found: list[tuple[str, float]] = []
        if not self._strict:
            patience = 4 * count + 64
            for agent_id, score in islice(self._best_first(count), patience):
                if self._fits(agent_id):
                    found.append((agent_id, score))
                    if len(found) == count:
                        return found
            if patience >= len(self._scores):
                return found
            # Few of the best fit: from here on it is cheaper to look at those who do alone.
            self._strict = True
            self._scores = {a: score for a, score in self._scores.items() if self._fits(a)}
        return list(islice(self._best_first(count), count))

    def _fits(self, agent_id: str) -> bool:
        if self._among is None:
            return True
        answer = self._answers.get(agent_id)
        if answer is None:
            answer = self._answers[agent_id] = self._among(agent_id)
        return answer

    def _admit(self, clause: Clause) -> None:
        bound, fixed, slope = clause.bound, clause.fixed, clause.slope
        scores, lengths, strict, fits = self._scores, self._lengths, self._strict, self._fits
        known = scores.get
        for agent_id, weight in clause.posting.items():
            score = known(agent_id)
            if score is None:
                if strict and not fits(agent_id):
                    continue
                score = 0.0
            saturation = fixed + slope * lengths[agent_id]
            scores[agent_id] = score + bound * weight / (weight + saturation)

    def _refine(self, clause: Clause) -> None:
        bound, fixed, slope = clause.bound, clause.fixed, clause.slope
        scores, lengths, posting = self._scores, self._lengths, clause.posting
        for agent_id in scores:
            weight = posting.get(agent_id)
            if weight is not None:
                saturation = fixed + slope * lengths[agent_id]
                scores[agent_id] += bound * weight / (weight + saturation)

    def _best_first(self, count: int) -> Iterator[tuple[str, float]]:
        """From the best down, sorting little more than the `count` first."""
        rest, order = self._scores, self._order
        while rest:
            if count * 4 >= len(rest):
                yield from self._sorted(rest.items())
                return
            floor = heapq.nlargest(count, rest.values())[-1]
            yield from self._sorted(item for item in rest.items() if item[1] > floor)
            ties = [(order(agent_id), agent_id) for agent_id, s in rest.items() if s == floor]
            heapq.heapify(ties)
            while ties:
                yield heapq.heappop(ties)[1], floor
            rest = {agent_id: score for agent_id, score in rest.items() if score < floor}
            count *= 4

    def _sorted(self, items: Iterable[tuple[str, float]]) -> list[tuple[str, float]]:
        return sorted(items, key=lambda item: (-item[1], self._order(item[0])))


def _by_id(agent_id: str) -> str:
    return agent_id
