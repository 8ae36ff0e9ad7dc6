"""What may be concluded when answers are lost, overtaken, or about another life of an agent."""

import asyncio

import grpc
import pytest
from sdk_story import LONG_S, Way, an_agent, background, eventually, holder_of, is_held
from test_caller import IN_DOUBT, Transport, make, said

from agentkeeper import AgentStatus, LeadershipLost, errors
from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.client import methods
from agentkeeper.client.core import Core
from agentkeeper.client.endpoints import Endpoints
from agentkeeper.client.transport import Failure
from agentkeeper.testing import FakeKeeper

Code = grpc.StatusCode


async def past_the_wait(endpoint, timeout_s):
    await asyncio.sleep(0.01)
    return Failure(Code.DEADLINE_EXCEEDED, "too late", unreachable=True)


def a_core(transport: Transport) -> Core:
    clock = asyncio.get_running_loop().time
    return Core(transport, Endpoints(["a", "b"], clock), clock)


# ---- calls


async def test_a_proxy_that_refuses_a_retry_knows_nothing_of_the_first_attempt():
    transport = Transport(IN_DOUBT, Failure(Code.UNAUTHENTICATED, "the proxy's own"))
    with pytest.raises(errors.OutcomeUnknown):
        await make(transport).call(methods.CREATE_TASK, pb.CreateTaskRequest(type="x"), 5.0)


async def test_what_the_daemon_refuses_is_refused_whatever_was_in_doubt():
    transport = Transport(IN_DOUBT, said(Code.INVALID_ARGUMENT, True))
    with pytest.raises(errors.InvalidArgument):
        await make(transport).call(methods.CREATE_TASK, pb.CreateTaskRequest(type="x"), 5.0)


def held_by(agent_id: str) -> pb.AcquireLeaseResponse:
    return pb.AcquireLeaseResponse(lease=pb.Lease(task_id="k", holder_agent_id=agent_id))


GRANTED = pb.AcquireLeaseResponse(
    lease=pb.Lease(task_id="k", holder_agent_id="agent", token=pb.FencingToken(value=7)),
    acquired=True,
)


def acquire_exclusively(*answers, ttl=10, timeout_s=80.0):
    core = a_core(Transport(past_the_wait, past_the_wait, *answers))
    return core.acquire_lease("k", "agent", ttl, wait_s=0.001, exclusive=True, timeout_s=timeout_s)


async def test_after_an_exclusive_wait_without_an_answer_more_questions_tell(monkeypatch):
    """Only where the agent itself is told to be the holder that may be by the lost request's grant.

    Nobody confirms that, so it passes on; a hold that stays is by another one.
    """
    monkeypatch.setattr("agentkeeper.client.core.ASK_AGAIN_S", 0.001)
    monkeypatch.setattr("agentkeeper.client.core.PASSES_ON_S", 0.005)
    assert await acquire_exclusively(held_by("another")) is None
    acquired = await acquire_exclusively(held_by("agent"), GRANTED)
    assert acquired is not None
    assert acquired.token == 7
    assert await acquire_exclusively(held_by("agent"), ttl=0) is None


async def test_a_grant_made_late_in_an_outage_may_still_pass_on_for_its_whole_ttl(monkeypatch):
    """The first answer may come long after the wait, and just after the lost request's grant."""
    monkeypatch.setattr("agentkeeper.client.core.ASK_AGAIN_S", 0.001)
    monkeypatch.setattr("agentkeeper.client.core.PASSES_ON_S", 0.005)

    async def late(endpoint, timeout_s):
        await asyncio.sleep(0.02)
        return held_by("agent")

    acquired = await acquire_exclusively(late, *[held_by("agent")] * 20, GRANTED)
    assert acquired is not None, "nobody else has held it"


async def test_an_exclusive_wait_that_is_not_cleared_up_in_time_is_of_unknown_outcome(monkeypatch):
    monkeypatch.setattr("agentkeeper.client.core.ASK_AGAIN_S", 0.5)
    with pytest.raises(errors.OutcomeUnknown):
        await acquire_exclusively(held_by("agent"), timeout_s=0.6)


