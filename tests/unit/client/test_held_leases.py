"""Leases as their holder has them: never counted on by two, whatever becomes of the network."""

import random

import pytest
from sdk_story import (
    PATIENCE_S,
    Suspended,
    Way,
    an_agent,
    background,
    eventually,
    holder_of,
)

from agentkeeper import InvalidArgument, LeaseLost, NotFound, OutcomeUnknown, StaleToken
from agentkeeper.client import holding
from agentkeeper.errors import AgentKeeperError, Unavailable
from agentkeeper.testing import FakeKeeper


class Cast:
    """A client that holds, on a way that can be made worse, and another one that wants to."""

    def __init__(self, keeper: FakeKeeper) -> None:
        self.keeper = keeper
        self.client, self.rival = keeper.client(), keeper.client()
        self.way = Way(self.client)
        self.agent = an_agent(self.client, "holder")
        self.rival_agent = an_agent(self.rival, "rival")
        self.told = []

    def acquire(self, ttl=60, key="job", **options):
        held = self.client.acquire_lease(
            key, self.agent.agent_id, ttl, on_lost=self.told.append, **options
        )
        assert held is not None
        return held

    def rival_gets_it(self, key="job"):
        return self.rival.acquire_lease(key, self.rival_agent.agent_id) is not None


@pytest.fixture
def cast(fake_keeper: FakeKeeper) -> Cast:
    return Cast(fake_keeper)


def is_held(lease) -> bool:
    try:
        lease.check()
    except LeaseLost:
        return False
    return True


def renews_in_background(cast, lease, **options):
    """Begin to renew, and return once the request is on its way."""
    before = cast.way.calls["RenewLease"]
    renewing = background(lease.renew, **options)
    eventually(lambda: cast.way.calls["RenewLease"] > before, "a renewal under way")
    return renewing


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
    assert cast.told


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


# ---- whatever happens


class Walk:
    """Clients that do this and that by lot, while the network does the same."""

    KEYS = ("a", "b")

    def __init__(self, keeper: FakeKeeper, seed: int) -> None:
        self.keeper = keeper
        self.lot = random.Random(seed)
        self.clients = [keeper.client() for _ in range(3)]
        self.ways = [Way(client) for client in self.clients]
        self.agents = [self.register(number, timeout=30) for number in range(3)]
        self.is_cut = [False] * 3
        self.handles = []
        self.grants = 0
        self.waiting = []
        self.acquiring = []

    def register(self, number: int, timeout: float):
        ttl = self.lot.choice([3, 10, 600])
        return self.clients[number].register("x", "", "1", ttl=ttl, timeout=timeout)

    def step(self) -> None:
        number = self.lot.randrange(3)
        what = self.lot.choices(
            ["acquire", "renew", "release", "advance", "cut", "mend", "late", "die", "line"],
            [8, 5, 2, 8, 2, 3, 3, 1, 2],
        )[0]
        getattr(self, what)(number)
        self.collect()
        self.look()

    def patience_s(self, number: int) -> float:
        return 0 if self.is_cut[number] else 30

    def call(self, number: int, call, *args, **keywords):
        """Make a call, on a thread of its own as its answer may be late; None if it fails."""
        tasks = self.clients[number]._runner._tasks
        before = set(tasks)
        calling = background(call, *args, timeout=self.patience_s(number), **keywords)
        while not calling.done():
            eventually(lambda: calling.done() or set(tasks) - before, "a call under way")
            self.keeper.advance(0)
            self.look()
            if set(tasks) - before:  # it needs time
                self.keeper.advance(self.lot.choice([0.3, 1]))
                self.look()
        error = calling.exception()
        assert error is None or isinstance(error, AgentKeeperError), error
        return None if error else calling.result()

    def acquire(self, number: int) -> None:
        ttl = self.lot.choice([1, 2, 5, 30, 120])
        acquire = self.clients[number].acquire_lease
        agent_id, key = self.agents[number].agent_id, self.lot.choice(self.KEYS)
        keep_alive = self.lot.random() < 0.5
        self.acquiring.append((key, agent_id))
        acquired = self.call(number, acquire, key, agent_id, ttl, keep_alive=keep_alive)
        self.acquiring.remove((key, agent_id))
        self.keep(number, key, acquired)

    def line(self, number: int) -> None:
        if not self.is_cut[number]:
            client, key = self.clients[number], self.lot.choice(self.KEYS)
            agent_id, wait = self.agents[number].agent_id, self.lot.choice([3, 20])
            waiting = background(client.acquire_lease, key, agent_id, 10, wait=wait)
            self.acquiring.append((key, agent_id))
            self.waiting.append((number, key, agent_id, waiting))

    def collect(self) -> None:
        for entry in [entry for entry in self.waiting if entry[3].done()]:
            self.waiting.remove(entry)
            number, key, agent_id, waiting = entry
            self.acquiring.remove((key, agent_id))
            assert waiting.exception() is None or isinstance(waiting.exception(), AgentKeeperError)
            self.keep(number, key, None if waiting.exception() else waiting.result())

    def keep(self, number: int, key: str, handle) -> None:
        if handle is not None:
            self.handles.append((number, key, handle))
            self.grants += 1

    def renew(self, _: int) -> None:
        if self.handles:
            number, _, handle = self.lot.choice(self.handles[-6:])
            self.call(number, handle.renew, self.lot.choice([None, 1, 4, 60]))

    def release(self, _: int) -> None:
        if self.handles:
            number, _, handle = self.lot.choice(self.handles[-6:])
            self.call(number, handle.release)

    def advance(self, _: int) -> None:
        self.keeper.advance(self.lot.choice([0, 0.05, 0.5, 1, 2.97, 5, 20, 60]))

    def cut(self, number: int) -> None:
        self.keeper.disconnect(self.clients[number])
        self.is_cut[number] = True

    def mend(self, number: int) -> None:
        self.keeper.reconnect(self.clients[number])
        self.is_cut[number] = False

    def late(self, number: int) -> None:
        late_s = self.lot.choice([0, 0, 0.7, 3])
        self.ways[number].late_s = dict.fromkeys(("RenewLease", "AcquireLease"), late_s)

    def die(self, number: int) -> None:
        if not self.is_cut[number]:
            self.call(number, self.agents[number].deregister)
            self.agents[number] = self.call(number, self.register, number) or self.agents[number]

    def look(self) -> None:
        """Whoever counts on a lease has it, and nobody else counts on it.

        An agent that is just acquiring its own lease anew may have a newer token than it knows.
        """
        for _, key, handle in self.handles:
            if is_held(handle):
                agent_id, token = holder_of(self.keeper, key) or ("", 0)
                assert agent_id == handle.lease.holder_agent_id, (handle, self.keeper.now)
                if (key, agent_id) not in self.acquiring:
                    assert token == handle.token, (handle, self.keeper.now)


@pytest.mark.parametrize("seed", range(20))
def test_no_lease_is_counted_on_by_two(fake_keeper: FakeKeeper, seed: int):
    walk = Walk(fake_keeper, seed)
    for _ in range(60):
        walk.step()
    assert walk.grants > 3
