"""Local backends do to real processes what they say. Skipped means: this machine can't."""

import itertools
import os
import random
import socket
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from integration.waiting import eventually

from agentkeeper.client import AgentKeeperClient
from chaos.backends import MEANS, Setup, Unsupported, missing
from chaos.backends.disk import MIB, Disk
from chaos.backends.namespaces import NamespaceBackend
from chaos.backends.network import inside
from chaos.backends.processes import LocalBackend

NEEDS = frozenset(MEANS)
NAMES = ("a", "b", "c")
DELAY_MS = 60.0
HOUR_S = 3_600


@pytest.fixture(scope="module")
def backend(tmp_path_factory):
    """Three replicas with all means; whole before each test."""
    try:
        # One try of everything by itself, as a failure of the cluster's start is not to be skipped.
        with NamespaceBackend(Setup(1, tmp_path_factory.mktemp("probe"), needs=NEEDS)):
            pass
    except (Unsupported, OSError) as error:
        pytest.skip(f"no namespaces, links, disks or clocks of one's own here: {error}")
    setup = Setup(3, tmp_path_factory.mktemp("run"), needs=NEEDS)
    with NamespaceBackend(setup) as backend:
        yield backend


@pytest.fixture(autouse=True)
def whole(request):
    """Whatever a test did, the next one begins with three replicas that serve."""
    yield
    if "backend" in request.fixturenames:
        backend = request.getfixturevalue("backend")
        backend.network.heal()
        backend.processes.resume(NAMES)
        for name in NAMES:
            backend.disks.free(name)
            backend.clocks.shift(name, 0.0)
        backend.processes.start(NAMES)
        await_ready(backend)


@pytest.fixture
def client(backend):
    with AgentKeeperClient(endpoints=backend.endpoints, timeout=60) as client:
        yield client


def await_ready(backend, names=NAMES):
    eventually(lambda: not any(map(backend.unready_reason, names)), f"{names} ready", 60)


def write(client):
    return client.create_task("a task", required_tools=["nobody has this"])


def exchange_ms(backend, source, target):
    """How long a packet and its answer take on one connection, each of several times."""
    with (
        ThreadPoolExecutor(1) as executor,
        in_namespace(backend, target) as listener,
        in_namespace(backend, source) as near,
    ):
        listener.bind((backend.network.address(target), 0))
        listener.listen()
        accepting = executor.submit(listener.accept)
        near.connect(listener.getsockname())
        far, _ = accepting.result(10)
        with far:
            far.settimeout(30)
            return [one_exchange_ms(near, far) for _ in range(4)]


def one_exchange_ms(near, far):
    start_ns = time.monotonic_ns()
    near.sendall(b"x")
    assert far.recv(1) == b"x"
    far.sendall(b"y")
    assert near.recv(1) == b"y"
    return (time.monotonic_ns() - start_ns) / 1e6


def in_namespace(backend, name, kind=socket.SOCK_STREAM):
    with inside(backend.network.namespace(name)):
        made = socket.socket(type=kind)
    made.settimeout(30)
    return made


def test_it_has_what_was_asked_for_and_no_more(backend, tmp_path):
    assert missing(backend, NEEDS) == []
    assert list(backend.replicas) == list(NAMES)
    plain = LocalBackend(Setup(3, tmp_path))
    assert missing(plain, NEEDS) == ["clocks", "disks", "links", "network"]


def test_processes_are_killed_paused_and_started(backend, client):
    processes = backend.processes
    assert processes.memory_bytes("a") > 10 * 2**20
    processes.pause(["a"])
    assert processes.running("a")
    assert backend.statuses()["a"] is None
    processes.kill(["a"])
    assert not processes.running("a")
    assert processes.memory_bytes("a") == 0
    write(client)
    processes.start(NAMES)
    await_ready(backend)
    processes.stop("b")
    assert not processes.running("b")
    assert "stopped" in processes.log_tail("b")


def test_an_isolated_replica_can_be_asked_but_serves_nothing(backend, client):
    backend.network.isolate("a")
    eventually(lambda: backend.unready_reason("a"), "that it says so")
    assert backend.statuses()["a"] is not None
    write(client)
    backend.network.heal()
    await_ready(backend)


def test_a_slow_way_delays_and_is_fast_again_when_healed(backend):
    backend.links.slow("a", "b", DELAY_MS)
    assert min(exchange_ms(backend, "a", "b")) >= DELAY_MS
    backend.links.slow("b", "a", DELAY_MS)
    assert min(exchange_ms(backend, "a", "b")) >= 2 * DELAY_MS
    backend.network.heal()
    assert statistics.median(exchange_ms(backend, "a", "b")) < DELAY_MS


def test_links_of_the_cluster_live_through_slowness(backend, client):
    write(client)
    leaders = {status.term for status in backend.statuses().values()}
    for source, target in itertools.permutations(NAMES, 2):
        backend.links.slow(source, target, 5.0)
    for _ in range(5):
        write(client)
    backend.network.heal()
    for _ in range(5):
        write(client)
    assert {status.term for status in backend.statuses().values()} == leaders


