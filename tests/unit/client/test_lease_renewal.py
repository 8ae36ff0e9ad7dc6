"""Leases that are renewed, in the background and by hand."""

import pytest
from sdk_story import (
    PATIENCE_S,
    Cast,
    background,
    eventually,
    holder_of,
    is_held,
    renews_in_background,
)

from agentkeeper import InvalidArgument, LeaseLost, OutcomeUnknown
from agentkeeper.errors import AgentKeeperError, Unavailable
from agentkeeper.testing import FakeKeeper


@pytest.fixture
def cast(fake_keeper: FakeKeeper) -> Cast:
    return Cast(fake_keeper)


# ---- keep_alive


def test_a_lease_that_is_kept_alive_is_renewed_three_times_per_ttl(cast: Cast):
    lease = cast.acquire(ttl=60, keep_alive=True)
    cast.keeper.advance(3600)
    assert is_held(lease)
    assert cast.way.calls["RenewLease"] == pytest.approx(180, abs=2)
    assert holder_of(cast.keeper, "job") == (cast.agent.agent_id, lease.token)
    lease.release()
    cast.keeper.advance(3600)
    assert cast.way.calls["RenewLease"] == pytest.approx(180, abs=2), "no more after that"


@pytest.mark.parametrize("lost", ["requests_lost", "answers_lost"])
def test_a_kept_lease_survives_the_loss_of_a_renewal(cast: Cast, lost: str):
    lease = cast.acquire(ttl=60, keep_alive=True)
    for _ in range(10):
        getattr(cast.way, lost)["RenewLease"] = 1
        cast.keeper.advance(61)
        assert is_held(lease)
    assert cast.told == []


def test_a_kept_lease_survives_a_cut_that_is_shorter_than_its_ttl(cast: Cast):
    lease = cast.acquire(ttl=60, keep_alive=True)
    cast.keeper.advance(19)  # the last renewal is as old as it gets
    cast.keeper.disconnect(cast.client)
    cast.keeper.advance(38)
    cast.keeper.reconnect(cast.client)
    cast.keeper.advance(600)
    assert is_held(lease)


def test_keeping_ends_when_the_lease_is_acquired_anew(cast: Cast):
    lease = cast.acquire(keep_alive=True)
    again = cast.acquire()
    cast.keeper.advance(21)
    assert not is_held(lease)
    assert is_held(again)
    eventually(lambda: cast.told == [lease], "a call back")
    calls = cast.way.calls["RenewLease"]
    cast.keeper.advance(600)
    assert cast.way.calls["RenewLease"] <= max(calls, 1)


def test_keeping_ends_when_the_lease_is_released_elsewhere(cast: Cast):
    lease = cast.acquire(keep_alive=True)
    elsewhere = cast.keeper.client().acquire_lease("job", cast.agent.agent_id)
    elsewhere.release()
    cast.keeper.advance(21)
    assert lease.lost
    assert cast.rival_gets_it()
    eventually(lambda: cast.told == [lease], "a call back")


def test_keeping_ends_when_the_agent_is_dead(cast: Cast):
    lease = cast.acquire(keep_alive=True)
    elsewhere = cast.keeper.client()
    elsewhere._runner.start(elsewhere._core.deregister(cast.agent.agent_id, 5)).result(PATIENCE_S)
    cast.keeper.advance(21)
    assert lease.lost
    with pytest.raises(LeaseLost):
        lease.check()


def test_a_shorter_ttl_is_kept_alive_too(cast: Cast):
    lease = cast.acquire(ttl=60, keep_alive=True)
    cast.keeper.advance(1)
    lease.renew(6)
    cast.keeper.advance(100)
    assert is_held(lease)
    assert holder_of(cast.keeper, "job") == (cast.agent.agent_id, lease.token)


