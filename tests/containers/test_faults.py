"""Containers are killed, cut off and moved to other addresses under a load that must not notice.

`Load` fails on any call that fails, on an acknowledged write that is lost, on a gap in a watch.
"""

from contextlib import contextmanager

import pytest
from integration.conftest import converged
from integration.waiting import eventually
from machines.load import Load

from .compose import IMAGE, docker

pytestmark = pytest.mark.timeout(600)
SEED = 1

KILL_THE_DAEMON = """
import os, pathlib, signal
for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
    pid, command = int(path.parent.name), path.read_bytes().split(bytes(1))
    if pid not in (1, os.getpid()) and b"serve" in command:
        os.kill(pid, signal.SIGKILL)
"""


@contextmanager
def under_load(cluster):
    cluster("up", "-d")
    cluster.await_healthy()
    with Load(cluster, SEED) as load:
        yield load
        cluster.await_healthy()
        load.await_more(3, "everybody goes on")
        load.finish()
        assert converged(cluster)


@pytest.fixture
def squatter(image):
    """Containers that take the addresses which others have left."""
    ids = []

    def settle(network):
        ids.append(
            docker("run", "-d", f"--network={network}", "--entrypoint=sleep", IMAGE, "600").strip()
        )

    yield settle
    for id in ids:
        docker("rm", "--force", "--volumes", id)


def test_leaders_are_killed(any_tool, project):
    cluster = project(any_tool)
    with under_load(cluster) as load:
        for _ in range(3):
            leader = cluster.leader()
            container = cluster.container(leader)
            load.tell(f"docker kill {leader}")
            docker("kill", container)
            load.await_more(3, "everybody goes on without it")
            assert cluster.leader() != leader
            docker("start", container)
            cluster.await_healthy()


def test_a_leader_that_crashes_is_started_again(any_tool, project):
    cluster = project(any_tool)
    with under_load(cluster) as load:
        leader = cluster.leader()
        load.tell(f"{leader} crashes")
        # Detached, as the container ends with it.
        docker("exec", "--detach", cluster.container(leader), "python", "-c", KILL_THE_DAEMON)
        load.await_more(3, "everybody goes on without it")
        eventually(lambda: cluster.inspect(leader)["RestartCount"] == 1, "its start by the engine")


def test_leaders_are_cut_off_and_come_back_elsewhere(any_tool, project, squatter):
    """Names are resolved anew: who comes back has another address, and another has its old one."""
    cluster = project(any_tool)
    with under_load(cluster) as load:
        for _ in range(3):
            leader = cluster.leader()
            before, container = cluster.address(leader), cluster.container(leader)
            load.tell(f"docker network disconnect {leader}")
            docker("network", "disconnect", cluster.network, container)
            load.await_more(3, "everybody goes on without it")
            assert cluster.leader() != leader
            squatter(cluster.network)
            docker("network", "connect", f"--alias={leader}", cluster.network, container)
            assert cluster.address(leader) != before
            cluster.await_healthy()


def test_replicas_are_made_anew_one_after_the_other(any_tool, project, squatter):
    """As for another image: no call fails, though every replica has another address in the end."""
    cluster = project(any_tool)
    with under_load(cluster) as load:
        before = {name: cluster.address(name) for name in cluster.names}
        for name in cluster.names:
            load.tell(f"{name} is made anew")
            cluster("rm", "--stop", "--force", name)
            squatter(cluster.network)
            cluster("up", "-d", "--no-deps", name)
            cluster.await_healthy()
            load.await_more(1, "everybody goes on")
        after = {name: cluster.address(name) for name in cluster.names}
        assert all(after[name] != before[name] for name in cluster.names)


def test_everything_stops_at_once_under_load(any_tool, project):
    cluster = project(any_tool)
    with under_load(cluster) as load:
        load.tell("docker kill of all")
        containers = [cluster.container(name) for name in cluster.names]
        docker("kill", *containers)
        docker("start", *containers)
        cluster.await_healthy()
        load.tell("restart of all")
        cluster("restart")
        cluster.await_healthy()