def test_a_cut_is_a_cut_even_of_a_slow_way(backend):
    backend.links.slow("a", "b", DELAY_MS)
    backend.links.cut("a", "b")
    backend.links.slow("a", "b", DELAY_MS)
    with in_namespace(backend, "a") as near:
        near.settimeout(1)
        with pytest.raises(TimeoutError):
            near.connect((backend.network.address("b"), 7_778))
    backend.network.heal()
    with in_namespace(backend, "a") as near, pytest.raises(ConnectionRefusedError):
        near.connect((backend.network.address("b"), 7_778))


def test_a_lossy_way_loses_its_share_and_none_when_healed(backend):
    def share_lost():
        with (
            in_namespace(backend, "b", socket.SOCK_DGRAM) as far,
            in_namespace(backend, "a", socket.SOCK_DGRAM) as near,
        ):
            far.bind((backend.network.address("b"), 0))
            far.settimeout(0.5)
            for _ in range(200):
                near.sendto(b"x", far.getsockname())
            arrived = 0
            with suppress(TimeoutError):
                while arrived < 200:
                    arrived += len(far.recv(1))
        return 1 - arrived / 200

    backend.links.lossy("a", "b", 0.9)
    backend.links.lossy("a", "b", 0.4)  # instead of the former, not above it
    assert 0.2 < share_lost() < 0.6
    backend.network.heal()
    assert share_lost() == 0


def test_a_full_disk_is_noticed_and_freed(backend, client):
    for name in NAMES[:2]:
        backend.disks.fill(name)
    eventually(lambda: any("full" in backend.unready_reason(n) for n in NAMES[:2]), "full")
    for name in NAMES[:2]:
        backend.disks.free(name)
    await_ready(backend)
    write(client)


def test_a_power_cut_takes_what_was_not_synced_and_nothing_acknowledged(backend, client):
    tasks = [write(client) for _ in range(20)]
    folders = [backend._cluster.nodes[name].data_dir for name in NAMES]
    for folder in folders:
        (folder / "unsynced").write_bytes(b"promised only")
    backend.processes.pause(["a"])
    backend.disks.cut_power(NAMES)
    assert not any(map(backend.processes.running, NAMES))
    assert not any((folder / "unsynced").exists() for folder in folders)
    backend.processes.start(NAMES)
    await_ready(backend)
    assert {task.id for task in tasks} <= {task.id for task in client.list_tasks()}


def test_damage_is_done_to_files_and_a_wiped_replica_comes_back(backend, client):
    write(client)
    backend.processes.kill(["c"])
    folder = backend._cluster.nodes["c"].data_dir
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    flipped = backend.disks.flip("c", random.Random(1))
    offset, name = int(flipped.split()[1]), flipped.split()[-1]
    after = (folder / name).read_bytes()
    assert [
        i for i, pair in enumerate(zip(before[name], after, strict=True)) if len({*pair}) > 1
    ] == [offset]
    torn = backend.disks.tear("c", random.Random(1))
    cut_bytes, name = int(torn.split()[0]), torn.split()[-1]
    assert (folder / name).stat().st_size == len(before[name]) - cut_bytes
    backend.disks.wipe("c")
    assert {path.name for path in folder.iterdir()} <= {"lost+found"}
    backend.processes.start(["c"])
    await_ready(backend)


@pytest.mark.parametrize("offset_s", [-5 * HOUR_S, 5 * HOUR_S])
def test_a_wall_clock_jumps_while_its_daemon_runs(backend, client, offset_s):
    pids = [backend._cluster.nodes[name].pid for name in NAMES]
    for name in NAMES:
        backend.clocks.shift(name, offset_s)
    agent = client.get_agent(client.register("shifted", "", "1", ttl=60).agent_id)
    off_s = (agent.registered_at - datetime.now(UTC)).total_seconds()
    assert off_s == pytest.approx(offset_s, abs=HOUR_S)
    assert [backend._cluster.nodes[name].pid for name in NAMES] == pids
    write(client)
    await_ready(backend)


def test_nothing_is_left_when_a_run_fails_midway(tmp_path):
    if os.geteuid():
        pytest.skip("no disks and namespaces without root")
    backend = NamespaceBackend(Setup(3, tmp_path, needs=NEEDS))
    try:
        with backend:
            pids = [node.pid for node in backend._cluster.nodes.values()]
            backend.processes.pause(["a"])
            backend.links.slow("a", "b", 1_000)
            backend.network.isolate("c")
            raise KeyError("the run")
    except KeyError:
        pass
    except (Unsupported, OSError) as error:
        pytest.skip(str(error))
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()
    assert not os.path.exists(f"/run/netns/{backend.network.namespace('a')}")


def test_a_run_begins_anew_where_a_former_one_has_left_its_disks(tmp_path):
    try:
        left = Disk(tmp_path / "a.img", tmp_path / "replicas" / "a", 16 * MIB)
        left.__enter__()  # and a run that is killed never leaves it
        (left.folder / "left").write_text("by the former run")
        with LocalBackend(Setup(1, tmp_path, needs=frozenset({"disks"}))) as second:
            assert not (second._cluster.nodes["a"].data_dir / "left").exists()
            assert not second.unready_reason("a")
    except (Unsupported, OSError) as error:
        pytest.skip(str(error))
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()
