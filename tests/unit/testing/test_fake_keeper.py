"""The fake keeper: everything falls due at its own time, and only when time is moved."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from agentkeeper import (
    AgentKeeperClient,
    AgentStatus,
    ClientClosed,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    TaskStatus,
)
from agentkeeper.testing import FakeKeeper

from .waiting import PATIENCE_S, background, eventually

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
LONG_S = 86_400


def an_agent(client: AgentKeeperClient, name: str = "agent", ttl: int = LONG_S, **card: object):
    return client.register(name, "", "1", ttl=ttl, **card)


def second(event) -> float:
    """When something happened, in seconds since the keeper was made."""
    return (event.timestamp - BEGIN).total_seconds()


def test_a_lease_expires_to_the_millisecond_when_its_holder_is_cut_off(fake_keeper: FakeKeeper):
    holder, other = fake_keeper.client(), fake_keeper.client()
    lost = holder.acquire_lease("job", an_agent(holder).agent_id, ttl=60)
    agent_id = an_agent(other).agent_id
    fake_keeper.disconnect(holder)
    fake_keeper.advance(59.999)
    assert other.acquire_lease("job", agent_id) is None
    fake_keeper.advance(0.001)
    won = other.acquire_lease("job", agent_id)
    assert won is not None
    assert won.lease.token > lost.lease.token
    assert won.lease.acquired_at == BEGIN + timedelta(seconds=60)


def test_heartbeats_keep_agents_alive_for_as_long_as_time_is_moved(fake_keeper: FakeKeeper):
    client = fake_keeper.client()
    agents = [an_agent(client, f"agent-{n}", ttl=2 + n) for n in range(3)]
    fake_keeper.advance(3600)
    for agent in agents:
        info = client.get_agent(agent.agent_id)
        assert info.status == AgentStatus.ALIVE
        assert info.last_heartbeat_at > BEGIN + timedelta(seconds=3590)
    assert fake_keeper.now == 3600


def test_an_agent_cut_off_is_unreachable_then_dead_and_its_lease_is_free(fake_keeper: FakeKeeper):
    client, watcher = fake_keeper.client(), fake_keeper.client()
    agent_id = an_agent(client, ttl=30).agent_id
    client.acquire_lease("job", agent_id, ttl=3600)
    seen = []
    watcher.watch([], seen.append)
    fake_keeper.disconnect(client)
    fake_keeper.advance(29.999)
    assert watcher.get_agent(agent_id).status == AgentStatus.ALIVE
    fake_keeper.advance(0.001)
    assert watcher.get_agent(agent_id).status == AgentStatus.UNREACHABLE
    fake_keeper.advance(30)
    assert watcher.get_agent(agent_id).status == AgentStatus.DEAD
    assert watcher.acquire_lease("job", an_agent(watcher).agent_id) is not None
    eventually(lambda: len(seen) == 5, "all events")
    assert [(event.topic, second(event)) for event in seen] == [
        ("agent.unreachable", 30.0),
        ("agent.died", 60.0),
        ("lease.released", 60.0),
        ("agent.registered", 60.0),
        ("lease.acquired", 60.0),
    ]


def test_whoever_waits_in_line_gets_the_lease_when_it_expires(fake_keeper: FakeKeeper):
    holder, waiter = fake_keeper.client(), fake_keeper.client()
    holder.acquire_lease("job", an_agent(holder).agent_id, ttl=10)
    agent_id = an_agent(waiter).agent_id
    waiting = background(waiter.acquire_lease, "job", agent_id, ttl=5, wait=60)
    eventually(lambda: fake_keeper.calls_under_way == 1, "a call that waits")
    fake_keeper.advance(9.999)
    assert not waiting.done()
    fake_keeper.advance(0.001)
    won = waiting.result(PATIENCE_S)
    assert won.lease.holder_agent_id == agent_id
    assert won.lease.acquired_at == BEGIN + timedelta(seconds=10)
    assert fake_keeper.now == 10


def test_a_wait_in_line_ends_in_vain_after_its_own_time(fake_keeper: FakeKeeper):
    client = fake_keeper.client()
    holder, other = an_agent(client, "holder"), an_agent(client, "other")
    client.acquire_lease("job", holder.agent_id, ttl=100)
    waiting = background(client.acquire_lease, "job", other.agent_id, wait=20)
    eventually(lambda: fake_keeper.calls_under_way == 1, "a call that waits")
    fake_keeper.advance(21)
    assert waiting.result(PATIENCE_S) is None


def test_a_claim_that_is_not_completed_is_requeued_after_its_ttl(fake_keeper: FakeKeeper):
    client = fake_keeper.client()
    first, second_ = an_agent(client, "first"), an_agent(client, "second")
    task_id = client.create_task("work", ttl=30).id
    assert client.claim_task(first.agent_id).id == task_id
    claiming = background(client.claim_task, second_.agent_id)
    eventually(lambda: fake_keeper.calls_under_way == 1, "a claim that waits")
    fake_keeper.advance(29.999)
    assert client.get_task(task_id).claimed_by_agent_id == first.agent_id
    fake_keeper.advance(0.001)
    assert claiming.result(PATIENCE_S).id == task_id
    with pytest.raises(PermissionDenied):
        client.complete_task(task_id, first.agent_id)
    client.complete_task(task_id, second_.agent_id, b"done")
    task = client.get_task(task_id)
    assert (task.status, task.output) == (TaskStatus.COMPLETED, b"done")


def test_events_come_in_order_and_at_their_times(fake_keeper: FakeKeeper):
    client = fake_keeper.client()
    agent_id = an_agent(client).agent_id
    seen = []
    with client.watch(["lease."], seen.append):
        for number, ttl in enumerate((7, 3, 5, 1)):
            client.acquire_lease(f"job-{number}", agent_id, ttl=ttl)
        fake_keeper.advance(10)
        eventually(lambda: len(seen) == 8, "all events")
    assert [event.payload.task_id for event in seen[4:]] == ["job-3", "job-1", "job-2", "job-0"]
    assert [second(event) for event in seen[4:]] == [1, 3, 5, 7]
    sequences = [event.sequence for event in seen]
    assert sequences == sorted(set(sequences))


def test_hundreds_that_fall_due_at_once_are_all_worked_off(fake_keeper: FakeKeeper):
    client = fake_keeper.client()
    agent_id = an_agent(client).agent_id
    for number in range(600):
        client.acquire_lease(f"job-{number}", agent_id, ttl=10)
    fake_keeper.advance(10)
    seen = []
    with client.watch(["lease.expired"], seen.append, after=0):
        eventually(lambda: len(seen) == 600, "all have expired")
    assert {second(event) for event in seen} == {10.0}


def test_nothing_moves_unless_it_is_moved(fake_keeper: FakeKeeper):
    client, other = fake_keeper.client(), fake_keeper.client()
    agent_id = an_agent(client, ttl=1).agent_id
    fake_keeper.disconnect(client)
    for _ in range(500):
        assert other.get_agent(agent_id).status == AgentStatus.ALIVE
    fake_keeper.advance(0)
    assert other.get_agent(agent_id).status == AgentStatus.ALIVE
    assert fake_keeper.now == 0


def test_two_keepers_know_nothing_of_each_other():
    with FakeKeeper() as one, FakeKeeper() as two:
        agent_id = an_agent(one.client(), ttl=10).agent_id
        assert [agent.agent_id for agent in one.client().find()] == [agent_id]
        assert two.client().find() == []
        one.advance(100)
        assert (one.now, two.now) == (100, 0)
        with pytest.raises(ValueError, match="not a client of this keeper"):
            two.disconnect(one.client())


def story() -> list[object]:
    """What happens in a small story, with all times and ids."""
    with FakeKeeper() as keeper:
        steady, shaky = keeper.client(), keeper.client()
        seen: list[object] = []
        steady.watch([], seen.append)
        first = an_agent(steady, "first", ttl=10, tools=["a"])
        gone = an_agent(shaky, "gone", ttl=7)
        shaky.acquire_lease("job", gone.agent_id, ttl=500)
        keeper.advance(33.25)
        keeper.disconnect(shaky)
        keeper.advance(60)
        steady.acquire_lease("job", first.agent_id, ttl=20)
        task = steady.create_task("work", required_tools=["a"], ttl=15)
        steady.claim_task(first.agent_id)
        keeper.advance(16)
        keeper.reconnect(shaky)
        back = shaky.register("back", "", "1", ttl=5)
        keeper.disconnect(shaky)
        keeper.advance(3.21)
        keeper.reconnect(shaky)
        keeper.advance(30)
        assert steady.get_agent(back.agent_id).status == AgentStatus.ALIVE
        assert steady.get_task(task.id).status == TaskStatus.PENDING
        eventually(lambda: len(seen) == 12, "all events")
        return [*seen, *steady.find(), *steady.list_tasks()]


def test_the_same_story_happens_the_same_way_again():
    assert story() == story()


def test_errors_are_those_of_a_real_keeper(fake_keeper: FakeKeeper):
    client = fake_keeper.client()
    agent_id = an_agent(client).agent_id
    with pytest.raises(InvalidArgument) as bad:
        client.acquire_lease("", agent_id)
    assert (bad.value.code().name, bad.value.reason) == ("INVALID_ARGUMENT", "bad_field")
    assert bad.value.field == "task_id"
    with pytest.raises(NotFound) as unknown:
        client.get_agent("0" * 32)
    assert unknown.value.code().name == "NOT_FOUND"
    first = client.acquire_lease("job", agent_id)
    client.acquire_lease("job", agent_id)
    with pytest.raises(PermissionDenied) as stale:
        first.renew()
    assert (stale.value.code().name, stale.value.reason) == ("PERMISSION_DENIED", "stale_token")


def test_time_only_goes_forward(fake_keeper: FakeKeeper):
    for seconds in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="time goes forward"):
            fake_keeper.advance(seconds)
    assert fake_keeper.now == 0


def test_threads_that_move_time_together_add_up(fake_keeper: FakeKeeper):
    moving = [background(fake_keeper.advance, 1.5) for _ in range(8)]
    for move in moving:
        move.result(PATIENCE_S)
    assert fake_keeper.now == 12


def test_many_small_steps_are_one_large_one(fake_keeper: FakeKeeper):
    client = fake_keeper.client()
    agent_id = an_agent(client, ttl=3).agent_id
    client.acquire_lease("job", agent_id, ttl=30)
    for _ in range(300):
        fake_keeper.advance(0.1)
    assert fake_keeper.now == pytest.approx(30)
    fake_keeper.advance(0.001)
    assert client.get_agent(agent_id).status == AgentStatus.ALIVE
    assert client.acquire_lease("job", an_agent(client).agent_id) is not None


async def test_an_async_client_sees_the_same_keeper(fake_keeper: FakeKeeper):
    client, other = fake_keeper.async_client(), fake_keeper.client()
    holder = an_agent(other)
    other.acquire_lease("job", holder.agent_id, ttl=10)
    async with client.register("async", "", "1", ttl=4) as agent:
        acquiring = asyncio.ensure_future(client.acquire_lease("job", agent.agent_id, wait=60))
        await asyncio.sleep(0)
        fake_keeper.advance(3600)
        won = await acquiring
        assert won.lease.acquired_at == BEGIN + timedelta(seconds=10)
        assert (await client.get_agent(agent.agent_id)).status == AgentStatus.ALIVE
    assert other.get_agent(agent.agent_id).status == AgentStatus.DEAD
    fake_keeper.close()
    with pytest.raises(ClientClosed):
        await client.find()
    await client.close()
