"""Faults planted in the engine: the log, the vote, what counts as committed, and snapshots."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pysyncobj.node import Node

from agentkeeper.consensus.ballot import Ballot
from agentkeeper.consensus.internals import RaftInternals, now_s
from agentkeeper.consensus.journal import Journal, JournalFullError
from agentkeeper.consensus.membership import Membership
from agentkeeper.consensus.messages import Append, VoteReply, VoteRequest
from agentkeeper.consensus.port import Outcome
from agentkeeper.consensus.raft import HardenedRaft
from agentkeeper.consensus.replication import Replication
from agentkeeper.consensus.requests import Proposal
from agentkeeper.consensus.snapshot_file import Snapshot
from agentkeeper.consensus.voting import Voting


# --- the disk ------------------------------------------------------------------------------------
def log_not_synced(patch: pytest.MonkeyPatch) -> None:
    """Entries count as stored before the disk has them."""
    made = Journal.__init__

    def make(journal: Journal, *args: Any) -> None:
        made(journal, *args)
        journal._syncs = False

    patch.setattr(Journal, "__init__", make)


def failed_sync_ignored(patch: pytest.MonkeyPatch) -> None:
    """A replica goes on when its disk did not store the log."""
    flushed = Journal.flush

    def flush(journal: Journal) -> None:
        try:
            flushed(journal)
        except JournalFullError:
            raise
        except OSError:
            journal._broken = False
            journal._settle(len(journal._unflushed))

    patch.setattr(Journal, "flush", flush)


def vote_not_stored(patch: pytest.MonkeyPatch) -> None:
    """A replica that was restarted has forgotten its vote."""
    written = Ballot._write

    def write(ballot: Ballot, stored: Any) -> None:
        written(ballot, replace(stored, vote=None))

    patch.setattr(Ballot, "_write", write)


def whole_log_taken_for_committed(patch: pytest.MonkeyPatch) -> None:
    """After a restart the commit index is taken from the disk, up to the end of the log."""
    adopted = RaftInternals._adopt_stored

    def adopt(raft: RaftInternals) -> None:
        adopted(raft)
        raft.commit_index = raft.last_index

    patch.setattr(RaftInternals, "_adopt_stored", adopt)


# --- elections -----------------------------------------------------------------------------------
def two_votes_in_a_term(patch: pytest.MonkeyPatch) -> None:
    """Whoever asks gets a vote, also the second one."""
    patch.setattr(RaftInternals, "voted_for", None)


def votes_for_a_shorter_log(patch: pytest.MonkeyPatch) -> None:
    """The election restriction (paper, 5.4.1) is missing."""
    patch.setattr(Voting, "_up_to_date", lambda raft, message: True)


def half_is_a_majority(patch: pytest.MonkeyPatch) -> None:
    """One vote too few is enough."""
    patch.setattr(RaftInternals, "majority", property(lambda raft: (len(raft.others) + 1) // 2))


def wiped_voter_counts(patch: pytest.MonkeyPatch) -> None:
    """A replica with an empty disk takes part as if it had forgotten nothing."""
    created = Ballot.create
    patch.setattr(Ballot, "create", lambda disk, voter: created(disk, voter=True))


def learner_votes(patch: pytest.MonkeyPatch) -> None:
    """A learner's vote is asked for and counts, though its entries do not."""
    voting: list[object] = []
    asked, answered, counts = Voting.on_vote_request, Voting.on_vote_reply, Membership.counts

    def on_vote_request(raft: Voting, node: Node, message: VoteRequest) -> None:
        voting.append(raft)
        try:
            asked(raft, node, message)
        finally:
            voting.pop()

    def on_vote_reply(raft: Voting, node: Node, message: VoteReply) -> None:
        voting.append(raft)
        try:
            answered(raft, node, message)
        finally:
            voting.pop()

    votes = property(lambda raft: bool(raft.ballot.voter or voting))
    patch.setattr(Membership, "votes", votes)
    patch.setattr(Membership, "counts", lambda raft, n: bool(voting) or counts(raft, n))
    patch.setattr(Voting, "on_vote_request", on_vote_request)
    patch.setattr(Voting, "on_vote_reply", on_vote_reply)


# --- replication ---------------------------------------------------------------------------------
def vouch_before_flush(patch: pytest.MonkeyPatch) -> None:
    """A follower answers as soon as it has entries in memory."""

    def vouch(raft: Replication, node: Node, round_: int, index: int) -> None:
        raft.reply(node, round_, index + 1, success=True)

    patch.setattr(Replication, "vouch", vouch)


def leader_counts_unsynced(patch: pytest.MonkeyPatch) -> None:
    """A leader counts itself for entries that its disk does not have yet."""
    name = "_SyncObj__getEntries"
    patch.setattr(
        RaftInternals, name, lambda raft, at, count=1, size=None: raft.entries_from(at, 1)
    )


def previous_entry_not_checked(patch: pytest.MonkeyPatch) -> None:
    """Entries are appended to whatever is there, as long as there is no gap (rule 2)."""

    def mismatch(raft: Replication, prev_index: int, prev_term: int) -> int | None:
        return raft.last_index + 1 if raft.term_at(prev_index) is None else None

    patch.setattr(Replication, "_mismatch", mismatch)


def commits_more_than_matches(patch: pytest.MonkeyPatch) -> None:
    """A follower commits up to the leader's commit index whatever it has there (rule 5)."""
    appended = Replication.on_append

    def on_append(raft: Replication, node: Node, message: Append) -> None:
        appended(raft, node, message)
        if message.term == raft.term:
            commit_index = min(message.commit_index, raft.last_index)
            raft.commit_index = max(raft.commit_index, commit_index)

    patch.setattr(Replication, "on_append", on_append)


# --- reads and answers ---------------------------------------------------------------------------
def reads_without_a_round(patch: pytest.MonkeyPatch) -> None:
    """A leader answers reads without asking whether it leads still."""
    patch.setattr(Replication, "confirmed_round", lambda raft: raft.round)


def leads_without_a_majority(patch: pytest.MonkeyPatch) -> None:
    """A leader that nobody answers stays one, and goes on answering reads."""
    decided = Voting.decide_on_standing

    def decide(raft: Voting) -> None:
        for node in raft.last_response_s:
            raft.last_response_s[node] = now_s()
        decided(raft)

    patch.setattr(Voting, "decide_on_standing", decide)
    reads_without_a_round(patch)


def open_proposals_rejected(patch: pytest.MonkeyPatch) -> None:
    """A proposal in the log whose time is up is said to be definitely rejected."""
    patch.setattr(Proposal, "expire", lambda proposal: proposal.end(Outcome.REJECTED))


# --- snapshots -----------------------------------------------------------------------------------
def snapshot_drops_the_log(patch: pytest.MonkeyPatch) -> None:
    """What follows a snapshot in the log is dropped with what it replaces (rule 6)."""

    def take_over(raft: HardenedRaft, snapshot: Snapshot) -> None:
        if snapshot.index > raft.delivered_index:
            raft.restart_log(snapshot.index, snapshot.term)
            raft.commit_index = max(raft.commit_index, snapshot.index)
            raft.delivered_index = snapshot.index
            raft._delivery.on_snapshot(snapshot)

    patch.setattr(HardenedRaft, "take_over", take_over)
