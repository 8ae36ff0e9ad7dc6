"""What `find` returns: a list of agents as ever, which also says how they were found."""

import copy
import dataclasses
import pickle

import pytest
from sdk_story import an_agent

from agentkeeper import AgentInfo, AgentKeeperClient, AsyncAgentKeeperClient
from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.client import convert
from agentkeeper.testing import FakeKeeper
from agentkeeper.types import FindMode, FoundAgent, FoundAgents

A, B, C = (pb.AgentInfo(agent_id=each, card=pb.AgentCard(tools=["t"])) for each in "abc")


def answer(agents=(A, B, C), scores=(0.75, 0.5, 0.0), mode=pb.FIND_MODE_SEMANTIC, pending=2):
    return pb.FindResponse(agents=agents, scores=scores, mode=mode, pending=pending)


@pytest.fixture
def daemon(daemons):
    """A stand-in whose answer is made by hand."""
    daemon = daemons()
    daemon.answers["Find"] = lambda request, context: answer()
    return daemon


def seen(found):
    return found.mode, found.pending, [(agent.agent_id, agent.score) for agent in found]


EXPECTED = (FindMode.SEMANTIC, 2, [("a", 0.75), ("b", 0.5), ("c", 0.0)])


def test_scores_mode_and_how_many_wait(daemon):
    with AgentKeeperClient(endpoints=[daemon.address]) as client:
        found = client.find("somebody")
    assert seen(found) == EXPECTED
    assert all(type(agent) is FoundAgent for agent in found)


async def test_the_same_in_the_async_face(daemon):
    async with AsyncAgentKeeperClient(endpoints=[daemon.address]) as client:
        assert seen(await client.find("somebody")) == EXPECTED


def test_a_daemon_that_does_not_say(daemon):
    daemon.answers["Find"] = lambda request, context: pb.FindResponse(agents=[B, A])
    with AgentKeeperClient(endpoints=[daemon.address]) as client:
        found = client.find("somebody")
    assert seen(found) == (FindMode.UNKNOWN, 0, [("b", 0.0), ("a", 0.0)])


@pytest.mark.parametrize("mode", [m for m in FindMode if m is not FindMode.UNKNOWN])
def test_modes_by_their_names(mode):
    number = pb.FindMode.Value(f"FIND_MODE_{mode.value}")
    assert convert.found_from(answer(mode=number)).mode is mode


def test_a_mode_that_is_newer_is_unknown_and_its_scores_are_there():
    found = convert.found_from(answer(mode=99))
    assert found.mode is FindMode.UNKNOWN
    assert [agent.score for agent in found] == [0.75, 0.5, 0.0]


# ---- whoever knows nothing of scores


def test_it_is_a_list_of_agents():
    found = convert.found_from(answer())
    plain = [convert.agent_from(agent) for agent in (A, B, C)]
    assert isinstance(found, list)
    assert all(isinstance(agent, AgentInfo) for agent in found)
    assert found == plain
    assert plain == found
    assert plain[1] in found
    assert found.index(plain[2]) == 2
    assert FoundAgents() == []
    assert not FoundAgents()
    assert [agent.agent_id for agent in reversed(found)] == ["c", "b", "a"]


def test_an_agent_equals_itself_whatever_its_score_and_nothing_else():
    a, b = convert.agent_from(A), convert.agent_from(B)
    well, badly = (FoundAgent(**vars_of(a), score=score) for score in (0.9, 0.1))
    assert a == well == badly == a
    assert (well != a, a != well) == (False, False)
    assert well != b
    assert b != well
    assert well != "a"


def vars_of(agent):
    return {field.name: getattr(agent, field.name) for field in dataclasses.fields(agent)}


def test_a_slice_says_how_it_was_found():
    found = convert.found_from(answer())
    assert seen(found[:2]) == (FindMode.SEMANTIC, 2, [("a", 0.75), ("b", 0.5)])
    assert seen(found[::-2]) == (FindMode.SEMANTIC, 2, [("c", 0.0), ("a", 0.75)])
    assert found[-1].agent_id == "c"
    with pytest.raises(IndexError):
        found[3]


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_copies_say_so_too(copied):
    again = copied(convert.found_from(answer()))
    assert type(again) is FoundAgents
    assert seen(again) == EXPECTED


# ---- the fake


def test_the_fake_ranks_by_words(fake_keeper: FakeKeeper):
    client = fake_keeper.client()
    baker = client.register("baker", "Bakes bread", "1", ["oven"])
    client.register("reader", "Reads invoices", "1", ["oven"])
    found = client.find("who reads an invoice", ["oven"])
    assert (found.mode, found.pending) == (FindMode.LEXICAL, 0)
    assert [agent.card.name for agent in found] == ["reader", "baker"]
    assert found[0].score > found[1].score == 0.0
    assert client.find("baker")[0] == client.get_agent(baker.agent_id)


@pytest.mark.parametrize("query", ["", "  "])
def test_without_a_query_the_order_is_that_of_registration(fake_keeper: FakeKeeper, query):
    client = fake_keeper.client()
    for name in ("b", "c", "a"):
        an_agent(client, name)
    found = client.find(query)
    assert (found.mode, found.pending) == (FindMode.UNRANKED, 0)
    assert [(agent.card.name, agent.score) for agent in found] == [("b", 0), ("c", 0), ("a", 0)]
