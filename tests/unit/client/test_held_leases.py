"""Leases as their holder has them: when they can be counted on, and when not any more."""

import pytest
from sdk_story import (
    PATIENCE_S,
    Cast,
    Suspended,
    an_agent,
    background,
    eventually,
    is_held,
    renews_in_background,
)

from agentkeeper import LeaseLost, NotFound, OutcomeUnknown, StaleToken
from agentkeeper.client import holding
from agentkeeper.errors import AgentKeeperError
from agentkeeper.testing import FakeKeeper


@pytest.fixture
def cast(fake_keeper: FakeKeeper) -> Cast:
    return Cast(fake_keeper)


# ---- the deadline


def test_it_is_lost_a_little_before_its_ttl_when_nobody_answers(cast: Cast):
    lease = cast.acquire(ttl=60)
    cast.keeper.disconnect(cast.client)
    cast.keeper.advance(59.4)
    assert is_held(lease)
    assert cast.told == []
    cast.keeper.advance(0.1)
    assert lease.lost
    assert lease.lost.reason == "not renewed in time"
    with pytest.raises(LeaseLost, match="not renewed in time") as lost:
        lease.check()
    assert lost.value.code().name == "NOT_FOUND"
    assert not cast.rival_gets_it(), "the holder knows before anybody else can have it"
    eventually(lambda: cast.told == [lease], "a call back with the handle")
    cast.keeper.advance(3600)
    assert cast.told == [lease], "once"


def test_the_deadline_counts_from_when_the_first_attempt_was_sent(cast: Cast):
    cast.way.requests_lost["AcquireLease"] = 1
    acquiring = background(cast.acquire, ttl=600)
    eventually(lambda: cast.way.calls["AcquireLease"] == 1, "an attempt")
    while not acquiring.done():
        cast.keeper.advance(1)
    lease = acquiring.result()
    assert 5 <= cast.keeper.now <= 20, "the first attempt took its time"
    cast.keeper.disconnect(cast.client)
    cast.keeper.advance(599.4 - cast.keeper.now)
    assert is_held(lease)
    cast.keeper.advance(0.1)
    assert lease.lost


def test_a_renewal_counts_from_when_it_was_first_sent(cast: Cast):
    lease = cast.acquire(ttl=600)
    cast.keeper.advance(100)
    cast.way.requests_lost["RenewLease"] = 1
    renewing = renews_in_background(cast, lease)
    while not renewing.done():
        cast.keeper.advance(1)
    cast.keeper.disconnect(cast.client)
    cast.keeper.advance(699.4 - cast.keeper.now)
    assert is_held(lease)
    cast.keeper.advance(0.1)
    assert lease.lost


def test_time_in_which_the_machine_slept_counts(fake_keeper: FakeKeeper):
    client, told = fake_keeper.client(), []
    machine = Suspended(fake_keeper, client)
    agent_id = an_agent(client).agent_id
    lease = client.acquire_lease("job", agent_id, ttl=3600, on_lost=told.append)
    machine.sleep(3599.4)
    assert is_held(lease)
    machine.sleep(0.1)
    assert lease.lost
    with pytest.raises(LeaseLost):
        lease.check()
    fake_keeper.advance(0)
    eventually(lambda: told == [lease], "a call back")


def test_whoever_is_called_back_after_a_sleep_need_not_have_asked(fake_keeper: FakeKeeper):
    client, told = fake_keeper.client(), []
    machine = Suspended(fake_keeper, client)
    agent_id = an_agent(client).agent_id
    held = client.acquire_lease("job", agent_id, ttl=3600, on_lost=told.append)
    machine.sleep(7200)
    fake_keeper.advance(5)
    assert held._held.tenure._over, "seen within seconds of waking up"
    eventually(lambda: told == [held], "a call back")


def test_waiting_for_the_loss_ends_with_it(cast: Cast):
    lease = cast.acquire(ttl=60)
    assert lease.lost.wait(0) is False
    waiting = [background(lease.lost.wait) for _ in range(5)]
    cast.keeper.disconnect(cast.client)
    cast.keeper.advance(60)
    assert [future.result(PATIENCE_S) for future in waiting] == [True] * 5
    assert lease.lost.wait() is True, "for good"
    assert "not renewed in time" in repr(lease.lost)


