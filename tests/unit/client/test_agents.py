"""Agents as their client knows them: kept alive, their death noticed and told once."""

import pytest
from sdk_story import PATIENCE_S, Way, an_agent, background, eventually

from agentkeeper import AgentLost, AgentStatus, AlreadyExists, NotFound
from agentkeeper.core import limits
from agentkeeper.errors import Unavailable
from agentkeeper.testing import FakeKeeper


def deregister_elsewhere(keeper: FakeKeeper, agent_id: str) -> None:
    """As another process may: by the id alone."""
    elsewhere = keeper.client()
    elsewhere._runner.start(elsewhere._core.deregister(agent_id, 5)).result(PATIENCE_S)


@pytest.mark.parametrize(("ttl", "beats"), [(30, 40), (3, 600), (1, 1200), (2, 600), (0, 40)])
def test_a_heartbeat_is_sent_twice_per_ttl(fake_keeper: FakeKeeper, ttl: int, beats: int):
    client = fake_keeper.client()
    way = Way(client)
    agent = an_agent(client, ttl=ttl)
    fake_keeper.advance(600)
    assert way.calls["Heartbeat"] == pytest.approx(beats, abs=2)
    assert client.get_agent(agent.agent_id).status is AgentStatus.ALIVE
    agent.deregister()
    fake_keeper.advance(600)
    assert way.calls["Heartbeat"] == pytest.approx(beats, abs=2), "no more after that"


def test_an_agent_that_was_cut_off_for_too_long_has_timed_out(fake_keeper: FakeKeeper):
    client, told = fake_keeper.client(), []
    agent = an_agent(client, ttl=10, on_lost=told.append)
    fake_keeper.disconnect(client)
    fake_keeper.advance(60)
    assert not agent.lost, "nobody could say so yet"
    fake_keeper.reconnect(client)
    fake_keeper.advance(10)
    assert agent.lost
    assert agent.lost.reason == "timed_out"
    assert agent.lost.wait(0) is True
    eventually(lambda: told == [agent], "a call back with the handle")
    fake_keeper.advance(600)
    assert told == [agent], "once"


def test_an_agent_that_another_of_its_name_replaces_is_superseded(fake_keeper: FakeKeeper):
    client, other, told = fake_keeper.client(), fake_keeper.client(), []
    agent = an_agent(client, "same", ttl=10, on_lost=told.append, reregister=True)
    successor = an_agent(other, "same", ttl=10, on_name_conflict="replace")
    fake_keeper.advance(6)
    assert agent.lost.reason == "superseded"
    eventually(lambda: told == [agent], "a call back")
    fake_keeper.advance(600)
    assert [found.agent_id for found in other.find()] == [successor.agent_id]
    assert not successor.lost


def test_an_agent_that_another_client_ends_is_deregistered(fake_keeper: FakeKeeper):
    client, told = fake_keeper.client(), []
    agent = an_agent(client, ttl=10, on_lost=told.append, reregister=True)
    deregister_elsewhere(fake_keeper, agent.agent_id)
    fake_keeper.advance(6)
    assert agent.lost.reason == "deregistered"
    eventually(lambda: told == [agent], "a call back")
    fake_keeper.advance(600)
    assert fake_keeper.client().find() == []


def test_an_agent_that_registers_itself_again_is_not_lost(fake_keeper: FakeKeeper):
    client, other, told = fake_keeper.client(), fake_keeper.client(), []
    card = {"tools": ["t"], "metadata": {"k": "v"}}
    agent = an_agent(client, "phoenix", ttl=10, on_lost=told.append, reregister=True, **card)
    first_id = agent.agent_id
    held = client.acquire_lease("job", first_id, ttl=3600, keep_alive=True)
    card = client.get_agent(first_id).card
    fake_keeper.disconnect(client)
    fake_keeper.advance(60)
    fake_keeper.reconnect(client)
    fake_keeper.advance(10)
    assert agent.agent_id != first_id
    assert not agent.lost
    assert told == []
    assert held.lost, "the leases of the dead one stay lost"
    assert [(a.agent_id, a.card) for a in other.find()] == [(agent.agent_id, card)]
    fake_keeper.advance(600)
    assert other.get_agent(agent.agent_id).status is AgentStatus.ALIVE
    assert other.get_agent(first_id).status is AgentStatus.DEAD
    agent.deregister()
    assert other.find() == []


def test_a_superseded_agent_stays_away_also_if_nobody_can_tell_at_first(fake_keeper: FakeKeeper):
    client, other = fake_keeper.client(), fake_keeper.client()
    way = Way(client)
    agent = an_agent(client, "same", ttl=10, reregister=True, on_name_conflict="replace")
    successor = an_agent(other, "same", ttl=10, on_name_conflict="replace")
    way.requests_lost["GetAgent"] = 1_000
    fake_keeper.advance(30)
    way.requests_lost["GetAgent"] = 0
    fake_keeper.advance(90)
    assert agent.lost.reason == "superseded"
    assert not successor.lost
    assert [found.agent_id for found in other.find()] == [successor.agent_id]


