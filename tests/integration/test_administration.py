"""What operators ask and do, over three real replicas, by way of a follower as of the leader."""

import pytest

from agentkeeper import AgentKeeperClient, NotFound, Unavailable
from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.client import methods
from agentkeeper.core.snapshot import restore
from agentkeeper.launcher import LocalCluster

from .command import Shell
from .conftest import client_at
from .waiting import PATIENCE_S, background, eventually
from .wire import Wire


@pytest.fixture(params=["follower", "leader"])
def client(request, cluster: LocalCluster):
    node = cluster.leader() if request.param == "leader" else cluster.followers()[0]
    with client_at(cluster, node) as client:
        yield client


@pytest.fixture(scope="module")
def laden():
    """Three replicas of this module's own, for what would be a burden to other tests."""
    with LocalCluster(replicas=3) as cluster:
        yield cluster


def test_what_one_replica_acknowledged_every_other_lists(here: Wire, there: Wire, name):
    prefix = name("list")
    agents = [here.register(f"{prefix}-{i}") for i in range(5)]
    for i in (3, 1, 2):
        here.acquire(f"{prefix}/{i}", agents[i])
    listed = there.call(methods.LIST_AGENTS, pb.ListAgentsRequest(name_prefix=prefix))
    assert [agent.agent_id for agent in listed.agents] == agents
    request = pb.ListLeasesRequest(task_id_prefix=prefix)
    leases = there.call(methods.LIST_LEASES, request).leases
    assert [info.lease.holder_agent_id for info in leases] == agents[1:4]
    assert all(590_000 < info.remaining_ms <= 600_000 for info in leases)


def test_pages_go_on_at_any_replica(cluster: LocalCluster, wire, name):
    one, two, three = (wire(node) for node in cluster.nodes.values())
    prefix = name("pages")
    agents = [one.register(f"{prefix}-{i}") for i in range(5)]
    first = pb.ListAgentsRequest(name_prefix=prefix, limit=3)
    page = two.call(methods.LIST_AGENTS, first)
    assert [agent.agent_id for agent in page.agents] == agents[:3]
    for gone in (agents[0], agents[3]):
        one.call(methods.DEREGISTER, pb.DeregisterRequest(agent_id=gone))
    agents.append(two.register(f"{prefix}-later"))
    rest = pb.ListAgentsRequest(name_prefix=prefix, page_token=page.next_page_token)
    page = three.call(methods.LIST_AGENTS, rest)
    assert [agent.agent_id for agent in page.agents] == agents[4:]
    assert page.next_page_token == ""


def test_a_stale_list_needs_no_leader(rough: LocalCluster, wire, name):
    leader, *others = [rough.leader(), *rough.followers()]
    here = wire(others[0])
    agent = here.register(name("agent"))
    leader.pause()
    others[1].pause()
    request = pb.ListAgentsRequest(name_prefix=name("agent"))
    metadata = {"agentkeeper-consistency": "stale"}
    listed = here.call(methods.LIST_AGENTS, request, **metadata)
    assert [each.agent_id for each in listed.agents] == [agent]


def test_the_calls_of_operators(client: AgentKeeperClient, name):
    ann, bob = (client.register(name(who), "", "1", ttl=600) for who in ("ann", "bob"))
    key, group = name("job"), name("group")
    lease = client.acquire_lease(key, ann.agent_id, ttl=600).lease
    waiting = background(lambda: client.acquire_lease(key, bob.agent_id, ttl=600, wait=60))
    eventually(lambda: client.get_lease(key).waiting, "bob waits")
    assert client.get_lease(key).waiting_agent_ids == [bob.agent_id]
    assert [info.waiting for info in client.list_leases(key)] == [1]
    assert client.renew_lease(key, ann.agent_id, lease.token, 300).ttl_seconds == 300
    client.release_lease(key, ann.agent_id, lease.token)
    assert waiting.result(PATIENCE_S).lease.holder_agent_id == bob.agent_id
    for agent in (ann, bob):
        client.campaign(group, agent.agent_id)
    assert client.get_election(group).candidate_agent_ids == [ann.agent_id, bob.agent_id]
    client.deregister(ann.agent_id)
    election = client.list_elections(group)[0]
    assert (election.state.leader_agent_id, election.state.term) == (bob.agent_id, 2)
    client.set_policy(name("p"), name("ann"), "call", "*", "DENY")
    told = client.explain_policy(name("ann"), "call", "tool")
    assert (told.allowed, told.policy_id, told.matches) == (False, name("p"), 1)
    client.deregister(bob.agent_id)
    with pytest.raises(NotFound):
        client.get_lease(key)


