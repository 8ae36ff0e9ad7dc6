"""The calls of operators, on the fake keeper: lists, single records, changes by hand."""

import pytest
from sdk_story import PATIENCE_S, an_agent, background, eventually

from agentkeeper import (
    AgentKeeperClient,
    AgentStatus,
    NotFound,
    PolicyEffect,
    Refused,
    StaleToken,
    TaskStatus,
)
from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.client import convert, queries
from agentkeeper.testing import FakeKeeper
from agentkeeper.types import ReplicaRole, ReplicaView, ReplicaVitals


@pytest.fixture
def client(fake_keeper: FakeKeeper) -> AgentKeeperClient:
    return fake_keeper.client()


@pytest.fixture(autouse=True)
def short_pages(monkeypatch: pytest.MonkeyPatch):
    """So that every list here has several."""
    monkeypatch.setattr(queries, "PAGE", 2)


def names(agents):
    return [agent.card.name for agent in agents]


def test_all_agents_are_listed_or_the_first_few(client):
    handles = [an_agent(client, f"a{i}") for i in range(5)]
    assert names(client.list_agents()) == ["a0", "a1", "a2", "a3", "a4"]
    assert names(client.list_agents(limit=3)) == ["a0", "a1", "a2"]
    client.deregister(handles[1].agent_id)
    assert names(client.list_agents()) == ["a0", "a2", "a3", "a4"]
    assert names(client.list_agents([AgentStatus.DEAD])) == ["a1"]
    assert names(client.list_agents(statuses=("DEAD", "ALIVE"))) == ["a0", "a1", "a2", "a3", "a4"]


def test_an_agent_is_kept_alive_without_its_handle(client, fake_keeper: FakeKeeper):
    agent_id = an_agent(client).agent_id
    before = client.get_agent(agent_id).last_heartbeat_at
    fake_keeper.advance(5)
    client.heartbeat(agent_id)
    assert (client.get_agent(agent_id).last_heartbeat_at - before).total_seconds() == 5
    client.deregister(agent_id)
    with pytest.raises(NotFound):
        client.heartbeat(agent_id)


def test_agents_are_listed_by_name_and_tools(client):
    an_agent(client, "web-1", tools=["browser", "gpu"])
    an_agent(client, "web-2", tools=["browser"])
    an_agent(client, "other", tools=["browser", "gpu"])
    assert names(client.list_agents(name_prefix="web")) == ["web-1", "web-2"]
    assert names(client.list_agents(tools=["gpu"])) == ["web-1", "other"]


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_is_at_least_one(client, limit):
    with pytest.raises(ValueError, match="limit"):
        client.list_agents(limit=limit)


def test_a_status_is_no_sequence_of_them_and_must_be_known(client):
    with pytest.raises(TypeError):
        client.list_agents("DEAD")
    with pytest.raises(ValueError, match="RETIRED"):
        client.list_agents(["RETIRED"])


def test_leases_with_those_who_wait(client):
    ann, bob = an_agent(client, "ann"), an_agent(client, "bob")
    held = client.acquire_lease("b", ann.agent_id, ttl=60)
    client.acquire_lease("a", bob.agent_id)
    client.acquire_lease("ab", ann.agent_id)
    waiting = background(lambda: client.acquire_lease("b", bob.agent_id, wait=300))
    eventually(lambda: client.get_lease("b").waiting == 1, "bob waits")
    info = client.get_lease("b")
    assert info.lease == held.lease
    assert info.waiting_agent_ids == [bob.agent_id]
    assert 0 < info.remaining_ms <= 60_000
    listed = client.list_leases()
    assert [each.lease.task_id for each in listed] == ["a", "ab", "b"]
    assert (listed[2].waiting, listed[2].waiting_agent_ids) == (1, [])
    assert [each.lease.task_id for each in client.list_leases("a", limit=1)] == ["a"]
    mine = client.list_leases(holder_agent_id=ann.agent_id)
    assert [each.lease.task_id for each in mine] == ["ab", "b"]
    held.release()
    assert waiting.result(PATIENCE_S).lease.holder_agent_id == bob.agent_id


def test_a_lease_that_nobody_holds(client, fake_keeper: FakeKeeper):
    agent = an_agent(client)
    client.acquire_lease("job", agent.agent_id, ttl=10)
    fake_keeper.advance(10)
    with pytest.raises(NotFound):
        client.get_lease("job")
    assert client.list_leases() == []