def test_a_shorter_ttl_holds_whatever_renewal_was_under_way(cast: Cast):
    """The background's renewal, by the long ttl, is answered while the short one is asked for."""
    lease = cast.acquire(ttl=60, keep_alive=True)
    cast.keeper.advance(19)
    cast.way.late_s["RenewLease"] = 3
    cast.keeper.advance(2)  # the background's is on its way
    cast.way.answers_lost["RenewLease"] = 0
    shorter = background(lease.renew, 6, timeout=4)
    cast.keeper.advance(0)
    cast.way.late_s["RenewLease"] = 0
    cast.way.answers_lost["RenewLease"] = 100  # heard by the keeper, never answered
    cast.keeper.advance(6)
    with pytest.raises(AgentKeeperError):
        shorter.result(PATIENCE_S)
    cast.keeper.disconnect(cast.client)
    for _ in range(40):
        cast.keeper.advance(1)
        assert not (is_held(lease) and cast.rival_gets_it())


def test_a_renewal_gives_up_in_time_though_another_is_under_way(cast: Cast):
    lease = cast.acquire(ttl=60, keep_alive=True)
    cast.way.requests_lost["RenewLease"] = 1000
    cast.keeper.advance(21)
    renewing = background(lease.renew, timeout=2)
    cast.keeper.advance(0)
    eventually(lambda: lease._held._renewing._waiters or renewing.done(), "both under way")
    cast.keeper.advance(3)
    with pytest.raises((Unavailable, OutcomeUnknown)):
        renewing.result(5)


# ---- renewing


def test_a_longer_ttl_moves_the_deadline(cast: Cast):
    lease = cast.acquire(ttl=10)
    cast.keeper.advance(5)
    renewed = lease.renew(600)
    assert renewed == lease.lease
    assert renewed.ttl_seconds == 600
    cast.keeper.disconnect(cast.client)
    cast.keeper.advance(599.4)
    assert is_held(lease)
    cast.keeper.advance(0.1)
    assert lease.lost


def test_a_shorter_ttl_moves_the_deadline(cast: Cast):
    lease = cast.acquire(ttl=600)
    lease.renew(10)
    cast.keeper.disconnect(cast.client)
    cast.keeper.advance(9.8)
    assert is_held(lease)
    cast.keeper.advance(0.1)
    assert lease.lost


def test_renewing_without_a_ttl_repeats_the_last_one(cast: Cast):
    lease = cast.acquire(ttl=600)
    lease.renew(20)
    cast.keeper.advance(10)
    assert lease.renew().ttl_seconds == 20
    cast.keeper.disconnect(cast.client)
    cast.keeper.advance(19.7)
    assert is_held(lease)
    cast.keeper.advance(0.2)
    assert lease.lost


def test_a_shorter_ttl_counts_also_when_nobody_has_confirmed_it(cast: Cast):
    lease = cast.acquire(ttl=600)
    cast.way.answers_lost["RenewLease"] = 100
    renewing = renews_in_background(cast, lease, ttl=10, timeout=5)
    cast.keeper.advance(5)
    with pytest.raises(OutcomeUnknown):
        renewing.result(PATIENCE_S)
    cast.keeper.advance(4.9)
    assert lease.lost
    cast.keeper.advance(0.1)
    assert cast.rival_gets_it()


@pytest.mark.parametrize("ttl", [-1, 86_401])
def test_a_ttl_that_is_refused_changes_nothing(cast: Cast, ttl: int):
    lease = cast.acquire(ttl=60)
    with pytest.raises((InvalidArgument, ValueError)):
        lease.renew(ttl)
    cast.keeper.advance(50)
    assert is_held(lease)
    assert lease.renew().ttl_seconds == 60


def test_a_ttl_of_nothing_is_the_last_one(cast: Cast):
    lease = cast.acquire(ttl=60)
    assert lease.renew(0).ttl_seconds == 60
    assert is_held(lease)


def test_what_is_renewed_too_late_is_given_back(cast: Cast):
    lease = cast.acquire(ttl=10)
    cast.keeper.advance(5)
    cast.way.late_s["RenewLease"] = 8
    renewing = renews_in_background(cast, lease)
    cast.keeper.advance(5)
    assert lease.lost, "no answer by the deadline"
    assert not cast.rival_gets_it(), "the keeper has renewed it"
    cast.keeper.advance(3)
    with pytest.raises(LeaseLost):
        renewing.result(PATIENCE_S)
    cast.keeper.advance(0)
    assert cast.rival_gets_it(), "undone, not left to run out"
    assert not is_held(lease)
    assert lease.lost
    eventually(lambda: cast.told == [lease], "one call back")
