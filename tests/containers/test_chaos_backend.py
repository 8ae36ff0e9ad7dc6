"""What chaos does to containers, as far as the engine and clients can see it."""

import contextlib
import random

import pytest
from integration.waiting import eventually

from agentkeeper import AgentKeeperClient
from agentkeeper.client.status import leader_among
from chaos.backends import Setup, Unsupported
from chaos.backends.compose import ComposeBackend
from chaos.backends.containers import environment_of

from .compose import IMAGE, docker

pytestmark = pytest.mark.timeout(300)

SETTINGS = ("--snapshot-entries", "200")
MIB = 2**20


@pytest.fixture(scope="module")
def backend(image, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    with ComposeBackend(Setup(3, folder, SETTINGS), image=image) as backend:
        yield backend
    for name in backend.replicas:
        assert (folder / f"{name}.log").stat().st_size
    label = f"label=com.docker.compose.project={backend._name}"
    assert not docker("ps", "-aq", "--filter", label).split()
    assert not docker("volume", "ls", "-q", "--filter", label).split()


@pytest.fixture
def client(backend):
    with AgentKeeperClient(endpoints=backend.endpoints, timeout=60) as client:
        yield client


def leader_of(backend):
    found = eventually(lambda: leader_among(list(backend.statuses().values())), "a leader")
    return found.node_id


def follower_of(backend):
    leader = leader_of(backend)
    return next(name for name in backend.replicas if name != leader)


def await_ready(backend, *names):
    for name in names or backend.replicas:
        eventually(lambda name=name: not backend.unready_reason(name), f"{name} serves", 90)


def write(client, written):
    written.append(client.create_task("written", str(len(written)).encode()).id)


def check(backend, client, written):
    """Every acknowledged write is there, and all replicas agree."""
    await_ready(backend)
    assert [client.get_task(id).input for id in written] == [
        str(n).encode() for n in range(len(written))
    ]

    def digests():
        return {(s.applied_index, s.digest) if s else None for s in backend.statuses().values()}

    eventually(lambda: len(said := digests()) == 1 and None not in said, "equal digests")


def test_replicas_are_what_the_setup_says(backend):
    assert list(backend.replicas) == ["agentkeeper-1", "agentkeeper-2", "agentkeeper-3"]
    assert {said.node_id for said in backend.statuses().values()} == set(backend.replicas)
    for name in backend.replicas:
        container = backend._containers[name]
        assert container.attrs["Config"]["Cmd"] == ["serve", *SETTINGS]
        assert environment_of(container)["AGENTKEEPER_NODE_ID"] == name
        assert 30 * MIB < backend.processes.memory_bytes(name) < 600 * MIB
        assert "agentkeeper" in backend.processes.log_tail(name)


def test_kill_and_start(backend, client):
    written = []
    leader = leader_of(backend)
    backend.processes.kill([leader])
    assert not backend.processes.running(leader)
    assert backend.processes.memory_bytes(leader) == 0
    write(client, written)
    assert leader_of(backend) != leader
    backend.processes.start([leader])
    await_ready(backend)
    backend.processes.pause(backend.replicas[:1])
    backend.processes.kill(backend.replicas)  # a paused one, too
    assert not any(map(backend.processes.running, backend.replicas))
    backend.processes.start(backend.replicas)
    write(client, written)
    backend.processes.stop(backend.replicas[0])
    assert backend._containers[backend.replicas[0]].attrs["State"]["ExitCode"] == 0
    backend.processes.start(backend.replicas)
    check(backend, client, written)


def test_pause_and_resume(backend, client):
    written = []
    leader = leader_of(backend)
    backend.processes.pause([leader])
    assert backend.processes.running(leader)
    assert backend.statuses()[leader] is None
    write(client, written)
    backend.processes.resume(backend.replicas)
    check(backend, client, written)


def test_isolate_and_heal(backend, client):
    written = []
    leader = leader_of(backend)
    places = backend._containers.places
    backend.network.isolate(leader)
    backend.network.isolate(leader)  # harmless
    write(client, written)
    assert leader_of(backend) != leader
    assert backend.statuses()[leader] is None  # published ports go with the network
    backend.network.heal()
    backend.network.heal()
    check(backend, client, written)
    (network,) = backend._containers[leader].attrs["NetworkSettings"]["Networks"].values()
    assert leader in places[leader][0].aliases
    assert set(places[leader][0].aliases) <= set(network["Aliases"])


def test_a_replica_that_was_isolated_starts_without_a_network(backend, client):
    written = []
    name = follower_of(backend)
    backend.network.isolate(name)
    backend.processes.kill([name])
    backend.network.heal()
    write(client, written)
    backend.processes.start([name])
    check(backend, client, written)


@pytest.mark.parametrize("how", ["flip", "tear"])
def test_damage_is_made_good_or_refused(backend, client, how):
    written = []
    write(client, written)
    name = follower_of(backend)
    with pytest.raises(AssertionError, match="runs"):
        backend.disks.wipe(name)
    backend.processes.kill([name])
    said = getattr(backend.disks, how)(name, random.Random(1))
    assert ("of" if how == "flip" else "bytes off") in said
    backend.processes.start([name])
    eventually(
        lambda: not backend.processes.running(name) or not backend.unready_reason(name),
        f"{name} starts or refuses to",
        90,
    )
    if not backend.processes.running(name):
        assert "remove (or move away) the whole data folder" in backend.processes.log_tail(name)
        backend.disks.wipe(name)
        backend.processes.start([name])
    check(backend, client, written)


def test_a_wrong_byte_in_the_identity_is_refused_once(backend, client):
    """The engine does not start it again and again; a wiped one comes back with everything."""
    written = []
    write(client, written)
    name = follower_of(backend)
    backend.processes.kill([name])
    rng = random.Random(1)
    while "identity" not in backend.disks.flip(name, rng):
        pass
    backend.processes.start([name])
    eventually(lambda: not backend.processes.running(name), "it ends")
    assert backend._containers[name].attrs["RestartCount"] == 0
    assert "remove (or move away) the whole data folder" in backend.processes.log_tail(name)
    backend.disks.wipe(name)
    backend.processes.start([name])
    check(backend, client, written)


def test_what_can_not_be_done_is_said(backend):
    for impossible in (backend.disks.fill, backend.disks.cut_power):
        with pytest.raises(Unsupported, match="can't be"):
            impossible("agentkeeper-1")
    assert backend.links is None
    assert backend.clocks is None


def test_a_project_that_runs_is_healed_and_left(backend, client):
    """Even after an error; restart policies are what they were."""
    written = []
    write(client, written)
    leader = leader_of(backend)
    other, third = [name for name in backend.replicas if name != leader]
    setup = Setup(3, backend._setup.folder)
    backend._containers[third].update(restart_policy={"Name": "unless-stopped"})
    attached = ComposeBackend(setup, project=backend._name)
    with contextlib.suppress(ZeroDivisionError), attached:
        assert attached.endpoints == backend.endpoints
        attached.network.isolate(leader)
        attached.processes.kill([other])
        attached.processes.pause([third])
        raise ZeroDivisionError
    check(backend, client, written)
    policies = {
        name: backend._containers[name].attrs["HostConfig"]["RestartPolicy"]["Name"]
        for name in backend.replicas
    }
    assert policies == {leader: "no", other: "no", third: "unless-stopped"}
    backend._containers.hold()


def test_a_project_that_is_not_there(engine, tmp_path):
    nobody = ComposeBackend(Setup(3, tmp_path), project="nobody", image=IMAGE)
    with pytest.raises(Unsupported, match="nobody has no replicas"), nobody:
        pass
