"""Client processes on a real cluster: what they do, and what is left when they die."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from integration.waiting import eventually

from agentkeeper import WatchGap
from agentkeeper.client.child import Child
from agentkeeper.launcher import LocalCluster
from chaos import history
from chaos.clients.fleet import Fleet
from chaos.clients.spec import Spec
from chaos.clients.store import Store
from chaos.history import FOREVER_NS, History, Outcome, Recorder
from chaos.workloads import MIX, actors_of, watches

CALLS = {
    "leases": {"register", "acquire", "renew", "release", "get", "verify"},
    "elections": {"register", "campaign", "resign", "get"},
    "tasks": {"register", "create", "claim", "complete", "fail", "extend", "get"},
    "registry": {"register", "deregister", "heartbeat", "get", "find"},
    "policies": {"set", "check", "delete"},
    "watches": {"watch"},
}
ALL = {(workload, call) for workload, calls in CALLS.items() for call in calls}
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(replicas=3) as cluster:
        yield cluster


@pytest.fixture
def store() -> Iterator[Store]:
    with Store() as store:
        yield store


def succeeded(read: History) -> set[tuple[str, str]]:
    return {(o.workload, o.call) for o in read.operations if o.outcome is Outcome.OK}


def test_a_fleet_does_all_that_its_workloads_are_about(
    cluster: LocalCluster, store: Store, tmp_path: Path
) -> None:
    with Fleet(tmp_path, cluster.endpoints, store.path, {"mix": 1}, clients=2) as fleet:
        fleet.start()
        eventually(lambda: fleet.counts().total >= 2000, "2000 calls", PATIENCE_S)
        eventually(lambda: succeeded(history.read(tmp_path)) >= ALL, "all calls", PATIENCE_S)
        assert fleet.died() == {}
        assert fleet.stop() == {}
        read = history.read(tmp_path)
        counts = fleet.counts()
    broken = [o for o in read.operations if o.outcome is Outcome.BROKEN]
    assert not broken, broken[:3]
    assert not [o for o in read.operations if o.outcome is Outcome.UNKNOWN], "nothing was cut off"
    assert counts.by_outcome == Counter(o.outcome for o in read.operations) | dict.fromkeys(
        set(Outcome) - {o.outcome for o in read.operations}, 0
    )
    assert any(write.accepted for write in store.writes)
    check_watches(read)
    check_sharing(read)
    check_tasks(cluster, fleet.mark)


def check_watches(read: History) -> None:
    """Each is told of everything from its first event on, up to what its process has done."""
    for client in ("c0", "c1"):
        seen = [s for s in read.seen if s.client == client]
        assert [s.sequence for s in seen] == [seen[0].sequence + i for i in range(len(seen))]
        completed = {
            o.key
            for o in read.of("tasks")
            if (o.client, o.call, o.outcome) == (client, "complete", Outcome.OK)
            and o.start_ns > seen[0].at_ns
        }
        assert completed
        assert completed <= {s.payload["id"] for s in seen if s.topic == "task.completed"}


def check_sharing(read: History) -> None:
    """In all workloads something is done to the same subject by several processes."""
    for workload in CALLS.keys() - {"watches"}:
        clients = defaultdict(set)
        for operation in read.of(workload):
            if operation.key:
                clients[operation.key].add(operation.client)
        assert any(len(of) > 1 for of in clients.values()), f"nothing is contended in {workload}"


def check_tasks(cluster: LocalCluster, mark: str) -> None:
    """None is left."""
    with cluster.client() as client:
        tasks = [task for task in client.list_tasks() if task.type.startswith(mark)]
    assert {task.status.value for task in tasks} <= {"COMPLETED", "DEAD"}
    assert len(tasks) > 50


def test_what_a_killed_client_was_about_stays_open(
    cluster: LocalCluster, store: Store, tmp_path: Path
) -> None:
    workloads = {"policies": 4, "watches": 2}
    with Fleet(tmp_path, cluster.endpoints, store.path, workloads, clients=2) as fleet:
        fleet.start()
        eventually(lambda: watched_by(tmp_path, "c0") == 2, "both watch", PATIENCE_S)
        for node in cluster.nodes.values():
            node.pause()
        try:
            eventually(lambda: len(open_calls(tmp_path, "c0")) == 4, "all wait", PATIENCE_S)
            fleet.kill(["c0"])
        finally:
            for node in cluster.nodes.values():
                node.resume()
        assert fleet.names == ["c1"]
        assert fleet.replace("c0") == "c0-1"
        assert not fleet.replace("c0"), "it has been"
        eventually(lambda: watched_by(tmp_path, "c0-1") == 2, "both watch", PATIENCE_S)
        assert fleet.died() == {}
        assert fleet.stop() == {}
    left = open_calls(tmp_path, "c0")
    assert {(o.outcome, o.end_ns) for o in left} == {(Outcome.UNKNOWN, FOREVER_NS)}
    assert [(fault.client, fault.kind) for fault in fleet.faults] == [("c0", "killed")]
    seen = history.read(tmp_path).seen
    for name in ("watch/0", "watch/1"):
        before = [s.sequence for s in seen if (s.client, s.watcher) == ("c0", name)]
        after = [s.sequence for s in seen if (s.client, s.watcher) == ("c0-1", f"{name}#2")]
        assert after[0] == before[-1] + 1, "it goes on where the killed one was"


def watched_by(folder: Path, client: str) -> int:
    """How many watchers of a process have seen something."""
    return len({s.watcher for s in history.read(folder).seen if s.client == client})


def open_calls(folder: Path, client: str) -> list[history.Operation]:
    operations = history.read(folder).of("policies")
    return [o for o in operations if o.client == client and o.outcome is Outcome.UNKNOWN]


def test_a_client_that_was_paused_goes_on(
    cluster: LocalCluster, store: Store, tmp_path: Path
) -> None:
    with Fleet(tmp_path, cluster.endpoints, store.path, {"policies": 2}, clients=1) as fleet:
        fleet.start()
        eventually(lambda: fleet.counts().total > 10, "calls", PATIENCE_S)
        fleet.pause(["c0"])
        assert fleet.names == ["c0"]
        paused_ns = time.monotonic_ns()
        fleet.resume(["c0"])
        fleet.resume(["c0"])
        before = fleet.counts().total
        eventually(lambda: fleet.counts().total > before + 10, "more calls", PATIENCE_S)
        assert fleet.stop() == {}
    (fault,) = fleet.faults
    assert (fault.client, fault.kind) == ("c0", "paused")
    assert fault.start_ns < paused_ns < fault.end_ns


def test_a_client_that_ends_by_itself_is_told_of(store: Store, tmp_path: Path) -> None:
    with Fleet(tmp_path, ["host:port"], store.path, {"policies": 1}, clients=1) as fleet:
        fleet.start()
        eventually(fleet.died, "its end", PATIENCE_S)
        assert "not an endpoint" in fleet.died()["c0"]
        assert fleet.names == []
        assert fleet.faults == [], "nobody did that to it"


def test_workloads_are_checked() -> None:
    assert actors_of({"mix": 2, "leases": 1}) == {k: 2 * v for k, v in MIX.items()} | {
        "leases": 2 * MIX["leases"] + 1
    }
    with pytest.raises(ValueError, match="no workload 'joy'"):
        actors_of({"joy": 1})
    with pytest.raises(ValueError, match="tasks needs 2"):
        actors_of({"tasks": 1})


def test_slots_grow_with_the_load(tmp_path: Path) -> None:
    def spec(clients: int, pace_s: float) -> Spec:
        return Spec(
            *("c0", "", 0, clients, [], "m", 0, 1, 1.0, pace_s, 1.0),
            workloads={"policies": 10},
            folder="",
            store="",
        )

    assert spec(1, 10.0).slots("policies") == 1
    assert spec(4, 0.1).slots("policies") == 2 * spec(2, 0.1).slots("policies") == 20
    path = tmp_path / "spec.json"
    spec(2, 0.5).save(path)
    assert Spec.load(path) == spec(2, 0.5)


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("herd", ["--count", "40"]),
        ("flood", ["--count", "20", "--call", "set"]),
        ("flood", ["--count", "20", "--call", "create"]),
        ("flood", ["--count", "20", "--call", "check"]),
        ("idle_watchers", ["--count", "10"]),
    ],
)
def test_a_crowd_tells_in_the_end_what_it_came_to(
    module: str, words: list[str], cluster: LocalCluster, tmp_path: Path
) -> None:
    child = Child([*crowd(module, cluster), *words, "--seconds", "2"], tmp_path / "log")
    eventually(lambda: child.exit_code is not None, "its end", PATIENCE_S)
    assert child.exit_code == 0, child.log_tail()
    report = json.loads(child.log_tail())
    if module == "idle_watchers":
        assert (report["opened"], report["ended"]) == (10, {})
    else:
        assert report["codes"]["OK"] >= 20


def test_a_crowd_ends_when_told_to(cluster: LocalCluster, tmp_path: Path) -> None:
    child = Child([*crowd("flood", cluster), "--count", "5", "--call", "set"], tmp_path / "log")
    with cluster.client() as client:
        before = {policy.id for policy in client.list_policies()}

        def answered() -> bool:
            """A sixth call is made when one of five has been answered."""
            new = (policy for policy in client.list_policies() if policy.id not in before)
            return any(int(policy.resource) >= 5 for policy in new)

        eventually(answered, "answers", PATIENCE_S)
    assert child.stop() == 0
    assert json.loads(child.log_tail())["codes"]["OK"] > 0


def crowd(module: str, cluster: LocalCluster) -> list[str]:
    endpoints = ",".join(cluster.endpoints)
    return [sys.executable, "-m", f"chaos.clients.{module}", "--endpoints", endpoints]


def test_a_watcher_goes_on_behind_the_gap_that_it_was_told_of(tmp_path):
    recorder = Recorder(tmp_path / "c0.jsonl", "c0")
    spec = SimpleNamespace(incarnation=0, former="")
    watcher = watches._Watcher(SimpleNamespace(number=0, spec=spec, recorder=recorder))
    watcher.miss(WatchGap(after=5, oldest=9))
    assert watcher.after == 8


def test_a_watcher_whose_former_one_never_began_begins_anew(tmp_path):
    assert watches._last_seen(tmp_path / "never.jsonl", "watch/0") is None