def test_waiting_for_a_loss_that_can_not_come_any_more_ends(cast: Cast):
    lease = cast.acquire()
    waiting = background(lease.lost.wait)
    lease.release()
    assert waiting.result(5) is False
    assert background(lease.lost.wait).result(5) is False


def test_looking_now_and_then_leaves_nothing_behind(cast: Cast):
    lease = cast.acquire()
    for _ in range(100):
        lease.lost.wait(0)
    assert len(lease._held.tenure._observers) <= 2


def test_a_callback_that_raises_harms_nobody(cast: Cast, caplog):
    def fail(handle):
        raise ZeroDivisionError

    lost = cast.client.acquire_lease("one", cast.agent.agent_id, 60, on_lost=fail)
    other = cast.acquire(key="two")
    cast.keeper.disconnect(cast.client)
    cast.keeper.advance(60)
    eventually(lambda: cast.told == [other], "the other call back")
    eventually(lambda: "a callback raised" in caplog.text, "a line in the log")
    assert lost.lost


# ---- acquiring


def test_a_grant_that_was_waited_for_is_renewed_before_it_is_counted_on(cast: Cast):
    cast.rival.acquire_lease("job", cast.rival_agent.agent_id, ttl=100)
    acquiring = background(cast.acquire, ttl=5, wait=200)
    eventually(lambda: cast.keeper.calls_under_way == 1, "somebody waits")
    cast.keeper.advance(100)
    lease = acquiring.result(PATIENCE_S)
    assert cast.way.calls["RenewLease"] == 1
    cast.keeper.disconnect(cast.client)
    cast.keeper.advance(4.9)
    assert is_held(lease)
    cast.keeper.advance(0.05)
    assert lease.lost


def test_a_grant_that_has_ended_before_it_was_heard_of_is_lost(cast: Cast):
    cast.way.late_s["AcquireLease"] = 8
    acquiring = background(cast.acquire, ttl=5)
    eventually(lambda: cast.way.calls["AcquireLease"] == 1, "an attempt")
    cast.keeper.advance(6)
    assert cast.rival_gets_it()
    cast.keeper.advance(2)
    with pytest.raises((LeaseLost, StaleToken)):
        acquiring.result(PATIENCE_S)


def test_acquiring_ends_with_its_timeout_also_while_it_makes_sure(cast: Cast, monkeypatch):
    monkeypatch.setattr(holding, "WAITED", 0.0)
    cast.way.late_s["AcquireLease"] = 1
    cast.way.requests_lost["RenewLease"] = 1000
    acquiring = background(cast.acquire, ttl=600, timeout=5)
    eventually(lambda: cast.way.calls["AcquireLease"] == 1, "an attempt")
    cast.keeper.advance(6)
    lease = acquiring.result(5)
    assert is_held(lease), "it counts from when it was asked for"


def test_the_holder_acquires_anew_unless_it_is_exclusive(cast: Cast):
    first = cast.acquire()
    assert cast.client.acquire_lease("job", cast.agent.agent_id, exclusive=True) is None
    assert is_held(first)
    assert first.renew().token == first.token
    second = cast.acquire()
    assert second.token > first.token
    assert is_held(second)
    with pytest.raises(StaleToken):
        first.renew()
    assert first.lost


def test_a_handle_is_stale_at_once_when_its_client_acquires_anew(cast: Cast):
    first = cast.acquire()
    second = cast.acquire()
    assert not is_held(first)
    second.release()
    assert cast.rival_gets_it()
    assert not is_held(first)


def test_the_token_is_that_of_the_present_holder_only(cast: Cast):
    verify = cast.rival.verify_token
    assert not verify("job", 1)
    lease = cast.acquire(ttl=10)
    assert verify("job", lease.token)
    assert not verify("job", lease.token + 1)
    assert not verify("other", lease.token)
    cast.keeper.advance(9)
    lease.renew()
    cast.keeper.advance(9)
    assert verify("job", lease.token), "a renewal keeps the token"
    again = cast.acquire(ttl=10)
    assert not verify("job", lease.token)
    assert verify("job", again.token)
    cast.keeper.advance(10)
    assert not verify("job", again.token), "it has expired"
    last = cast.acquire(ttl=10)
    last.release()
    assert not verify("job", last.token)