def test_tasks_are_listed_by_type_and_claimant(client: AgentKeeperClient, name):
    kind, tool = name("kind"), name("tool")
    agent = client.register(name("worker"), "", "1", tools=[tool], ttl=600)
    tasks = [client.create_task(kind, required_tools=[tool]).id for _ in range(3)]
    assert [task.id for task in client.list_tasks(type=kind)] == tasks
    assert client.claim_task(agent.agent_id, timeout=PATIENCE_S).id == tasks[0]
    assert [t.id for t in client.list_tasks("PENDING", type=kind, limit=1)] == [tasks[1]]
    assert [t.id for t in client.list_tasks(claimed_by=agent.agent_id)] == [tasks[0]]
    agent.deregister()


def test_more_policies_than_fit_one_answer_are_listed(laden: LocalCluster, name):
    subject = name("s" * 400)
    with AgentKeeperClient(endpoints=laden.endpoints, timeout=PATIENCE_S) as client:
        before = client.summary().policies
        wanted = [f"{name('p')}-{i:04}" for i in range(4_500)]
        for part in range(0, len(wanted), 100):
            policies = [
                background(client.set_policy, policy, subject, "a" * 500, "*", "ALLOW")
                for policy in wanted[part : part + 100]
            ]
            for policy in policies:
                policy.result(PATIENCE_S)
        # A summary is of the replica that is asked, which may not have applied the last ones yet.
        total = before + len(wanted)
        eventually(lambda: client.summary().policies == total, f"{total} policies")
        assert [policy.id for policy in client.list_policies(subject)] == wanted


def test_a_snapshot_is_saved_whole_although_the_replica_that_sends_it_dies(
    laden: LocalCluster, tmp_path, name
):
    key = name("job")
    node = laden.followers()[0]
    with client_at(laden, node) as client:
        for i in range(40):
            client.create_task(name("large"), bytes([i]) * 1_000_000, [name("nobody")])
        agent = client.register(name("agent"), "", "1", ttl=600)
        token = client.acquire_lease(key, agent.agent_id, ttl=600).lease.token
        saving = background(lambda: client.save_snapshot(tmp_path / "saved"))
        eventually(lambda: any(tmp_path.iterdir()), "it is being saved")
        node.kill()
        saved = saving.result(PATIENCE_S)
        assert saved.size_bytes == (tmp_path / "saved").stat().st_size > 40_000_000
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]
    state, log_index = restore((tmp_path / "saved").read_bytes())
    assert log_index == saved.log_index
    assert state.leases.get(key).token == token
    assert len(state.inputs) >= 40


def test_the_last_replica_left_saves_what_it_has_if_told_to(rough: LocalCluster, tmp_path, name):
    last, *others = rough.nodes.values()
    with client_at(rough, last) as client:
        agent = client.register(name("agent"), "", "1", ttl=600)
        token = client.acquire_lease(name("job"), agent.agent_id, ttl=600).lease.token
        for node in others:
            node.kill()
        with pytest.raises(Unavailable):
            client.save_snapshot(tmp_path / "saved", timeout=1)
        saved = Shell([last.endpoint]).data("snapshot", "save", "--stale", str(tmp_path / "saved"))
    state, log_index = restore((tmp_path / "saved").read_bytes())
    assert log_index == saved["log_index"]
    assert state.leases.get(name("job")).token == token


def test_nothing_is_left_of_a_snapshot_that_no_replica_could_send(rough: LocalCluster, tmp_path):
    with AgentKeeperClient(endpoints=rough.endpoints, timeout=2) as client:
        for node in rough.nodes.values():
            node.kill()
        with pytest.raises(Unavailable):
            client.save_snapshot(tmp_path / "saved")
    assert list(tmp_path.iterdir()) == []


def test_leadership_is_moved(rough: LocalCluster):
    target = rough.followers()[0]
    with AgentKeeperClient(endpoints=rough.endpoints, timeout=PATIENCE_S) as client:
        moved = client.move_leader(target.name)
        assert moved.leader_node_id == target.name
        assert rough.leader().name == target.name
        assert rough.leader().endpoint == target.endpoint
        again = client.move_leader()
        assert again.leader_node_id != target.name
        assert again.term > moved.term
