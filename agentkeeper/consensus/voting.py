"""Elections: who may stand, who gets a vote, and how leadership is taken over."""

from __future__ import annotations

import math
from typing import Any

from pysyncobj import syncobj
from pysyncobj.node import Node

from agentkeeper.consensus.internals import LEADER, IntegrityError, now_s
from agentkeeper.consensus.membership import Membership
from agentkeeper.consensus.messages import Stay, TimeoutNow, VoteReply, VoteRequest
from agentkeeper.consensus.port import Role

_SUSPICION_S = (0.02, 0.2)
"""Range of the wait before standing when there is reason to think that nobody leads: after the
start, or once the link to the leader broke. It only needs to keep two replicas from standing at
once, since the pre-vote guards a leader that lives."""


class Voting(Membership):
    """Adds pre-votes, complete vote replies and the call to stand at once to the library's
    elections.

    The library still runs the election itself: its tick raises the term, votes for itself and
    asks the others. It looks at a clock of its own for that, so it is let do it only in a tick in
    which an election has been found worth while.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._stand_until_s = -math.inf
        self._succeed_until_s = -math.inf
        self._pre_votes: set[Node] | None = None
        self._pre_vote_s = float("-inf")
        self._votes: set[Node] = set()
        self._votes_term = 0
        self._leader_heard_s = float("-inf")
        self.excused = False
        """Whether lost time has been made up for since another replica was last heard."""
        super().__init__(*args, **kwargs)
        self.election_deadline = now_s() + _random_s(*_SUSPICION_S)
        """When this replica asks for pre-votes unless it hears of a leader, in seconds."""
        if not self.others:
            self.stand_now()

    # --- standing for election ---------------------------------------------------------------
    def stand_now(self) -> None:
        """Stand for election at the next tick in which anybody is linked, without asking first.

        If nobody is for an election timeout, what spoke for standing has passed.
        """
        patience_s = self.conf.raftMinTimeout if self.others else math.inf
        self._stand_until_s = now_s() + patience_s

    @property
    def _may_stand(self) -> bool:
        return now_s() < self._stand_until_s

    @property
    def _succeeding(self) -> bool:
        return now_s() < self._succeed_until_s

    def _forget_candidacy(self) -> None:
        self._stand_until_s = self._succeed_until_s = -math.inf

    def postpone_election(self) -> None:
        """Wait another random election timeout before asking."""
        self.election_deadline = now_s() + self.random_timeout_s()

    def decide_on_standing(self) -> None:
        """Once the deadline has passed: ask whether an election could be won (thesis 9.6).

        A replica that was cut off or paused thus cannot depose a leader that the others hear.
        """
        if not self.eligible:
            self._forget_candidacy()
        elif not (self.leads or self._may_stand) and self.election_deadline < now_s():
            self._ask_for_pre_votes()
        self.may_stand_in_this_tick(self._may_stand)

    @property
    def eligible(self) -> bool:
        """Whether this replica may lead: it votes, and its disk takes what it would append."""
        return self.votes

    def _ask_for_pre_votes(self) -> None:
        self.postpone_election()
        self.leader = None
        self._pre_votes = set()
        self._pre_vote_s = now_s()
        for node in self.others:
            self.send(
                node,
                {
                    "type": "request_vote",
                    "term": self.term + 1,
                    "last_log_index": self.last_index,
                    "last_log_term": self.last_term,
                    "pre": True,
                },
            )

    def _SyncObj__setCurrentTerm(self, term: int, node_id: str | None) -> None:  # noqa: N802
        super()._SyncObj__setCurrentTerm(term, node_id)
        self._forget_candidacy()
        self._pre_votes = None
        if node_id == self.selfNode.id:
            self.postpone_election()  # it has just stood

    def _SyncObj__setState(self, state: int) -> None:  # noqa: N802
        # While leading the deadline is not kept up: without a fresh one a deposed leader would
        # stand at once and disturb its successor.
        if self.leads and state != LEADER:
            self.postpone_election()
        super()._SyncObj__setState(state)

    # --- votes -------------------------------------------------------------------------------
    def on_vote_request(self, node: Node, message: VoteRequest) -> None:
        """Grant or refuse a vote (paper, 5.2 and 5.4.1) or a pre-vote (thesis 9.6)."""
        granted = self._pre_vote(node, message) if message.pre else self._vote(node, message)
        self.send(
            node,
            {
                "type": "response_vote",
                "term": self.term,
                "for_term": message.term,
                "granted": granted,
                "pre": message.pre,
            },
        )

    def _pre_vote(self, node: Node, message: VoteRequest) -> bool:
        if not self.votes or message.term <= self.term or not self._up_to_date(message):
            return False
        if self._hears_leader() or self._succeeding:
            return False
        asking = self._may_stand or now_s() - self._pre_vote_s < _SUSPICION_S[0]
        equal = (message.last_term, message.last_index) == (self.last_term, self.last_index)
        if asking and equal and self.selfNode.id > node.id:
            return False  # both ask at once: one of them must give way, or the vote splits
        self._pre_votes = None
        self._stand_until_s = -math.inf
        self.election_deadline = max(self.election_deadline, now_s() + _SUSPICION_S[1])
        return True

    def _vote(self, node: Node, message: VoteRequest) -> bool:
        if message.term > self.term:
            self.become_follower(message.term, None)
        if not self.votes or message.term < self.term or self.voted_for not in (None, node.id):
            return False
        if not self._up_to_date(message):
            return False
        self.store_vote(self.term, node.id)
        self.postpone_election()
        return True

    def _up_to_date(self, message: VoteRequest) -> bool:
        # Election restriction (paper, 5.4.1).
        return (message.last_term, message.last_index) >= (self.last_term, self.last_index)

    def _hears_leader(self) -> bool:
        if self.leads:
            return True
        if self.leader is None or self.leader not in self.linked:
            return False
        return bool(now_s() - self._leader_heard_s < self.conf.raftMinTimeout)

    def on_vote_reply(self, node: Node, message: VoteReply) -> None:
        """Count a vote or pre-vote once per voter; learn a higher term (paper, 5.1)."""
        if message.term > self.term:
            self.become_follower(message.term, None)
        elif not message.granted or not self.counts(node):
            return
        elif message.pre:
            self._count_pre_vote(node, message)
        elif message.for_term == self.term and self.role is Role.CANDIDATE:
            if self._votes_term != self.term:
                self._votes_term, self._votes = self.term, set()
            self._votes.add(node)
            if len(self._votes) + 1 >= self.majority:
                self._SyncObj__onBecomeLeader()

    def forget_vote_of(self, node: Node) -> None:
        """Its link broke: whoever comes back may have forgotten that it voted."""
        self._votes.discard(node)
        if self._pre_votes is not None:
            self._pre_votes.discard(node)

    def _count_pre_vote(self, node: Node, message: VoteReply) -> None:
        if self._pre_votes is None or message.for_term != self.term + 1 or self.leader is not None:
            return
        self._pre_votes.add(node)
        if len(self._pre_votes) + 1 >= self.majority:
            self.stand_now()

    # --- contact with the leader ---------------------------------------------------------------
    def heard_leader(self, node: Node, term: int) -> None:
        """Follow `node`, which leads in `term` (paper, 5.2), and wait for it."""
        if term == self.term and self.leads:
            raise IntegrityError(
                f"{node.id!r} claims to lead term {term}, which this replica leads"
            )
        succeeding = self._succeeding and term == self.term
        self.become_follower(term, node)
        self._pre_votes = None
        self._leader_heard_s = now_s()
        self.excused = False
        if not succeeding:
            # The outgoing leader's last heartbeats must not stop its successor (thesis 3.10).
            self._forget_candidacy()
            self.postpone_election()

    def suspect(self, node: Node) -> None:
        """Stand soon when the link to the leader broke: its process has probably ended."""
        if node == self.leader and not self.leads:
            self.election_deadline = min(self.election_deadline, now_s() + _random_s(*_SUSPICION_S))

    # --- lost time -----------------------------------------------------------------------------
    def make_up_for(self, lost_s: float) -> None:
        """Take in what arrived while this replica did not run, before judging by the clock.

        Otherwise a leader that did not run for an election timeout would step down with the
        answers of its followers unread, and a follower would stand with heartbeats unread. Only
        patience depends on these times: what may be voted, committed or read does not. Lost time
        is made up for once in a silence, so that a slow replica still notices a lost leader.
        """
        excused, self.excused = self.excused, True
        if excused:
            lost_s = 0.0
        self.prolong(lost_s)
        self.rejuvenate_links(lost_s)
        self.poll()
        if self.leads:
            # Peers whose links broke meanwhile get no more patience: they may have gone on.
            for node in self.linked & self.last_response_s.keys():
                self.last_response_s[node] = min(now_s(), self.last_response_s[node] + lost_s)

    def prolong(self, lost_s: float) -> None:
        """Wait longer for what is waited for, by the time in which it could not be noticed."""
        self.election_deadline += lost_s

    # --- taking leadership over (thesis 3.10) --------------------------------------------------
    def on_timeout_now(self, node: Node, message: TimeoutNow) -> None:
        """Stand at once, if it is the current leader that asks."""
        if message.term == self.term and node == self.leader and self.eligible:
            self.stand_now()
            self._succeed_until_s = self._stand_until_s

    def on_stay(self, node: Node, message: Stay) -> None:
        """Don't stand: the leader that asked has given up meanwhile, and leads on."""
        if message.term == self.term and node == self.leader:
            self._forget_candidacy()
            self.postpone_election()


def _random_s(low: float, high: float) -> float:
    return float(low + (high - low) * syncobj.random.random())
