"""Proposals and reads under way, on the engine's thread."""

from __future__ import annotations

from collections.abc import Callable

from agentkeeper.consensus import limits
from agentkeeper.consensus.internals import now_s
from agentkeeper.consensus.observation import Observation
from agentkeeper.consensus.port import Outcome
from agentkeeper.consensus.raft import HardenedRaft
from agentkeeper.consensus.requests import Budget, Deadlines, InLog, Proposal, Read, Reads, call


class OpenRequests:
    """Takes proposals and reads to a replica, and gives each its one answer in time.

    `proposal` and `read` may be called from any thread, everything else on the engine's only.
    """

    def __init__(self, observation: Observation) -> None:
        self._observation = observation
        self._proposal_budget = Budget(limits.MAX_OPEN_PROPOSALS, limits.MAX_OPEN_PROPOSAL_BYTES)
        self._read_budget = Budget(limits.MAX_OPEN_READS, 0)
        self._deadlines = Deadlines()
        self._in_log = InLog()
        self._reads = Reads()
        self._appended = False

    def proposal(
        self, payload: bytes, timeout_s: float, on_outcome: Callable[[Outcome], None]
    ) -> Proposal | None:
        """Take a proposal in; None if it is too large, or too much is open already."""
        if len(payload) > limits.MAX_PAYLOAD_BYTES or not self._proposal_budget.take(len(payload)):
            return None
        return Proposal(
            payload, now_s() + timeout_s, on_outcome, self._proposal_budget, self._observation
        )

    def read(self, timeout_s: float, on_result: Callable[[int | None], None]) -> Read | None:
        """Take a read in; None if too many are open already."""
        if not self._read_budget.take(0):
            return None
        return Read(now_s() + timeout_s, on_result, self._read_budget)

    @property
    def proposals(self) -> int:
        """How many proposals have no answer yet."""
        return self._proposal_budget.taken

    def refuse(self, on_outcome: Callable[[Outcome], None]) -> None:
        """Answer a proposal that was not taken in."""
        self._observation.proposal_ended(Outcome.REJECTED, 0, None)
        call(on_outcome, Outcome.REJECTED)

    # --- into the log, and into a round ----------------------------------------------------------
    def append(self, proposal: Proposal, raft: HardenedRaft | None) -> None:
        """Append a proposal to the log of `raft`; None stands for a replica that has ended."""
        if raft is None or not raft.takes_proposals:
            proposal.end(Outcome.REJECTED)
        elif proposal.deadline_s <= now_s():
            proposal.expire()
        else:
            # Noted first: should appending fail half-way, what became of it is unknown.
            self._in_log.add(raft.last_index + 1, raft.term, proposal)
            self._deadlines.watch(proposal)
            proposal.appended_s = self._observation.clock()
            raft.append(proposal.payload)
            proposal.payload = b""
            self._appended = True

    def wait_for_round(self, read: Read, raft: HardenedRaft | None) -> None:
        """Let a read take part in the next round of `raft`, as above."""
        if raft is None or not raft.leads:
            read.end(None)
        elif read.deadline_s <= now_s():
            read.expire()
        else:
            self._reads.add(read)
            self._deadlines.watch(read)

    def begin_round(self, raft: HardenedRaft) -> None:
        """Send new entries, and begin a round if reads wait; one message serves both."""
        reads = self._reads.wants_round and raft.may_serve_reads()
        if raft.leads and (self._appended or reads):
            raft.replicate()
        self._appended = False
        self.answer_reads(raft)

    def round_begun(self, number: int, raft: HardenedRaft) -> None:
        """Let waiting reads take part in a round that is about to be sent."""
        if raft.may_serve_reads():
            self._reads.begun(number, raft.commit_index)

    # --- answers ---------------------------------------------------------------------------------
    def answer_reads(self, raft: HardenedRaft) -> None:
        """Answer the reads whose round is confirmed, or all if `raft` does not lead."""
        if raft.leads:
            self._reads.confirmed(raft.confirmed_round())
        else:
            self._reads.fail()

    def committed(self, index: int, term: int) -> None:
        """Answer whoever proposed something at `index`."""
        self._in_log.committed(index, term)

    def skipped(self, index: int) -> None:
        """A snapshot has hidden what became of the proposals up to `index`."""
        self._in_log.skipped(index)

    def deposed(self, patience_s: float) -> None:
        """Wait a little for the next leader to decide about what is still open, not longer."""
        self._reads.fail()
        self._in_log.drop_answered()
        latest_s = now_s() + patience_s
        for proposal in self._in_log:
            if proposal.deadline_s > latest_s:
                proposal.deadline_s = latest_s
                self._deadlines.watch(proposal)

    def expire(self) -> None:
        """Answer those whose time is up."""
        self._deadlines.expire(now_s())

    def next_deadline_s(self) -> float | None:
        """Give the earliest deadline of what is open."""
        return self._deadlines.next_s()

    def end(self) -> None:
        """Answer everyone: nothing more will be known here."""
        self._reads.fail()
        for proposal in self._in_log:
            proposal.end(Outcome.UNKNOWN)
