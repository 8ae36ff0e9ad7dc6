"""Faults planted in the product on purpose: the simulation must find them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.simulation import plants_in_engine as engine
from tests.simulation import plants_in_state as state
from tests.simulation.provocation import DyingWaiters, FullLeader, Handover, Provocation

Plant = Callable[[pytest.MonkeyPatch], None]

_PLANTS: tuple[Plant, ...] = (
    engine.log_not_synced,
    engine.failed_sync_ignored,
    engine.vote_not_stored,
    engine.whole_log_taken_for_committed,
    engine.two_votes_in_a_term,
    engine.votes_for_a_shorter_log,
    engine.half_is_a_majority,
    engine.wiped_voter_counts,
    engine.learner_votes,
    engine.vouch_before_flush,
    engine.leader_counts_unsynced,
    engine.previous_entry_not_checked,
    engine.commits_more_than_matches,
    engine.reads_without_a_round,
    engine.leads_without_a_majority,
    engine.open_proposals_rejected,
    engine.snapshot_drops_the_log,
    state.granted_while_held,
    state.granted_to_the_dead,
    state.stale_lease_token,
    state.stale_claim_token,
    state.token_lost_in_a_snapshot,
    state.expiry_by_own_clock,
    state.deadlines_early,
    state.time_rewound_at_takeover,
    state.time_from_the_wall_clock,
    state.clock_runs_fast,
    state.answers_not_kept,
    state.answers_lost_in_a_snapshot,
    state.sessions_lost_in_a_snapshot,
    state.sequence_used_again,
    state.event_skipped_on_resume,
    state.order_of_hashes,
)

PLANTS: dict[str, Plant] = {plant.__name__.replace("_", " "): plant for plant in _PLANTS}
"""By name. Each is given a patch that lasts for one run; its docstring says what is wrong."""

PROVOKED: dict[str, type[Provocation]] = {
    "vote not stored": Handover,
    "leader counts unsynced": FullLeader,
    "granted to the dead": DyingWaiters,
}
"""What is done on purpose besides, for plants that show too seldom."""
