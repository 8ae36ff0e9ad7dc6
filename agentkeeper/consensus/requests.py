"""What the daemon has asked of the engine and what is still owed an answer."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from agentkeeper.consensus import limits
from agentkeeper.consensus.observation import Observation
from agentkeeper.consensus.port import Outcome

logger = logging.getLogger(__name__)


class Request:
    """Something that gets exactly one answer, by its deadline at the latest."""

    __slots__ = ("_budget", "_callback", "_size", "answered", "deadline_s")

    def __init__(
        self, deadline_s: float, callback: Callable[..., None], budget: Budget, size: int
    ) -> None:
        self.deadline_s = deadline_s
        self.answered = False
        self._callback = callback
        self._budget = budget
        self._size = size

    def end(self, result: Any) -> None:
        """Answer, unless that has happened already."""
        if not self.answered:
            self.answered = True
            self._budget.release(self._size)
            call(self._callback, result)

    def expire(self) -> None:
        """Give the answer for a request whose time is up."""
        raise NotImplementedError


class Proposal(Request):
    """A payload on its way into the log."""

    __slots__ = ("_observation", "appended_s", "payload", "term")

    def __init__(
        self,
        payload: bytes,
        deadline_s: float,
        on_outcome: Callable[[Outcome], None],
        budget: Budget,
        observation: Observation,
    ) -> None:
        super().__init__(deadline_s, on_outcome, budget, len(payload))
        self._observation = observation
        self.appended_s: float | None = None
        """When that was, on the observation's clock."""
        self.payload = payload
        self.term: int | None = None
        """Term of the entry it became; None as long as it is definitely not in the log."""

    def end(self, result: Outcome) -> None:
        """See `Request.end`."""
        if not self.answered:
            self._observation.proposal_ended(result, self._size, self.appended_s)
        super().end(result)

    def expire(self) -> None:
        """Answer by what is certain: nothing, once the payload is in the log."""
        self.end(Outcome.REJECTED if self.term is None else Outcome.UNKNOWN)


class Read(Request):
    """A wish for a linearizable index."""

    __slots__ = ()

    def __init__(
        self, deadline_s: float, on_result: Callable[[int | None], None], budget: Budget
    ) -> None:
        super().__init__(deadline_s, on_result, budget, 0)

    def expire(self) -> None:
        """Answer that no index could be confirmed in time."""
        self.end(None)


class Budget:
    """Bounds what is open at a time, in count and bytes. Safe to use from any thread."""

    def __init__(self, max_count: int, max_bytes: int) -> None:
        self._lock = threading.Lock()
        self._max_count = self._count = max_count
        self._bytes = max_bytes

    @property
    def taken(self) -> int:
        """How much is open now."""
        return self._max_count - self._count

    def take(self, size: int) -> bool:
        """Take room for one more of `size` bytes; False if there is none."""
        with self._lock:
            if self._count < 1 or self._bytes < size:
                return False
            self._count -= 1
            self._bytes -= size
            return True

    def release(self, size: int) -> None:
        """Give room back."""
        with self._lock:
            self._count += 1
            self._bytes += size


class Deadlines:
    """Open requests in the order in which their time runs out."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Request]] = []
        self._order = itertools.count()

    def watch(self, request: Request) -> None:
        """Expire `request` at its deadline, unless it is answered by then."""
        heapq.heappush(self._heap, (request.deadline_s, next(self._order), request))
        if len(self._heap) > 2 * (limits.MAX_OPEN_PROPOSALS + limits.MAX_OPEN_READS):
            self._heap = [item for item in self._heap if not item[2].answered]
            heapq.heapify(self._heap)

    def next_s(self) -> float | None:
        """Give the earliest deadline of an open request."""
        while self._heap and self._heap[0][2].answered:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def expire(self, at_s: float) -> None:
        """Expire all whose deadline is at or before `at_s`."""
        while self._heap and self._heap[0][0] <= at_s:
            request = heapq.heappop(self._heap)[2]
            if not request.answered:
                request.expire()


class InLog:
    """Proposals that are in the log, by index, until it is certain what became of them."""

    def __init__(self) -> None:
        self._by_index: dict[int, list[Proposal]] = {}

    def add(self, index: int, term: int, proposal: Proposal) -> None:
        """Note that the entry at `index` is `proposal`; after truncation there may be several."""
        proposal.term = term
        self._by_index.setdefault(index, []).append(proposal)

    def committed(self, index: int, term: int) -> None:
        """End what was appended at `index`: only one entry can ever be committed there."""
        for proposal in self._by_index.pop(index, ()):
            proposal.end(Outcome.COMMITTED if proposal.term == term else Outcome.REJECTED)

    def skipped(self, index: int) -> None:
        """End all up to `index`, of which a snapshot has hidden what was committed."""
        for at in [at for at in self._by_index if at <= index]:
            for proposal in self._by_index.pop(at):
                proposal.end(Outcome.UNKNOWN)

    def drop_answered(self) -> None:
        """Forget those whose time has run out."""
        self._by_index = {
            index: still_open
            for index, proposals in self._by_index.items()
            if (still_open := [proposal for proposal in proposals if not proposal.answered])
        }

    def __iter__(self) -> Iterator[Proposal]:
        return itertools.chain.from_iterable(list(self._by_index.values()))


@dataclass(slots=True)
class _Round:
    number: int
    index: int
    reads: list[Read]


class Reads:
    """Reads that wait for a round, and the round that is under way (ReadIndex, thesis 6.4)."""

    def __init__(self) -> None:
        self._waiting: list[Read] = []
        self._rounds: list[_Round] = []

    def add(self, read: Read) -> None:
        """Let `read` take part in the next round."""
        if len(self._waiting) >= limits.MAX_OPEN_READS:
            self._waiting = [waiting for waiting in self._waiting if not waiting.answered]
        self._waiting.append(read)

    @property
    def wants_round(self) -> bool:
        """Whether someone waits and no round is under way."""
        return bool(self._waiting) and not self._rounds

    def begun(self, number: int, commit_index: int) -> None:
        """Note that a round has begun, when the commit index was `commit_index`."""
        if self._waiting:
            self._rounds.append(_Round(number, commit_index, self._waiting))
            self._waiting = []

    def confirmed(self, number: int) -> None:
        """Answer all reads whose round a majority has answered."""
        while self._rounds and self._rounds[0].number <= number:
            round_ = self._rounds.pop(0)
            for read in round_.reads:
                read.end(round_.index)

    def fail(self) -> None:
        """Answer all reads that no index can be confirmed."""
        waiting, rounds = self._waiting, self._rounds
        self._waiting, self._rounds = [], []
        for read in itertools.chain(waiting, *(round_.reads for round_ in rounds)):
            read.end(None)


def call(callback: Callable[..., None], *arguments: object) -> None:
    """Call back; whatever that raises is the caller's fault and must not harm the engine."""
    try:
        callback(*arguments)
    except Exception:
        logger.exception("a callback raised")