async def test_a_grant_that_nobody_will_confirm_is_none():
    """To its own holder a lease is refused only while the grant to a former request waits so."""
    core = a_core(Transport(past_the_wait, past_the_wait, held_by("agent")))
    assert not await core.acquire_lease(
        "k", "agent", 10, wait_s=0.001, exclusive=False, timeout_s=80.0
    )


@pytest.mark.parametrize(
    ("first", "kind"), [(past_the_wait, errors.OutcomeUnknown), (None, errors.Unavailable)]
)
async def test_that_no_task_was_claimed_is_certain_only_if_every_wait_was_answered(
    first, kind, monkeypatch
):
    monkeypatch.setattr("agentkeeper.client.core.CLAIM_WAIT_S", 0.005)
    monkeypatch.setattr("agentkeeper.client.core.ASK_AGAIN_S", 0.05)

    async def wait(endpoint, timeout_s):
        await asyncio.sleep(0.01)
        return pb.ClaimTaskResponse()

    script = [first, first, wait] if first else [wait]
    with pytest.raises(kind) as caught:
        await a_core(Transport(*script)).claim_task("agent", 0.2)
    assert caught.value.code() is Code.DEADLINE_EXCEEDED


async def test_a_claim_leaves_time_for_the_last_answer(monkeypatch):
    core, loop = a_core(Transport(None)), asyncio.get_running_loop()
    now_s, for_answers_s = 0.0, []

    async def answered_when_the_wait_is_over(method, request, timeout_s, *, hold_s):
        nonlocal now_s
        wait_s = request.wait_ms / 1000
        now_s += wait_s
        for_answers_s.append(timeout_s - wait_s)
        return pb.ClaimTaskResponse()

    monkeypatch.setattr(core._caller, "call", answered_when_the_wait_is_over)
    monkeypatch.setattr(loop, "time", lambda: now_s)
    with pytest.raises(errors.Unavailable):
        await core.claim_task("agent", 30.0)
    assert len(for_answers_s) > 2
    assert min(for_answers_s) >= 0.2


# ---- leases


def test_of_two_acquisitions_that_overlap_only_the_last_one_sent_counts(fake_keeper: FakeKeeper):
    client = fake_keeper.client()
    way, agent = Way(client), an_agent(client)
    way.late_s["AcquireLease"] = 8  # so that its answer is overtaken
    first = background(client.acquire_lease, "job", agent.agent_id)
    eventually(lambda: way.calls["AcquireLease"] == 1, "the first one sent")
    way.late_s["AcquireLease"] = 2
    second = background(client.acquire_lease, "job", agent.agent_id)
    eventually(lambda: way.calls["AcquireLease"] == 2, "the second one sent")
    fake_keeper.advance(2)
    held = second.result(10)
    assert is_held(held)
    fake_keeper.advance(6)
    assert first.result(10).lost
    assert is_held(held)
    assert holder_of(fake_keeper, "job") == (agent.agent_id, held.token)


def test_renewing_by_hand_puts_off_the_next_renewal(fake_keeper: FakeKeeper):
    client = fake_keeper.client()
    way, agent = Way(client), an_agent(client)
    lease = client.acquire_lease("job", agent.agent_id, ttl=30, keep_alive=True)
    for _ in range(20):
        fake_keeper.advance(9)
        lease.renew()
    assert way.calls["RenewLease"] == 20


# ---- agents


def test_what_an_agent_holds_is_not_counted_on_from_when_it_deregisters(fake_keeper: FakeKeeper):
    client, rival = fake_keeper.client(), fake_keeper.client()
    way, agent, other = Way(client), an_agent(client), an_agent(rival)
    lease = client.acquire_lease("job", agent.agent_id, ttl=LONG_S)
    way.answers_lost["Deregister"] = 1
    leaving = background(agent.deregister, timeout=5)
    eventually(lambda: holder_of(fake_keeper, "job") is None, "the agent dead")
    assert not is_held(lease)
    assert rival.acquire_lease("job", other.agent_id) is not None
    while not leaving.done():
        fake_keeper.advance(1)