def test_a_lease_is_renewed_and_released_without_its_handle(client):
    agent = an_agent(client)
    lease = client.acquire_lease("job", agent.agent_id, ttl=10).lease
    assert client.renew_lease("job", agent.agent_id, lease.token).ttl_seconds == 10
    assert client.renew_lease("job", agent.agent_id, lease.token, 99).ttl_seconds == 99
    with pytest.raises(StaleToken):
        client.renew_lease("job", agent.agent_id, lease.token + 1)
    client.release_lease("job", agent.agent_id, lease.token)
    with pytest.raises(NotFound):
        client.release_lease("job", agent.agent_id, lease.token)


def test_groups_with_their_candidates(client):
    ann, bob = an_agent(client, "ann"), an_agent(client, "bob")
    for group in ("east", "west", "else"):
        client.campaign(group, ann.agent_id)
    client.campaign("east", bob.agent_id)
    election = client.get_election("east")
    assert election.candidate_agent_ids == [ann.agent_id, bob.agent_id]
    assert (election.state.leader_agent_id, election.candidates) == (ann.agent_id, 2)
    assert [each.state.group for each in client.list_elections()] == ["east", "else", "west"]
    assert [each.state.group for each in client.list_elections("e", limit=1)] == ["east"]
    with pytest.raises(NotFound):
        client.get_election("north")


def test_an_explanation_agrees_with_the_check(client):
    client.set_policy("allow", "ann", "call", "tool:*", PolicyEffect.ALLOW)
    client.set_policy("deny", "a*", "*", "tool:rm", PolicyEffect.DENY)
    for resource in ("tool:ls", "tool:rm", "file"):
        told = client.explain_policy("ann", "call", resource)
        checked = client.check_policy("ann", "call", resource)
        assert (told.allowed, told.reason) == (checked.allowed, checked.reason)
    told = client.explain_policy("ann", "call", "tool:rm")
    assert [policy.id for policy in told.matching] == ["deny", "allow"]
    assert (told.policy_id, told.matches) == ("deny", 2)


def test_policies_and_tasks_come_in_pages_of_their_own(client):
    agent = an_agent(client)
    for i in range(5):
        client.set_policy(f"p{i}", "ann", "call", f"tool:{i}", "ALLOW")
        client.create_task("crawl" if i % 2 else "index", str(i).encode())
    assert [policy.id for policy in client.list_policies()] == ["p0", "p1", "p2", "p3", "p4"]
    task = client.claim_task(agent.agent_id)
    assert [t.input for t in client.list_tasks()] == [b"0", b"1", b"2", b"3", b"4"]
    assert [t.input for t in client.list_tasks(type="index")] == [b"0", b"2", b"4"]
    assert [t.input for t in client.list_tasks(limit=3)] == [b"0", b"1", b"2"]
    assert [t.id for t in client.list_tasks(claimed_by=agent.agent_id)] == [task.id]
    pending = client.list_tasks(TaskStatus.PENDING, type="index", limit=1)
    assert [t.input for t in pending] == [b"2"]


def test_a_summary_counts_everything(client):
    agent = an_agent(client)
    client.acquire_lease("job", agent.agent_id)
    client.campaign("group", agent.agent_id)
    client.set_policy("p", "a", "b", "c", "ALLOW")
    client.create_task("work")
    client.create_task("work")
    client.claim_task(agent.agent_id)
    summary = client.summary()
    assert (summary.agents_alive, summary.leases, summary.election_groups) == (1, 1, 1)
    assert (summary.policies, summary.tasks_pending, summary.tasks_claimed) == (1, 1, 1)
    assert summary.last_sequence >= summary.first_sequence == 1


def test_a_keeper_of_one_replica_has_nobody_to_lead_in_its_place(client):
    with pytest.raises(Refused):
        client.move_leader()
    with pytest.raises(Refused):
        client.move_leader("b")


def test_the_status_of_a_replica_tells_of_the_others():
    message = pb.StatusResponse(
        node_id="a",
        cluster_version=2,
        newest_version=3,
        uptime_ms=5,
        replicas=[
            pb.Replica(node_id="a", endpoint="h:1", connected=True, match_index=0),
            pb.Replica(
                node_id="b",
                vitals=pb.Vitals(
                    role=pb.REPLICA_ROLE_FOLLOWER,
                    term=4,
                    commit_index=9,
                    applied_index=8,
                    not_ready_reason="no leader is known",
                    version="0.2",
                    age_ms=700,
                ),
            ),
        ],
    )
    status = convert.replica_from("h:1", message)
    assert (status.cluster_version, status.newest_version, status.uptime_ms) == (2, 3, 5)
    vitals = ReplicaVitals(ReplicaRole.FOLLOWER, 4, 9, 8, "no leader is known", "0.2", 700)
    assert status.replicas == [
        ReplicaView("a", "h:1", True, 0, None),
        ReplicaView("b", "", False, None, vitals),
    ]
