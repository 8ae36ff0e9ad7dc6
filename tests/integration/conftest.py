"""Clusters that tests share: one that nobody hurts, one that is healed after every wound."""

import re
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from agentkeeper.client import AgentKeeperClient
from agentkeeper.launcher import LocalCluster, Node

from .waiting import eventually
from .wire import Wire


@pytest.fixture(scope="session")
def cluster() -> Iterator[LocalCluster]:
    """Three replicas, for tests that do no harm."""
    with LocalCluster(replicas=3) as cluster:
        yield cluster
        assert set(cluster.stop().values()) == {0}


@pytest.fixture(scope="session")
def rough_cluster() -> Iterator[LocalCluster]:
    """Three replicas for `rough`."""
    with LocalCluster(replicas=3) as cluster:
        yield cluster


@pytest.fixture
def rough(rough_cluster: LocalCluster) -> Iterator[LocalCluster]:
    """Three replicas that a test may kill and pause: whole before, healed after."""
    heal(rough_cluster)
    yield rough_cluster
    for node in rough_cluster.nodes.values():
        node.resume()


def heal(cluster: LocalCluster) -> None:
    """Start and resume everything, and wait until all replicas serve."""
    for node in cluster.nodes.values():
        node.resume()
    cluster.start()
    cluster.wait_ready()


@pytest.fixture
def wire() -> Iterator[Callable[[Node], Wire]]:
    """Makes channels to replicas, closed in the end."""
    with ExitStack() as open_channels:

        def connect(node: Node) -> Wire:
            wire = Wire(node.endpoint)
            open_channels.callback(wire.close)
            return wire

        yield connect


@pytest.fixture(params=["follower", "leader"])
def here(
    request: pytest.FixtureRequest, cluster: LocalCluster, wire: Callable[[Node], Wire]
) -> Wire:
    """The replica under test: everything must work by way of either."""
    leads = request.param == "leader"
    return wire(cluster.leader() if leads else cluster.followers()[0])


@pytest.fixture
def there(cluster: LocalCluster, here: Wire, wire: Callable[[Node], Wire]) -> Wire:
    """Another replica, which must see what happens `here`."""
    return wire(next(n for n in cluster.nodes.values() if n.endpoint != here.endpoint))


@pytest.fixture
def name() -> Callable[[str], str]:
    """Makes names that no other test uses."""
    suffix = uuid.uuid4().hex[:8]
    return lambda stem: f"{stem}-{suffix}"


def freeze(node: Node) -> None:
    """Pause a replica, and wait until none of its threads runs any more."""
    node.pause()

    def stopped() -> bool:
        stats = [path.read_text() for path in Path(f"/proc/{node.pid}/task").glob("*/stat")]
        return all(stat.rpartition(")")[2].split()[0] == "T" for stat in stats)

    eventually(stopped, f"{node} standing still")


def calls_of(node: Node, method: str) -> int:
    """How many calls of a method a replica has admitted."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://{node.metrics_addr}/metrics", timeout=10) as response:
        text = response.read().decode()
    found = re.search(rf'^agentkeeper_rpc_total{{method="{method}"}} (\S+)$', text, re.MULTILINE)
    return int(float(found.group(1))) if found else 0


def await_calls(node: Node, method: str, count: int) -> None:
    """Wait until a replica has admitted that many calls of a method."""
    eventually(lambda: calls_of(node, method) >= count, f"{count} {method} at {node}")


def client_at(cluster: LocalCluster, node: Node) -> AgentKeeperClient:
    """A client of the whole cluster that now uses `node`: which comes first is drawn by lot."""
    while True:
        client = AgentKeeperClient(endpoints=cluster.endpoints, timeout=60)
        before = calls_of(node, "CheckPolicy")
        client.check_policy("nobody", "does", "anything")
        if calls_of(node, "CheckPolicy") > before:
            return client
        client.close()


def converged(cluster: LocalCluster) -> str:
    """Wait until all running replicas are at one index; they must have one digest, the answer."""
    digests: set[str] = set()

    def at_one_index() -> bool:
        statuses = [s for s in cluster.statuses().values() if s is not None]
        digests.clear()
        digests.update(s.digest for s in statuses)
        running = sum(node.running for node in cluster.nodes.values())
        return len(statuses) == running and len({s.applied_index for s in statuses}) == 1

    eventually(at_one_index, "all replicas at one index")
    assert len(digests) == 1, f"replicas differ at one index: {cluster.statuses()}"
    return digests.pop()