# ---- giving back


def test_what_was_released_is_not_held_and_not_lost(cast: Cast):
    lease = cast.acquire()
    lease.release()
    lease.release()
    with pytest.raises(LeaseLost, match="released"):
        lease.check()
    assert not lease.lost
    assert lease.lost.reason == ""
    assert cast.rival_gets_it()
    cast.keeper.advance(600)
    assert not lease.lost
    assert cast.told == []


def test_nothing_is_counted_on_from_when_its_release_was_sent(cast: Cast):
    lease = cast.acquire(ttl=600)
    cast.way.answers_lost["ReleaseLease"] = 1000
    releasing = background(lease.release, timeout=5)
    eventually(lambda: cast.way.calls["ReleaseLease"] == 1, "a release on its way")
    cast.keeper.advance(1)
    assert cast.rival_gets_it()
    assert not is_held(lease)
    cast.keeper.advance(10)
    with pytest.raises(OutcomeUnknown):
        releasing.result(PATIENCE_S)
    assert not is_held(lease)


def test_leaving_the_block_releases(cast: Cast):
    with cast.acquire() as lease:
        assert is_held(lease)
    assert cast.rival_gets_it()
    with cast.acquire(key="other") as lease:
        lease.release()


def test_leaving_the_block_of_a_lease_that_has_expired_raises(cast: Cast):
    with pytest.raises(LeaseLost), cast.acquire(ttl=10):
        cast.keeper.advance(11)


def test_leaving_the_block_of_a_lease_that_was_taken_raises(cast: Cast):
    with pytest.raises(StaleToken) as stale, cast.acquire(ttl=10):  # noqa: PT012
        cast.keeper.advance(11)
        assert cast.rival_gets_it()
    assert isinstance(stale.value, AgentKeeperError)
    assert stale.value.code().name == "PERMISSION_DENIED"


def test_leaving_the_block_raises_also_if_only_this_side_had_given_it_up(cast: Cast):
    with pytest.raises(LeaseLost), cast.acquire(ttl=60) as lease:  # noqa: PT012
        cast.keeper.advance(59.7)
        assert lease.lost
    assert cast.rival_gets_it(), "and it is free"


@pytest.mark.parametrize("taken", [True, False])
def test_an_exception_under_way_wins(cast: Cast, taken: bool):
    with pytest.raises(ZeroDivisionError), cast.acquire(ttl=10):  # noqa: PT012
        cast.keeper.advance(11)
        assert not taken or cast.rival_gets_it()
        raise ZeroDivisionError
    eventually(lambda: cast.told, "a call back")


# ---- the agent


def test_the_leases_of_an_agent_that_deregisters_are_lost(cast: Cast):
    lease = cast.acquire(ttl=3600)
    cast.agent.deregister()
    assert cast.rival_gets_it()
    assert not is_held(lease)
    eventually(lambda: cast.told == [lease], "a call back")


def test_a_lease_is_not_counted_on_for_longer_than_its_agent_lives(fake_keeper: FakeKeeper):
    client, rival = fake_keeper.client(), fake_keeper.client()
    rival_id = an_agent(rival, "rival").agent_id
    lease = client.acquire_lease("job", an_agent(client, ttl=10).agent_id, ttl=3600)
    fake_keeper.disconnect(client)
    for _ in range(30):
        fake_keeper.advance(1)
        theirs = rival.acquire_lease("job", rival_id)
        assert not (is_held(lease) and theirs is not None)
    assert not is_held(lease)


def test_a_lease_for_an_agent_of_another_client_is_had(cast: Cast):
    lease = cast.rival.acquire_lease("job", cast.agent.agent_id, ttl=60, keep_alive=True)
    cast.keeper.advance(600)
    assert is_held(lease)
    with pytest.raises(NotFound):
        cast.rival.acquire_lease("job", "0" * 32)
