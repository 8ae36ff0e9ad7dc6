"""Clients that are cut off from the fake keeper, and its end."""

import contextlib
import threading

import pytest

from agentkeeper import AgentStatus, ClientClosed, OutcomeUnknown, TaskStatus, Unavailable
from agentkeeper.testing import FakeKeeper

from .waiting import PATIENCE_S, background, eventually


def test_a_call_of_a_client_cut_off_is_tried_until_its_time_is_up(fake_keeper: FakeKeeper):
    client = fake_keeper.client()
    fake_keeper.disconnect(client)
    with pytest.raises(Unavailable):
        client.find(timeout=0)
    finding = background(client.find, timeout=8)
    while not finding.done():
        fake_keeper.advance(1)
    with pytest.raises(Unavailable):
        finding.result()
    assert fake_keeper.now >= 8


def test_a_call_that_outlasts_the_cut_succeeds(fake_keeper: FakeKeeper):
    client = fake_keeper.client()
    fake_keeper.disconnect(client)
    creating = background(client.create_task, "work", timeout=1e6)
    fake_keeper.advance(60)
    assert not creating.done()
    fake_keeper.reconnect(client)
    assert creating.result(PATIENCE_S).status == TaskStatus.PENDING
    assert fake_keeper.now == 60


def test_a_cut_ends_calls_under_way_which_are_made_anew(fake_keeper: FakeKeeper):
    client, other = fake_keeper.client(), fake_keeper.client()
    agent = client.register("agent", "", "1", ttl=600)
    claiming = background(client.claim_task, agent.agent_id)
    eventually(lambda: fake_keeper.calls_under_way == 1, "a claim that waits")
    fake_keeper.disconnect(client)
    eventually(lambda: fake_keeper.calls_under_way == 0, "the keeper hears of the cut")
    task_id = other.create_task("work").id
    fake_keeper.advance(10)
    assert other.get_task(task_id).status == TaskStatus.PENDING
    fake_keeper.reconnect(client)
    assert claiming.result(PATIENCE_S).id == task_id


def test_what_was_under_way_at_the_cut_has_an_unknown_outcome(fake_keeper: FakeKeeper):
    client = fake_keeper.client()
    holder = client.register("holder", "", "1", ttl=600)
    waiter = client.register("waiter", "", "1", ttl=600)
    client.acquire_lease("job", holder.agent_id, ttl=600)
    waiting = background(client.acquire_lease, "job", waiter.agent_id, wait=5, timeout=20)
    eventually(lambda: fake_keeper.calls_under_way == 1, "a call that waits")
    fake_keeper.disconnect(client)
    fake_keeper.advance(20)
    with pytest.raises(OutcomeUnknown):
        waiting.result(PATIENCE_S)


def test_a_watch_goes_on_without_a_gap_after_a_cut(fake_keeper: FakeKeeper):
    client, other = fake_keeper.client(), fake_keeper.client()
    agent = other.register("agent", "", "1", ttl=600)
    seen = []
    with client.watch(["lease.acquired"], seen.append):
        for number in range(10):
            if number == 3:
                fake_keeper.disconnect(client)
            if number == 6:
                fake_keeper.reconnect(client)
            other.acquire_lease(f"job-{number}", agent.agent_id)
        eventually(lambda: len(seen) == 10, "all events")
    assert [event.payload.task_id for event in seen] == [f"job-{number}" for number in range(10)]


def test_only_the_client_that_is_meant_is_cut_off(fake_keeper: FakeKeeper):
    cut_off, other = fake_keeper.client(), fake_keeper.client()
    lost = cut_off.register("lost", "", "1", ttl=10)
    kept = other.register("kept", "", "1", ttl=10)
    for _ in range(2):  # harmless when repeated
        fake_keeper.disconnect(cut_off)
    fake_keeper.advance(100)
    assert other.get_agent(lost.agent_id).status == AgentStatus.DEAD
    assert other.get_agent(kept.agent_id).status == AgentStatus.ALIVE
    for _ in range(2):
        fake_keeper.reconnect(cut_off)
    assert cut_off.get_agent(kept.agent_id).status == AgentStatus.ALIVE


def test_an_agent_that_comes_back_in_time_is_alive_again(fake_keeper: FakeKeeper):
    client, other = fake_keeper.client(), fake_keeper.client()
    agent = client.register("agent", "", "1", ttl=30)
    fake_keeper.disconnect(client)
    fake_keeper.advance(45)
    assert other.get_agent(agent.agent_id).status == AgentStatus.UNREACHABLE
    fake_keeper.reconnect(client)
    fake_keeper.advance(14)
    assert other.get_agent(agent.agent_id).status == AgentStatus.ALIVE


def test_closing_ends_everything():
    before = set(threading.enumerate())
    keeper = FakeKeeper()
    client, other = keeper.client(), keeper.client()
    agent = client.register("agent", "", "1")
    watching = client.watch([], lambda event: None)
    claiming = background(client.claim_task, agent.agent_id)
    eventually(lambda: keeper.calls_under_way == 2, "a watch and a claim that waits")
    keeper.disconnect(other)
    finding = background(other.find)
    for _ in range(2):  # harmless when repeated
        keeper.close()
    for ended in (claiming, finding):
        with pytest.raises(ClientClosed):
            ended.result(PATIENCE_S)
    eventually(lambda: not watching.active, "the watch has ended")
    for call in (client.find, lambda: keeper.advance(1), keeper.client):
        with pytest.raises(ClientClosed):
            call()
    eventually(lambda: set(threading.enumerate()) <= before, "all threads have ended")


def test_a_client_may_be_closed_before_its_keeper(fake_keeper: FakeKeeper):
    with fake_keeper.client() as client:
        agent = client.register("agent", "", "1", ttl=10)
    other = fake_keeper.client()
    fake_keeper.advance(20)
    assert other.get_agent(agent.agent_id).status == AgentStatus.DEAD


def test_a_client_that_is_cut_off_can_be_closed(fake_keeper: FakeKeeper):
    with fake_keeper.client() as client:
        client.create_task("work")
        finding = background(client.find)
        fake_keeper.disconnect(client)
    with contextlib.suppress(ClientClosed):  # it may have been answered before the cut
        finding.result(PATIENCE_S)
    assert fake_keeper.now == 0


def test_the_keeper_does_not_wait_for_itself(fake_keeper: FakeKeeper):
    refused = []

    def advance() -> None:
        with pytest.raises(RuntimeError, match="must not wait for itself") as caught:
            fake_keeper.advance(1)
        refused.append(caught.value)

    fake_keeper._loop.call_soon_threadsafe(advance)
    eventually(lambda: refused, "a refusal on the keeper's own thread")


def test_a_keeper_that_has_failed_says_so_and_keeps_nobody_waiting(fake_keeper: FakeKeeper):
    client = fake_keeper.client()
    waiting = background(client.claim_task, client.register("agent", "", "1").agent_id)
    eventually(lambda: fake_keeper.calls_under_way == 1, "a claim that waits")

    def break_down(applied: object) -> None:
        raise RuntimeError("out of order")

    fake_keeper._stack.machine.on_applied.insert(0, break_down)
    with pytest.raises(ClientClosed):
        client.create_task("work")
    with pytest.raises(ClientClosed):
        waiting.result(PATIENCE_S)
    with pytest.raises(ClientClosed, match=r"failed: .* out of order"):
        fake_keeper.advance(1)