def test_registering_again_outlasts_what_may_pass(fake_keeper: FakeKeeper, monkeypatch):
    client, other = fake_keeper.client(), fake_keeper.client()
    agent = an_agent(client, ttl=10, reregister=True)
    fake_keeper.disconnect(client)
    fake_keeper.advance(60)
    monkeypatch.setattr(limits, "AGENTS", 0)
    fake_keeper.reconnect(client)
    fake_keeper.advance(20)
    assert other.find() == []
    monkeypatch.setattr(limits, "AGENTS", 10)
    fake_keeper.advance(20)
    assert [found.agent_id for found in other.find()] == [agent.agent_id]
    assert not agent.lost


def test_of_a_name_that_is_taken_another_is_refused_if_wanted(fake_keeper: FakeKeeper):
    client = fake_keeper.client()
    first = an_agent(client, "same")
    with pytest.raises(AlreadyExists):
        an_agent(client, "same", on_name_conflict="reject")
    second = an_agent(client, "same")
    assert {agent.agent_id for agent in client.find()} == {first.agent_id, second.agent_id}
    with pytest.raises(ValueError, match="on_name_conflict"):
        an_agent(client, "same", on_name_conflict="ignore")
    third = an_agent(client, "same", on_name_conflict="replace")
    assert [agent.agent_id for agent in client.find()] == [third.agent_id]
    third.deregister()
    an_agent(client, "same", on_name_conflict="reject")


def test_an_outage_that_the_agent_outlives_does_not_lose_it(fake_keeper: FakeKeeper):
    """Nobody leads, so the cluster's clock stands still, while that of the client goes on."""
    client, told = fake_keeper.client(), []
    agent = an_agent(client, ttl=10, on_lost=told.append)
    leading = client.lead("group", agent)
    lease = client.acquire_lease("job", agent.agent_id, ttl=3600)
    way = Way(client)
    way.requests_lost["Heartbeat"] = 1_000_000
    # As if it had been heard of all the time: what a clock that stands still comes to.
    beats = fake_keeper.client()
    for _ in range(30):
        fake_keeper.advance(2)
        beats._runner.start(beats._core.heartbeat(agent.agent_id, 5)).result(PATIENCE_S)
    assert not agent.lost
    assert leading.lost, "which could not be ruled out"
    assert lease.lost
    way.requests_lost["Heartbeat"] = 0
    fake_keeper.advance(30)
    assert not agent.lost
    assert told == []
    assert leading.lost, "for good"
    again = client.lead("group", agent)
    again.check()
    assert client.acquire_lease("job", agent.agent_id, ttl=60) is not None


def test_deregistering_is_harmless_when_repeated_and_no_loss(fake_keeper: FakeKeeper):
    client, told = fake_keeper.client(), []
    with an_agent(client, ttl=10, on_lost=told.append) as agent:
        assert client.get_agent(agent.agent_id).status is AgentStatus.ALIVE
    assert client.get_agent(agent.agent_id).status is AgentStatus.DEAD
    agent.deregister()
    fake_keeper.advance(60)
    assert not agent.lost
    assert told == []


def test_an_agent_that_was_declared_dead_can_not_deregister(fake_keeper: FakeKeeper, caplog):
    client, told = fake_keeper.client(), []
    agent = an_agent(client, ttl=3600, on_lost=told.append)
    deregister_elsewhere(fake_keeper, agent.agent_id)
    with pytest.raises(NotFound):
        agent.deregister()
    assert agent.lost, "now it is known"
    eventually(lambda: told == [agent], "a call back")
    with an_agent(client, "other", ttl=3600) as other:
        deregister_elsewhere(fake_keeper, other.agent_id)
    assert "already dead" in caplog.text


def test_leaving_the_block_without_a_network_raises_unless_something_else_does(
    fake_keeper: FakeKeeper,
):
    client = fake_keeper.client(timeout=0)

    def leave(error):
        with client.register("agent", "", "1", timeout=5):
            fake_keeper.disconnect(client)
            if error:
                raise error

    with pytest.raises(Unavailable):
        leave(None)
    fake_keeper.reconnect(client)
    with pytest.raises(ZeroDivisionError):
        leave(ZeroDivisionError())


def test_whoever_waits_for_a_dead_agent_to_lead_is_told(fake_keeper: FakeKeeper):
    client = fake_keeper.client()
    first, agent = an_agent(client, "first"), an_agent(client, "second", ttl=10)
    client.lead("group", first)
    leading = background(client.lead, "group", agent)
    eventually(lambda: fake_keeper.calls_under_way == 2, "a candidate that waits")
    deregister_elsewhere(fake_keeper, agent.agent_id)
    fake_keeper.advance(6)
    with pytest.raises(AgentLost, match="deregistered"):
        leading.result(PATIENCE_S)
