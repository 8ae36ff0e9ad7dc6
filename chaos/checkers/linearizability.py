"""Whether calls that overlapped can be put in an order in which a sequential model allows them all.

The search of Wing & Gong ("Testing and Verifying Concurrent Objects", JPDC 1993) in the manner of
Lowe ("Testing for linearizability", 2017): one object (key) at a time, each configuration (calls
that took effect, state) looked at once, and just in time: calls are put in the order only when one
of them returns, so that what is to be remembered are the few that are under way, as bits of an int.
A call that only looks takes effect as soon as its answer is right: no order is lost by that.

The model may be nondeterministic, and may look at a call's times: what it allows for a call must
not depend on what was linearized before but through the state.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from chaos.history import FOREVER_NS, Operation, Outcome

S = TypeVar("S", bound=Hashable)
W = TypeVar("W")

BUDGET = 200_000
"""Configurations looked at per key before the check gives up."""


@dataclass(slots=True)
class Call(Generic[W]):
    """A call as the model sees it."""

    start_ns: int
    end_ns: int
    what: W
    source: Operation | None = None
    """Where it comes from; None for what no client did, such as the death of an agent."""
    looks: bool = False
    """Whether it does nothing but tell of the state. A write that happens to leave the state as it
    is does not only look: after another one it would not."""

    @property
    def optional(self) -> bool:
        """Whether it may take effect at any time from its start, or never."""
        return self.end_ns == FOREVER_NS


def called(operation: Operation, what: W, *, looks: bool = False) -> Call[W]:
    """The call of a client; one that may have had an effect unknown to it has no end."""
    end_ns = FOREVER_NS if operation.outcome is Outcome.BROKEN else operation.end_ns
    return Call(operation.start_ns, end_ns, what, operation, looks)


Step = Callable[[S, Call[W]], tuple[S, ...]]
"""The states that a call may lead to from a state; none if it can't have been answered so there."""


@dataclass(slots=True)
class Result(Generic[S, W]):
    """What came of one key's calls."""

    configurations: int
    """How many were looked at."""
    blocked: Call[W] | None = None
    """The call that could not be placed; None if all could."""
    placed: int = 0
    """Calls that had returned before, all of which could be placed: the longest prefix."""
    states: list[S] = field(default_factory=list)
    """Those that were possible just before `blocked` returned."""
    undecided: bool = False
    """Whether the budget was used up."""


class _Spent(Exception):  # noqa: N818
    pass


def check(
    calls: Iterable[Call[W]], initial: S, step: Step[S, W], budget: int = BUDGET
) -> Result[S, W]:
    """Look for an order. Calls without an end may be placed anywhere after their start, or not."""
    return _Search(list(calls), step, budget).run(initial)


class _Search(Generic[S, W]):
    def __init__(self, calls: list[Call[W]], step: Step[S, W], budget: int) -> None:
        self._calls = calls
        self._step = step
        self._budget = budget
        self._looked_at = 0
        self._pending: dict[int, Call[W]] = {}
        """Calls under way, by their bit."""

    def run(self, initial: S) -> Result[S, W]:
        configurations = {(0, initial)}
        placed = 0
        for _, ends, number in self._moments():
            bit, call = 1 << number, self._calls[number]
            if not ends:
                self._pending[bit] = call
                continue
            try:
                after = self._returned(configurations, bit, call)
            except _Spent:
                return Result(self._looked_at, placed=placed, undecided=True)
            if not after:
                states = list({state for _, state in configurations})
                return Result(self._looked_at, call, placed, states)
            configurations = after
            del self._pending[bit]
            placed += 1
        return Result(self._looked_at, placed=placed)

    def _moments(self) -> list[tuple[int, bool, int]]:
        """Starts and ends in their order; at one time starts come first: those calls overlap."""
        moments = [(call.start_ns, False, n) for n, call in enumerate(self._calls)]
        moments += [(c.end_ns, True, n) for n, c in enumerate(self._calls) if not c.optional]
        moments.sort()
        return moments

    def _returned(
        self, configurations: set[tuple[int, S]], bit: int, call: Call[W]
    ) -> set[tuple[int, S]]:
        """The configurations in which `call` took effect, without its bit."""
        after: set[tuple[int, S]] = set()
        to_place: list[tuple[int, S]] = []
        for done, state in configurations:
            if done & bit:
                after.add((done ^ bit, state))
            else:
                to_place.append((done, state))
        known = set(to_place)
        while to_place:
            done, state = to_place.pop()
            self._looked_at += 1
            if self._looked_at > self._budget:
                raise _Spent
            nexts = self._step(state, call)
            if call.looks and state in nexts:
                after.add((done, state))
                continue
            done, others = self._others(done, state, bit)
            after.update((done, following) for following in nexts)
            for configuration in others:
                if configuration not in known:
                    known.add(configuration)
                    to_place.append(configuration)
        return after

    def _others(self, done: int, state: S, but: int) -> tuple[int, list[tuple[int, S]]]:
        """Place what leaves the state as it is; return where all else under way may lead."""
        changing: list[tuple[int, tuple[S, ...]]] = []
        for bit, call in self._pending.items():
            if done & bit or bit == but:
                continue
            nexts = self._step(state, call)
            if call.looks and state in nexts:
                if not call.optional:
                    done |= bit
            elif nexts:
                changing.append((bit, nexts))
        return done, [(done | bit, following) for bit, nexts in changing for following in nexts]
