"""Whether calls that overlapped can be put in an order in which a sequential model allows them all.

The search of Wing & Gong ("Testing and Verifying Concurrent Objects", JPDC 1993) in the manner of
Lowe ("Testing for linearizability", 2017): one object (key) at a time, each configuration (calls
that took effect, state) looked at once, and just in time: calls are put in the order only when one
of them returns, so that what is to be remembered are the few that are under way, as bits of an int.
A call that only looks takes effect as soon as its answer is right, of unanswered calls that are the
same the first is used first, and of two configurations that differ only in that one used more of
the unanswered it is dropped: no order is lost by any of that.

The model may be nondeterministic, and may look at a call's times: what it allows for a call must
not depend on what was linearized before but through the state.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator
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


class _Configurations(Generic[S]):
    """Configurations, without those that used more of the unanswered calls than another one."""

    def __init__(self, unanswered: int) -> None:
        self._unanswered = unanswered
        self._used: dict[tuple[int, S], list[int]] = {}

    def __iter__(self) -> Iterator[tuple[int, S]]:
        for (done, state), all_used in self._used.items():
            for used in all_used:
                yield done | used, state

    def __len__(self) -> int:
        return len(self._used)

    def add(self, done: int, state: S) -> bool:
        """Add one, unless it is of no use beside those that are here."""
        used = done & self._unanswered
        known = self._used.get((done ^ used, state))
        if known is None:
            self._used[done ^ used, state] = [used]
            return True
        if any(less & used == less for less in known):
            return False
        known[:] = [other for other in known if other & used != used]
        known.append(used)
        return True


class _Search(Generic[S, W]):
    def __init__(self, calls: list[Call[W]], step: Step[S, W], budget: int) -> None:
        self._calls = calls
        self._step = step
        self._budget = budget
        self._looked_at = 0
        self._unanswered = sum(1 << n for n, call in enumerate(calls) if call.optional)
        self._pending: dict[int, Call[W]] = {}
        """Calls under way, by their bit."""
        self._first: dict[int, int] = {}
        """By the bit of an unanswered call, that of one which is the same and is used first."""

    def run(self, initial: S) -> Result[S, W]:
        configurations = _Configurations[S](self._unanswered)
        configurations.add(0, initial)
        placed = 0
        for _, ends, number in self._moments():
            if not ends:
                self._begin(number)
                continue
            bit, call = 1 << number, self._calls[number]
            try:
                after = self._returned(configurations, bit, call)
            except _Spent:
                return Result(self._looked_at, placed=placed, undecided=True)
            if not len(after):
                states = list(dict.fromkeys(state for _, state in configurations))
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

    def _begin(self, number: int) -> None:
        bit, call = 1 << number, self._calls[number]
        if call.optional:
            for other_bit, other in self._pending.items():
                if other.optional and other.what == call.what:
                    self._first[bit] = other_bit  # of several, the one before
        self._pending[bit] = call

    def _returned(
        self, configurations: _Configurations[S], bit: int, call: Call[W]
    ) -> _Configurations[S]:
        """The configurations in which `call` took effect, without its bit."""
        after = _Configurations[S](self._unanswered)
        known = _Configurations[S](self._unanswered)
        to_place: defaultdict[int, list[tuple[int, S]]] = defaultdict(list)
        """By how many of the unanswered calls they used: those that used few go first."""

        def place(done: int, state: S) -> None:
            if known.add(done, state):
                to_place[(done & self._unanswered).bit_count()].append((done, state))

        for done, state in configurations:
            if done & bit:
                after.add(done ^ bit, state)
            else:
                place(done, state)
        while to_place:
            fewest = min(to_place)
            done, state = to_place[fewest].pop()
            if not to_place[fewest]:
                del to_place[fewest]
            self._looked_at += 1
            if self._looked_at > self._budget:
                raise _Spent
            nexts = self._step(state, call)
            if call.looks and state in nexts:
                after.add(done, state)
                continue
            done, others = self._others(done, state, bit)
            for following in nexts:
                after.add(done, following)
            for other_done, following in others:
                place(other_done, following)
        return after

    def _others(self, done: int, state: S, but: int) -> tuple[int, list[tuple[int, S]]]:
        """Place those that only look; return where all else under way may lead."""
        changing: list[tuple[int, tuple[S, ...]]] = []
        for bit, call in self._pending.items():
            if done & bit or bit == but:
                continue
            first = self._first.get(bit, 0)
            if first & ~done:
                continue
            nexts = self._step(state, call)
            if call.looks and state in nexts:
                done |= bit
            elif call.optional and nexts == (state,):
                continue  # it may as well take effect later, or never
            elif nexts:
                changing.append((bit, nexts))
        return done, [(done | bit, following) for bit, nexts in changing for following in nexts]