def test_a_dead_agent_s_life_is_over_before_anybody_can_say_why(fake_keeper: FakeKeeper):
    client, rival = fake_keeper.client(), fake_keeper.client()
    way = Way(client)
    agent = an_agent(client, "one", ttl=60)
    lease = client.acquire_lease("job", agent.agent_id, ttl=LONG_S)
    rival.register("one", "", "1", on_name_conflict="replace")
    way.requests_lost["GetAgent"] = 100
    fake_keeper.advance(31)  # by now a heartbeat was refused
    assert way.calls["GetAgent"] > 0
    assert not is_held(lease)


def test_an_answer_for_a_former_id_is_not_tied_to_the_present_life(fake_keeper: FakeKeeper):
    client, rival = fake_keeper.client(), fake_keeper.client()
    way = Way(client)
    agent = an_agent(client, ttl=1, reregister=True)
    other, former = an_agent(rival), agent.agent_id
    way.late_s["AcquireLease"] = 9
    acquiring = background(client.acquire_lease, "job", former, LONG_S, timeout=300)
    eventually(lambda: holder_of(fake_keeper, "job"), "the lease granted")
    way.requests_lost["Heartbeat"] = 100
    while rival.get_agent(former).status is not AgentStatus.DEAD:
        fake_keeper.advance(0.25)
    way.requests_lost["Heartbeat"] = 0
    while agent.agent_id == former:
        fake_keeper.advance(0.25)
    assert rival.acquire_lease("job", other.agent_id) is not None
    while not acquiring.done():
        fake_keeper.advance(5)
    with pytest.raises(errors.LeaseLost):
        acquiring.result()


# ---- leading


def test_a_withdrawal_that_is_late_does_not_end_the_next_campaign(fake_keeper: FakeKeeper):
    client, rival = fake_keeper.client(), fake_keeper.client()
    way, agent, other = Way(client), an_agent(client), an_agent(rival)
    leader = rival.lead("group", other)
    way.requests_lost["Resign"] = 1
    first = background(client.lead, "group", agent, timeout=5)
    eventually(lambda: way.calls["Campaign"] == 1, "a candidate")
    fake_keeper.advance(5)
    with pytest.raises(errors.Unavailable):
        first.result(10)
    second = background(client.lead, "group", agent)
    fake_keeper.advance(60)
    eventually(lambda: way.calls["Campaign"] == 2, "a candidate again")
    leader.resign()
    leadership = second.result(10)
    fake_keeper.advance(60)
    leadership.check()


def test_a_leadership_that_was_over_before_is_not_won(fake_keeper: FakeKeeper):
    """The watch may begin with a state older than the campaign's answer."""
    client, rival = fake_keeper.client(), fake_keeper.client()
    way, agent, other = Way(client), an_agent(client), an_agent(rival)
    first = client.lead("group", agent)
    rival.campaign("group", other.agent_id)
    way.late_s["Campaign"], before = 5, way.calls["Campaign"]
    # As the watch begins it still leads; it does not any more when the campaign is answered.
    again = background(client.lead, "group", agent, timeout=30)
    eventually(lambda: way.calls["Campaign"] > before, "a campaign")
    first.resign()
    fake_keeper.advance(40)
    try:
        leadership = again.result(10)
    except errors.Unavailable:
        return
    state = rival.campaign("group", other.agent_id)
    if state.leader_agent_id != agent.agent_id or state.term != leadership.term:
        with pytest.raises(LeadershipLost):
            leadership.check()


def test_a_leadership_whose_watch_breaks_is_not_counted_on(fake_keeper: FakeKeeper, monkeypatch):
    client, rival = fake_keeper.client(), fake_keeper.client()
    agent, other = an_agent(client), an_agent(rival)
    leadership = client.lead("group", agent)
    rival.campaign("group", other.agent_id)

    def convert_badly(message):
        raise ZeroDivisionError("newer than this")

    monkeypatch.setattr("agentkeeper.client.convert.event_from", convert_badly)
    rival.resign("group", agent.agent_id)
    fake_keeper.advance(1)
    with pytest.raises(LeadershipLost):
        leadership.check()
