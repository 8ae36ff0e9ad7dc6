"""Three replicas come up with one command, are used, and lose nothing when they go and come."""

import json
import uuid

import pytest
from integration.conftest import converged

from .compose import IMAGE, ROOT, docker

pytestmark = pytest.mark.timeout(600)

IN_THE_NETWORK = """
from agentkeeper import AgentKeeperClient
endpoints = ["agentkeeper-1:7070", "agentkeeper-2", "agentkeeper-3:7070"]
with AgentKeeperClient(endpoints=endpoints) as client:
    agent = client.register("inside", "In a container", "1")
    lease = client.acquire_lease("inside", agent.agent_id, ttl=600)
    print(lease.token)
"""


def write(client, count):
    """Acknowledged writes of every kind that must be there later."""
    mark = uuid.uuid4().hex[:8]
    agent = client.register(f"agent-{mark}", "At work", "1", ttl=3600)
    lease = client.acquire_lease(f"lease-{mark}", agent.agent_id, ttl=3600)
    tasks = [client.create_task(mark, str(n).encode()).id for n in range(count)]
    return mark, agent.agent_id, lease.token, tasks


def check(client, written):
    mark, agent_id, token, tasks = written
    assert client.get_agent(agent_id).card.name == f"agent-{mark}"
    assert client.verify_token(f"lease-{mark}", token)
    assert [client.get_task(id).input for id in tasks] == [
        str(n).encode() for n in range(len(tasks))
    ]


def test_up_is_all(each_tool, project):
    cluster = project(each_tool)
    cluster("up", "-d")
    cluster.await_healthy()
    assert len(cluster.containers()) == 4  # Prometheus and Grafana come only when asked for
    with cluster.client() as client:
        first = write(client, 20)
        inside = docker("run", "--rm", f"--network={cluster.network}", "--entrypoint=python",
                        IMAGE, "-c", IN_THE_NETWORK)  # fmt: skip
        assert int(inside) > first[2]
        assert client.verify_token("inside", int(inside))
    secret = cluster.inside("agentkeeper-1", "cat", "/etc/agentkeeper/raft-secret")
    assert len(secret.strip()) == 64

    cluster("restart")
    cluster.await_healthy()
    with cluster.client() as client:
        check(client, first)
        second = write(client, 20)
        assert second[2] > first[2]

    cluster("down")
    cluster("up", "-d")
    cluster.await_healthy()
    assert cluster.inside("agentkeeper-3", "cat", "/etc/agentkeeper/raft-secret") == secret
    with cluster.client() as client:
        check(client, first)
        check(client, second)
    assert converged(cluster)


def test_a_replica_may_do_next_to_nothing_to_its_machine(any_tool, project):
    cluster = project(any_tool)
    cluster("up", "-d")
    cluster.await_healthy()
    status = cluster.inside("agentkeeper-1", "cat", "/proc/1/status")
    fields = dict(line.split(":", 1) for line in status.splitlines())
    assert fields["Uid"].split() == ["10001"] * 4
    assert int(fields["CapEff"], 16) == 0
    assert int(fields["CapBnd"], 16) == 0
    assert int(fields["NoNewPrivs"]) == 1
    with pytest.raises(AssertionError, match="Read-only file system"):
        cluster.inside("agentkeeper-1", "touch", "/opt/agentkeeper/it")
    with pytest.raises(AssertionError, match="Read-only file system"):
        cluster.inside("agentkeeper-1", "touch", "/etc/agentkeeper/it")
    published = cluster.inspect("agentkeeper-1")["NetworkSettings"]["Ports"]
    assert published["7400/tcp"] is None  # nobody outside has business with Raft

    cluster("stop")
    states = [cluster.inspect(name)["State"] for name in cluster.names]
    assert [state["ExitCode"] for state in states] == [0, 0, 0]


def test_five_replicas_bear_the_loss_of_two(each_tool, project):
    cluster = project(each_tool, ROOT / "cluster/compose.five.yml", replicas=5)
    cluster("up", "-d")
    cluster.await_healthy()
    leader = cluster.leader()
    other = next(name for name in cluster.names if name != leader)
    with cluster.client() as client:
        written = write(client, 5)
        docker("kill", cluster.container(leader), cluster.container(other))
        check(client, written)
        check(client, write(client, 5))
        cluster("up", "-d")
        cluster.await_healthy()
        check(client, written)
    assert converged(cluster)


def test_the_observability_profile_is_read_by_both_generations(each_tool, project):
    cluster = project(each_tool)
    services = cluster("--profile", "observability", "config", "--services").split()
    assert sorted(services) == sorted([*cluster.names, "grafana", "prometheus", "raft-secret"])


def test_a_daemon_alone_keeps_what_it_has_in_its_volume(image):
    name = f"agentkeeper-tests-{uuid.uuid4().hex[:8]}"
    try:
        for count in (1, 2):
            docker("run", "-d", f"--name={name}", f"--volume={name}:/var/lib/agentkeeper", IMAGE)
            script = (
                "from agentkeeper import AgentKeeperClient\n"
                "with AgentKeeperClient(timeout=20) as client:\n"
                "    client.create_task('one')\n"
                "    print(len(client.list_tasks()))\n"
            )
            assert int(docker("exec", name, "python", "-c", script)) == count
            docker("exec", name, "python", "-IS", "/opt/agentkeeper/probe.py", "/healthz")
            docker("stop", name)
            state = json.loads(docker("inspect", name))[0]["State"]
            assert state["ExitCode"] == 0
            docker("rm", name)
    finally:
        docker("rm", "--force", name)
        docker("volume", "rm", "--force", name)
