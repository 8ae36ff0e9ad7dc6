"""What the tests run against: one daemon alone, and three replicas, by follower and by leader."""

import re
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agentkeeper.launcher import LocalCluster, Node

from .legacy_client import AgentHandle, AgentKeeperClient
from .legacy_embedded import free_port, stop, wait_for_listener


@dataclass(frozen=True)
class Deployment:
    """A gRPC endpoint to use, and the HTTP endpoint of the same daemon."""

    host: str
    port: int
    http: str

    def get(self, path: str) -> tuple[int, str]:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://{self.http}{path}", timeout=10) as response:
            return response.status, response.read().decode()

    def metric(self, name: str) -> float:
        """A sample by its name with labels; 0 when there is none yet."""
        pattern = rf"^{re.escape(name)} (\S+)$"
        found = re.search(pattern, self.get("/metrics")[1], re.MULTILINE)
        return float(found.group(1)) if found else 0.0


@pytest.fixture(scope="session")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A daemon started the bare way: no file, no variable, nothing but its two addresses."""
    port, http = free_port(), free_port()
    directory = tmp_path_factory.mktemp("daemon")
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "agentkeeper"),
                *(f"--addr=127.0.0.1:{port}", f"--metrics-addr=127.0.0.1:{http}"),
            ],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_for_listener(port, process)
        yield Deployment("127.0.0.1", port, f"127.0.0.1:{http}")
    finally:
        stop(process)
    assert process.returncode == 0, (directory / "log").read_text()


@pytest.fixture(scope="session")
def cluster() -> Iterator[dict[str, Deployment]]:
    """Three replicas; a client of 0.1.x knows one of them."""
    cluster = LocalCluster(replicas=3)
    with cluster:
        leader = cluster.leader()
        follower = cluster.followers()[0]
        yield {"leader": at(leader), "follower": at(follower)}
        assert cluster.leader() is leader, "the leader changed under the tests"
        assert set(cluster.stop().values()) == {0}


def at(node: Node) -> Deployment:
    host, port = node.endpoint.rsplit(":", 1)
    return Deployment(host, int(port), node.metrics_addr)


@pytest.fixture(params=["alone", "follower", "leader"], scope="session")
def deployment(request: pytest.FixtureRequest) -> Deployment:
    """Every test that uses this runs against each."""
    if request.param == "alone":
        return request.getfixturevalue("daemon")
    by_role: dict[str, Deployment] = request.getfixturevalue("cluster")
    return by_role[request.param]


@pytest.fixture
def client(deployment: Deployment) -> Iterator[AgentKeeperClient]:
    with AgentKeeperClient(deployment.host, deployment.port) as client:
        yield client


@pytest.fixture
def name() -> Callable[[str], str]:
    """Makes names that no other test uses: the daemons are shared."""
    suffix = uuid.uuid4().hex[:8]
    return lambda stem: f"{stem}-{suffix}"


@pytest.fixture
def agent(client: AgentKeeperClient, name: Callable[[str], str]) -> Iterator[AgentHandle]:
    with client.register(name("worker"), "Does what is asked", "1.0.0") as agent:
        yield agent


@pytest.fixture
def binary() -> str:
    """The daemon as it is installed."""
    return str(Path(sys.executable).with_name("agentkeeper"))
