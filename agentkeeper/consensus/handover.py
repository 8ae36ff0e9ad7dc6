"""How a leader hands leadership to another replica (Raft thesis, 3.10)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pysyncobj.node import Node

from agentkeeper.consensus.internals import now_s
from agentkeeper.consensus.port import Transfer
from agentkeeper.consensus.replication import Replication


@dataclass(slots=True)
class _Attempt:
    """A transfer under way."""

    to: Node | None
    index: int
    """Whoever has all up to here is near: what came after it gets soon."""
    round: int
    """Whoever has answered a later one has answered since this began."""
    until_s: float
    last_phase: bool = False
    """Nothing is appended any more, so that the successor gets all there is."""
    tried: set[Node] = field(default_factory=set)
    again_s: float = 0.0


class Handover(Replication):
    """Adds the giving side of leadership transfer; `Voting` has the taking one.

    In two phases of an election timeout each at most. In the first the leader goes on as ever until
    somebody fit answers and is near, as for a member that is to be added (thesis 4.2.1), so that
    one that is paused or far behind stops nothing. Only in the second it takes no proposals.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._attempt: _Attempt | None = None
        self.transfer_failure = Transfer.GAVE_UP
        """Why the last transfer that ended without a successor did."""
        self._giving_up = False
        super().__init__(*args, **kwargs)

    @property
    def transferring(self) -> bool:
        """Whether a transfer is under way."""
        return self._attempt is not None

    @property
    def handing_over(self) -> bool:
        """Whether this leader must not append, as a successor is about to have its whole log."""
        return self._attempt is not None and self._attempt.last_phase

    def begin_transfer(self, to: Node | None = None) -> None:
        """Hand leadership to `to`, or whoever is furthest, unless a transfer is under way."""
        if self.leads and self.others and not self.transferring:
            until_s = now_s() + self.conf.raftMinTimeout
            self._attempt = _Attempt(to, self.last_index, self.round, until_s)
            self.replicate()
            self.continue_transfer()

    def continue_transfer(self) -> None:
        """Tell a successor once it has the whole log, then another; end when time is up."""
        attempt = self._attempt
        if attempt is None:
            return
        if not self.leads:
            self._attempt = None
        elif now_s() > attempt.until_s:
            self._give_up(attempt)
        elif now_s() >= attempt.again_s and (fit := self._fit(attempt)):
            if not attempt.last_phase:
                attempt.last_phase = True
                attempt.until_s = now_s() + self.conf.raftMinTimeout
            node = max(fit, key=lambda node: self.counted_index[node])
            if self.counted_index[node] == self.last_index:
                attempt.tried.add(node)
                attempt.again_s = now_s() + self.conf.appendEntriesPeriod
                self.send(node, {"type": "timeout_now", "term": self.term})

    def _asked(self, attempt: _Attempt) -> list[Node]:
        """Who may take over, and has answered since."""
        wanted = self.others if attempt.to is None else [attempt.to]
        return [
            node for node in wanted if self.counts(node) and self.peers[node].echoed > attempt.round
        ]

    def _fit(self, attempt: _Attempt) -> list[Node]:
        return [
            node
            for node in self._asked(attempt)
            if node not in attempt.tried and self.counted_index.get(node, 0) >= attempt.index
        ]

    def _give_up(self, attempt: _Attempt) -> None:
        """Lead on. Who was told to stand may not have run since, and must not when it does."""
        for node in attempt.tried:
            self.send(node, {"type": "stay", "term": self.term})
        if attempt.last_phase:
            self.transfer_failure = Transfer.GAVE_UP
        else:
            self.transfer_failure = Transfer.BEHIND if self._asked(attempt) else Transfer.SILENT
        self._attempt = None

    def prolong(self, lost_s: float) -> None:
        """See `Voting.prolong`."""
        super().prolong(lost_s)
        if self._attempt is not None:
            self._attempt.until_s += lost_s

    def give_up_if_full(self) -> None:
        """Hand leadership over, or give it up, when this leader's disk takes no more entries."""
        if not (self.leads and self.full and self.others):
            self._giving_up = False
        elif not self.transferring:
            if self._giving_up:
                self.become_follower(self.term, None)
            self._giving_up = True
            self.begin_transfer()
