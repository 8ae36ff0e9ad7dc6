"""RegistryService through a follower and through the leader."""

import pytest

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.client import methods

from .wire import ALREADY_EXISTS, NOT_FOUND, payload_of, refused


def get(wire, agent_id):
    return wire.call(methods.GET_AGENT, pb.GetAgentRequest(agent_id=agent_id)).agent


def find(wire, query="", tools=(), limit=0):
    request = pb.FindRequest(query=query, tools=tools, limit=limit)
    return [agent.agent_id for agent in wire.call(methods.FIND, request).agents]


def deregister(wire, agent_id):
    wire.call(methods.DEREGISTER, pb.DeregisterRequest(agent_id=agent_id))


def heartbeat(wire, agent_id):
    wire.call(methods.HEARTBEAT, pb.HeartbeatRequest(agent_id=agent_id))


def test_an_agent_registers_is_seen_everywhere_and_goes(here, there, name):
    agent_id = here.register(name("worker"), "search", ttl=90)
    assert len(agent_id) == 32
    assert int(agent_id, 16)
    for wire in (here, there):
        agent = get(wire, agent_id)
        assert (agent.card.name, agent.card.tools) == (name("worker"), ["search"])
        assert (agent.status, agent.ttl_seconds) == (pb.AGENT_STATUS_ALIVE, 90)
    deregister(here, agent_id)
    for wire in (here, there):
        agent = get(wire, agent_id)
        assert (agent.status, agent.reason) == (pb.AGENT_STATUS_DEAD, "deregistered")
    for call in (heartbeat, deregister):
        with refused(NOT_FOUND):
            call(here, agent_id)


def test_a_heartbeat_is_noted(here, there, name):
    agent_id = here.register(name("worker"))
    before = get(there, agent_id).last_heartbeat_at.ToNanoseconds()
    heartbeat(here, agent_id)
    assert get(there, agent_id).last_heartbeat_at.ToNanoseconds() >= before


def test_silence_makes_unreachable_then_dead_and_a_heartbeat_recovers(here, there, name):
    watch = there.watch_all("agent.")
    agent_id = here.register(name("worker"), ttl=1)
    watch.wait_for("agent.unreachable", agent_id)
    heartbeat(here, agent_id)
    watch.wait_for("agent.recovered", agent_id)
    died = payload_of(watch.wait_for("agent.died", agent_id))
    assert died.reason == "timed_out"
    assert get(here, agent_id).status == pb.AGENT_STATUS_DEAD
    with refused(NOT_FOUND):
        heartbeat(here, agent_id)


def test_find_filters_by_tools_and_ranks_by_query(here, there, name):
    tool = name("tool")
    billing = here.register(name("billing"), tool, "sql")
    searcher = there.register(name("searcher"), tool)
    here.register(name("stranger"))
    assert set(find(here, tools=[tool])) == {billing, searcher}
    assert find(here, tools=[tool, "sql"]) == [billing]
    for best, other in ((billing, searcher), (searcher, billing)):
        words = get(here, best).card.name
        assert find(here, words, [tool]) == [best, other]
        assert find(there, words, [tool], limit=1) == [best]
    deregister(there, billing)
    assert find(here, tools=[tool]) == [searcher]


def test_a_name_can_be_shared_refused_or_taken_over(here, there, name):
    first = here.register(name("only"))
    second = there.register(name("only"))
    card = pb.AgentCard(name=name("only"), version="2")
    with refused(ALREADY_EXISTS, reason="name_conflict"):
        here.call(
            methods.REGISTER,
            pb.RegisterRequest(card=card, on_name_conflict=pb.NAME_CONFLICT_REJECT),
        )
    assert get(here, first).status == get(here, second).status == pb.AGENT_STATUS_ALIVE
    request = pb.RegisterRequest(card=card, on_name_conflict=pb.NAME_CONFLICT_REPLACE)
    third = here.call(methods.REGISTER, request).agent_id
    assert get(there, third).status == pb.AGENT_STATUS_ALIVE
    for replaced in (first, second):
        agent = get(there, replaced)
        assert (agent.status, agent.reason) == (pb.AGENT_STATUS_DEAD, "superseded")


@pytest.mark.parametrize("call", [get, heartbeat, deregister])
def test_nobody_knows_a_stranger(here, call):
    with refused(NOT_FOUND, reason="not_found"):
        call(here, "0" * 32)
