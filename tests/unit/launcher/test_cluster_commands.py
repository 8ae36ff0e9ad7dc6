"""`agentkeeper cluster`, and the launcher with stand-ins for the daemon."""

import json
import signal
import sys
import textwrap

import pytest
from click.testing import CliRunner

from agentkeeper.cli.cluster import cluster
from agentkeeper.cli.cluster.report import describe, is_serving
from agentkeeper.client.status import leader_among
from agentkeeper.launcher import ChildFailed, LocalCluster
from agentkeeper.types import ReplicaRole, ReplicaStatus


def status(node, role="FOLLOWER", *, term=1, commit=10, applied=10, not_ready=""):
    return ReplicaStatus(
        endpoint=f"{node}:7070",
        node_id=node,
        role=ReplicaRole(role),
        term=term,
        commit_index=commit,
        applied_index=applied,
        last_log_index=commit,
        leader_node_id="a",
        leader_endpoint="a:7070",
        version="0",
        not_ready_reason=not_ready,
        digest="",
    )


@pytest.mark.parametrize(
    ("statuses", "leader"),
    [
        ([], None),
        ([None, None], None),
        ([status("a", "LEADER")], "a"),
        ([status("a", "LEADER"), status("b"), None], "a"),
        ([status("a", "LEADER"), None, None], None),
        ([status("a", "LEADER", term=1), status("b", "LEADER", term=2), status("c", term=2)], "b"),
        ([status("a", "LEADER", term=1), status("b", term=2), status("c", term=2)], None),
        ([status("a"), status("b", "CANDIDATE", term=2)], None),
    ],
)
def test_who_leads(statuses, leader):
    found = leader_among(statuses)
    assert (found.node_id if found else None) == leader


def test_lag_is_counted_from_the_leader():
    statuses = {
        "a": status("a", "LEADER", commit=100, applied=100),
        "b": status("b", commit=90, applied=80),
        "c": None,
    }
    assert describe("a", statuses["a"], statuses)["lag"] == 0
    assert describe("b", statuses["b"], statuses)["lag"] == 20
    assert describe("c", None, statuses) == {"endpoint": "c", "reachable": False}


def test_a_cluster_serves_if_some_replica_can():
    assert is_serving({"a": None, "b": status("b")})
    assert not is_serving({"a": None, "b": status("b", not_ready="no leader")})
    assert not is_serving({})


def test_status_of_nobody():
    answer = CliRunner().invoke(cluster, ["status", "--endpoints", "127.0.0.1:1", "-o", "json"])
    assert answer.exit_code == 1
    assert json.loads(answer.output) == {
        "serving": False,
        "replicas": [{"endpoint": "127.0.0.1:1", "reachable": False}],
    }
    answer = CliRunner().invoke(cluster, ["status", "--endpoints", "127.0.0.1:1"])
    assert (answer.exit_code, "not connected" in answer.output) == (1, True)


@pytest.mark.parametrize("endpoints", ["host:port", ","])
def test_malformed_endpoints_are_refused(endpoints):
    answer = CliRunner().invoke(cluster, ["status", "--endpoints", endpoints])
    assert answer.exit_code == 2


def test_endpoints_come_from_the_environment():
    environment = {"AGENTKEEPER_ENDPOINTS": "127.0.0.1:2"}
    answer = CliRunner().invoke(cluster, ["status", "-o", "json"], env=environment)
    assert json.loads(answer.output)["replicas"][0]["endpoint"] == "127.0.0.1:2"


# A stand-in for the interpreter: runs a listener where the daemon should be, noting its arguments.
STAND_IN = """
    #!{python}
    import http.server, json, pathlib, sys
    arguments = dict(zip(sys.argv[4::2], sys.argv[5::2]))
    here = pathlib.Path(arguments["--data-dir"])
    here.mkdir(exist_ok=True)
    (here / "argv.json").write_text(json.dumps(sys.argv[1:]))
    if (here / "fail").exists():
        sys.exit("the disk is broken")
    class Ready(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(503 if (here / "unready").exists() else 200)
            self.end_headers()
            self.wfile.write(b"no leader")
        def log_message(self, *rest): pass
    host, port = arguments["--metrics-addr"].split(":")
    http.server.ThreadingHTTPServer((host, int(port)), Ready).serve_forever()
"""


@pytest.fixture
def python(tmp_path):
    path = tmp_path / "python-stand-in"
    path.write_text(textwrap.dedent(STAND_IN).lstrip().format(python=sys.executable))
    path.chmod(0o755)
    return str(path)


def test_the_command_lines(python, tmp_path):
    with LocalCluster(
        3, tmp_path / "data", python, extra_args=["--x", "1"], node_args={"b": ["--y", "2"]}
    ) as local:
        argv = json.loads((tmp_path / "data" / "b" / "argv.json").read_text())
        assert argv[:4] == ["-m", "agentkeeper", "serve", "--node-id"]
        given = dict(zip(argv[3::2], argv[4::2], strict=True))
        assert given["--node-id"] == "b"
        assert [peer.partition("=")[0] for peer in given["--peers"].split(",")] == ["a", "b", "c"]
        assert given["--addr"] == local.nodes["b"].endpoint == local.endpoints[1]
        assert given["--data-dir"] == str(tmp_path / "data" / "b")
        assert (given["--x"], given["--y"]) == ("1", "2")
        assert "--y" not in local.nodes["a"].command
    assert not any(node.running for node in local.nodes.values())


def test_one_replica_is_no_cluster(python):
    with LocalCluster(1, python=python) as local:
        assert "--peers" not in local.nodes["a"].command
        assert "--node-id" not in local.nodes["a"].command
    assert not local.data_dir.exists()


def test_addresses_are_kept_with_the_data(python, tmp_path):
    first = LocalCluster(3, tmp_path, python)
    again = LocalCluster(3, tmp_path, python)
    assert first.endpoints == again.endpoints
    with pytest.raises(ValueError, match="3 replicas"):
        LocalCluster(5, tmp_path, python)


def test_a_replica_that_dies_early_shows_its_log(python, tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "fail").touch()
    local = LocalCluster(3, tmp_path, python)
    with pytest.raises(ChildFailed, match=r"replica b ended(.|\n)*the disk is broken"), local:
        pass
    assert not any(node.running for node in local.nodes.values())


def test_waiting_says_what_is_missing(python, tmp_path):
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "unready").touch()
    local = LocalCluster(3, tmp_path, python)
    try:
        local.start()
        with pytest.raises(TimeoutError, match="c: no leader"):
            local.wait_ready(timeout_s=3)
    finally:
        local.close()


def test_the_life_of_a_node(python, tmp_path):
    local = LocalCluster(1, tmp_path, python)
    node = local.nodes["a"]
    assert (node.running, node.pid, node.exit_code) == (False, None, None)
    try:
        local.start()
        local.wait_ready()
        with pytest.raises(RuntimeError, match="is running"):
            node.start()
        node.pause()
        assert node.running
        assert not node.ready()
        node.resume()
        assert node.ready()
        node.kill()
        assert node.exit_code == -signal.SIGKILL
        node.start()
        local.wait_ready()
        node.pause()
        assert node.terminate(grace_s=5) == -signal.SIGTERM
    finally:
        local.close()


@pytest.mark.parametrize("replicas", [0, 27])
def test_the_number_of_replicas_is_bounded(replicas, tmp_path):
    with pytest.raises(ValueError, match="replicas"):
        LocalCluster(replicas, tmp_path)
