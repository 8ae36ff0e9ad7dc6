"""An earlier build replaced by this one, replica by replica, while work goes on."""

import io
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from agentkeeper.client import AgentKeeperClient
from agentkeeper.core.codec import ENCODING
from agentkeeper.launcher import LocalCluster
from agentkeeper.server.restore import verify

from .callers import Callers
from .conftest import converged
from .waiting import eventually

EARLIER = "398e891"
"""The last commit of which builds know nothing above cluster version 1."""
ROOT = Path(__file__).parents[2]
EACH = 150
GREETINGS = 3
"""How often a replica that went back to the earlier build may be told what it does not know: by
each of the others when it comes, and once more while the cluster still has the announcement."""
SMALL_SNAPSHOTS = ("--snapshot-entries", "200")


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    """A folder with the earlier build; skips where the repository does not have it."""
    command = ["git", "archive", "--format=tar", EARLIER, "agentkeeper"]
    try:
        packed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no commit {EARLIER} to make an earlier build of: {error}")
    folder = tmp_path_factory.mktemp("earlier")
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
    return folder


class Builds:
    """Which build each replica of a cluster runs from its next start on."""

    def __init__(self, cluster, earlier):
        self._present = {name: node.command for name, node in cluster.nodes.items()}
        # Else the folder in which the tests run would come first. It knows of no model yet.
        clean = ["env", "--unset=AGENTKEEPER_MODEL", "PYTHONSAFEPATH=1"]
        self._earlier = [*clean, f"PYTHONPATH={earlier}"]

    def put_back(self, node):
        node.command = [*self._earlier, *self._present[node.name]]

    def put_forward(self, node):
        node.command = self._present[node.name]


@pytest.fixture
def cluster_and_builds(earlier):
    cluster = LocalCluster(replicas=3, extra_args=SMALL_SNAPSHOTS)
    builds = Builds(cluster, earlier)
    for node in cluster.nodes.values():
        builds.put_back(node)
    with cluster:
        yield cluster, builds


def await_calls(callers, count=EACH):
    wanted = callers.total + count
    eventually(lambda: callers.total >= wanted or callers.failures, f"{count} more calls")
    assert callers.failures == []


def restart(cluster, node, prepare):
    assert node.terminate() == 0
    prepare(node)
    node.start()
    cluster.wait_ready()


def versions(wire, cluster):
    return {wire(node).status().cluster_version for node in cluster.nodes.values()}


def is_told_vitals(wire, node):
    return all(
        replica.HasField("vitals") or replica.node_id == "b"
        for replica in wire(node).status().replicas
    )


@pytest.mark.timeout(300)
def test_every_replica_is_upgraded_in_turn_and_no_call_fails(cluster_and_builds, wire, tmp_path):
    cluster, builds = cluster_and_builds
    a, b, c = cluster.nodes.values()
    with Callers(cluster) as callers:
        await_calls(callers)
        restart(cluster, a, builds.put_forward)
        await_calls(callers)
    assert wire(a).status().newest_version == ENCODING
    assert wire(b).status().newest_version == 0
    assert converged(cluster), "both builds make the same of the log"
    total = callers.total

    with Callers(cluster) as callers, AgentKeeperClient(endpoints=[a.endpoint]) as client:
        restart(cluster, b, builds.put_forward)
        await_calls(callers)
        restart(cluster, b, builds.put_back)  # until all are upgraded, there is a way back
        await_calls(callers)
        restart(cluster, b, builds.put_forward)
        c.terminate()
        shutil.rmtree(c.data_dir)
        await_calls(callers)
        c.start()  # gets a snapshot of this build's, and what follows
        cluster.wait_ready()
        await_calls(callers)
        assert "state restored from a snapshot" in c.log_path.read_text()
        assert wire(a).status().cluster_version == wire(b).status().cluster_version == 1
        client.save_snapshot(tmp_path / "saved")
        assert verify(tmp_path / "saved").cluster_version == 1

        restart(cluster, c, builds.put_forward)
        eventually(lambda: versions(wire, cluster) == {ENCODING}, "the new version")
        await_calls(callers)
        for node in (a, b, c):
            restart(cluster, node, builds.put_forward)
        await_calls(callers)
    total += callers.total
    print(f"{total} calls, {len(callers.failures)} failed")
    assert callers.failures == []
    assert converged(cluster)
    for node in (a, c):
        assert "message dropped" not in node.log_path.read_text()
    # b went back, which nobody can know before it has come.
    assert b.log_path.read_text().count("message dropped") <= GREETINGS

    assert c.terminate() == 0
    builds.put_back(c)
    c.start()
    eventually(lambda: not c.running, "the end of a build that is too old")
    assert c.exit_code == 1
    assert f"encoding {ENCODING} is not known to this build" in c.log_tail()


@pytest.mark.timeout(120)
def test_one_that_went_back_without_a_word_holds_the_version_down(cluster_and_builds, wire):
    """Its snapshot has its announcement of the earlier build, so it repeats none."""
    cluster, builds = cluster_and_builds
    a, b, c = cluster.nodes.values()
    restart(cluster, a, builds.put_forward)
    with Callers(cluster) as callers:
        eventually(lambda: '"event": "snapshot"' in c.log_path.read_text(), "a snapshot")
        assert callers.failures == []
    restart(cluster, c, builds.put_forward)
    eventually(lambda: is_told_vitals(wire, c), "its announcement, as that is what they need")
    restart(cluster, c, builds.put_back)
    restart(cluster, b, builds.put_forward)
    with Callers(cluster) as callers:
        await_calls(callers, 10 * EACH)
    assert c.running
    assert versions(wire, cluster) <= {0, 1}
    assert c.log_path.read_text().count("message dropped") <= GREETINGS

    restart(cluster, c, builds.put_forward)
    eventually(lambda: versions(wire, cluster) == {ENCODING}, "the new version")
    assert converged(cluster)
