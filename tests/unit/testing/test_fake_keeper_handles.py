"""What a client does by itself goes by the fake keeper's time, too."""

from datetime import UTC, datetime

import pytest

from agentkeeper import AgentKeeperClient, AgentStatus, LeaseLost, TaskStatus, Unavailable
from agentkeeper.testing import FakeKeeper

from .waiting import PATIENCE_S, background, eventually

LONG_S = 86_400
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def an_agent(client: AgentKeeperClient, name: str = "agent", ttl: int = LONG_S):
    return client.register(name, "", "1", ttl=ttl)


def test_a_lease_is_kept_until_its_holder_is_cut_off(fake_keeper: FakeKeeper):
    client, other = fake_keeper.client(), fake_keeper.client()
    told = []
    lease = client.acquire_lease(
        "job", an_agent(client).agent_id, ttl=30, keep_alive=True, on_lost=told.append
    )
    fake_keeper.advance(3600)
    lease.check()
    fake_keeper.disconnect(client)
    fake_keeper.advance(15)
    lease.check()
    fake_keeper.advance(15)
    assert lease.lost
    with pytest.raises(LeaseLost):
        lease.check()
    assert eventually(lambda: told, "a callback") == [lease]
    fake_keeper.advance(30)
    assert other.acquire_lease("job", an_agent(other).agent_id) is not None


def test_a_lease_that_is_not_kept_is_lost_before_it_is_another_s(fake_keeper: FakeKeeper):
    client = fake_keeper.client()
    lease = client.acquire_lease("job", an_agent(client).agent_id, ttl=10)
    assert not lease.lost.is_set()
    fake_keeper.advance(9)
    assert not lease.lost.is_set()
    fake_keeper.advance(1)
    assert lease.lost.is_set()
    assert lease.lost.reason


def test_leadership_passes_on_when_the_leader_is_cut_off(fake_keeper: FakeKeeper):
    first, second = fake_keeper.client(), fake_keeper.client()
    leading = first.lead("group", an_agent(first, "first", ttl=10))
    electing = background(second.lead, "group", an_agent(second, "second", ttl=10))
    fake_keeper.advance(100)
    leading.check()
    assert not electing.done()
    fake_keeper.disconnect(first)
    fake_keeper.advance(40)
    assert leading.lost.is_set()
    assert electing.result(PATIENCE_S).term > leading.term


def test_a_worker_s_task_is_kept_however_long_it_takes(fake_keeper: FakeKeeper):
    client = fake_keeper.client()
    task_id = client.create_task("work", ttl=10).id

    def handle(task) -> bytes:
        fake_keeper.advance(3600)
        task.check()
        return b"done"

    with client.worker(an_agent(client), handle):
        eventually(lambda: client.get_task(task_id).status == TaskStatus.COMPLETED, "the end")
    assert client.get_task(task_id).output == b"done"
    assert fake_keeper.now == 3600


def test_an_agent_registers_again_after_it_was_thought_dead(fake_keeper: FakeKeeper):
    client, other = fake_keeper.client(), fake_keeper.client()
    agent = client.register("agent", "", "1", ttl=10, reregister=True)
    former_id = agent.agent_id
    fake_keeper.disconnect(client)
    fake_keeper.advance(60)
    assert other.get_agent(former_id).status == AgentStatus.DEAD
    fake_keeper.reconnect(client)
    fake_keeper.advance(60)
    assert agent.agent_id != former_id
    assert other.get_agent(agent.agent_id).status == AgentStatus.ALIVE


def test_a_claim_gives_up_after_its_time(fake_keeper: FakeKeeper):
    client = fake_keeper.client()
    claiming = background(client.claim_task, an_agent(client).agent_id, timeout=90)
    eventually(lambda: fake_keeper.calls_under_way == 1, "a claim that waits")
    fake_keeper.advance(89)
    assert not claiming.done()
    fake_keeper.advance(1)
    with pytest.raises(Unavailable) as caught:
        claiming.result(PATIENCE_S)
    assert caught.value.code().name == "DEADLINE_EXCEEDED"
    task_id = client.create_task("work").id
    assert client.get_task(task_id).status == TaskStatus.PENDING


def test_events_are_there_to_be_read_once_time_was_moved(fake_keeper: FakeKeeper):
    client = fake_keeper.client()
    agent_id = an_agent(client).agent_id
    for ttl in (20, 10, 30):
        client.acquire_lease(f"job-{ttl}", agent_id, ttl=ttl)
    with client.events(["lease.expired"]) as events:
        fake_keeper.advance(60)
        expired = [next(events) for _ in range(3)]
    assert [event.payload.task_id for event in expired] == ["job-10", "job-20", "job-30"]
    assert [(event.timestamp - BEGIN).total_seconds() for event in expired] == [10, 20, 30]
