"""The daemon from outside: its command line, HTTP endpoints, disk, and how clients start it."""

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from agentkeeper.launcher import LocalCluster

from .conftest import Deployment, at
from .helpers import PATIENCE_S, Recorder, background, crashing, eventually, refused
from .legacy_client import AgentKeeperClient
from .legacy_embedded import START_TIMEOUT_S, find_binary, free_port, stop, wait_for_listener
from .legacy_types import AgentStatus, PolicyEffect

Name = Callable[[str], str]
DEFAULT_GRPC, DEFAULT_HTTP = 7070, 9090


@dataclass
class Started:
    process: subprocess.Popen[bytes]
    log: Path


@contextmanager
def started(binary: str, tmp_path: Path, *arguments: str) -> Iterator[Started]:
    log = tmp_path / f"log-{len(os.listdir(tmp_path))}"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [binary, *arguments],
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield Started(process, log)
    finally:
        if process.poll() is None:
            stop(process)


@contextmanager
def taken(address: str, port: int) -> Iterator[None]:
    """Somebody listens on the port: this test, or whoever was first."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):
            listener.bind((address, port))
            listener.listen()
        yield


# ---- command line


def test_bare_it_serves_on_the_default_ports(binary: str, tmp_path: Path) -> None:
    for port in (DEFAULT_GRPC, DEFAULT_HTTP):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("0.0.0.0", port))
            except OSError:
                pytest.skip(f"port {port} is in use on this machine")
    with started(binary, tmp_path) as daemon:
        wait_for_listener(DEFAULT_GRPC, daemon.process)
        with AgentKeeperClient() as client:
            assert client.find() == []
        assert Deployment("", 0, f"127.0.0.1:{DEFAULT_HTTP}").get("/healthz")[0] == 200
        stop(daemon.process)
        assert daemon.process.returncode == 0
        assert os.listdir(tmp_path) == [daemon.log.name]  # nothing is kept


def test_a_default_http_port_already_taken_is_a_warning(binary: str, tmp_path: Path) -> None:
    port = free_port()
    with (
        taken("0.0.0.0", DEFAULT_HTTP),
        started(binary, tmp_path, f"--addr=127.0.0.1:{port}") as daemon,
    ):
        wait_for_listener(port, daemon.process)
        with AgentKeeperClient("127.0.0.1", port) as client:
            assert client.find() == []
        lines = daemon.log.read_text().lower().splitlines()
        assert any("warn" in line and str(DEFAULT_HTTP) in line for line in lines), lines


@pytest.mark.parametrize("default", [True, False])
def test_an_explicit_http_port_already_taken_is_fatal(
    binary: str, tmp_path: Path, default: bool
) -> None:
    port = free_port()
    host, http = ("0.0.0.0", DEFAULT_HTTP) if default else ("127.0.0.1", free_port())
    arguments = (f"--addr=127.0.0.1:{port}", f"--metrics-addr={host}:{http}")
    with taken(host, http), started(binary, tmp_path, *arguments) as daemon:
        assert daemon.process.wait(START_TIMEOUT_S) != 0
        assert str(http) in daemon.log.read_text()


def test_it_can_serve_as_soon_as_it_accepts_connections(binary: str) -> None:
    for _ in range(3):
        with AgentKeeperClient.embedded(binary) as client:
            with client.register("first", "Comes at once", "1.0.0") as agent:
                assert client.get_agent(agent.agent_id).status is AgentStatus.ALIVE
            with refused(grpc.StatusCode.NOT_FOUND):
                client.get_task("0" * 32)


def test_a_data_directory_keeps_everything(binary: str, tmp_path: Path) -> None:
    arguments = (f"--data-dir={tmp_path / 'data'}", f"--metrics-addr=127.0.0.1:{free_port()}")
    port = free_port()
    with started(binary, tmp_path, f"--addr=127.0.0.1:{port}", *arguments) as daemon:
        wait_for_listener(port, daemon.process)
        with AgentKeeperClient("127.0.0.1", port) as client:
            former = client.register("former", "Ended before", "1.0.0")
            former.deregister()
            holder = client.register("holder", "Goes on", "1.0.0", ttl=60)
            holder.crash()
            lease = client.acquire_lease("work", holder.agent_id)
            state = client.campaign("group", holder.agent_id)
            policy = client.set_policy("p", "a", "b", "c", PolicyEffect.ALLOW)
            task = client.create_task("job", b"input", ["tool"])
        stop(daemon.process)
        assert daemon.process.returncode == 0
    with started(binary, tmp_path, f"--addr=127.0.0.1:{port}", *arguments) as daemon:
        wait_for_listener(port, daemon.process)
        with AgentKeeperClient("127.0.0.1", port) as client:
            assert client.get_agent(former.agent_id).status is AgentStatus.DEAD
            assert client.get_agent(holder.agent_id).status is AgentStatus.ALIVE
            client.call("Heartbeat", agent_id=holder.agent_id)
            assert client.campaign("group", holder.agent_id) == state
            assert client.list_policies() == [policy]
            assert client.list_tasks() == [task]
            again = client.acquire_lease("work", holder.agent_id)
            assert again.lease.token > lease.lease.token


def test_without_a_data_directory_nothing_is_kept(binary: str) -> None:
    port = free_port()
    with AgentKeeperClient.embedded(binary, port=port) as client:
        client.set_policy("p", "a", "b", "c", PolicyEffect.ALLOW)
    with AgentKeeperClient.embedded(binary, port=port) as client:
        assert client.list_policies() == []


def test_without_a_majority_calls_are_unavailable(name: Name) -> None:
    with LocalCluster(replicas=3) as cluster:
        leader = cluster.leader()
        survivor, other = cluster.followers()
        with AgentKeeperClient("127.0.0.1", at(survivor).port) as client:
            agent = client.register(name("a"), "Outlives the majority", "1.0.0")
            leader.kill()
            other.kill()
            calls = [
                background(client.acquire_lease, name("work"), agent.agent_id),
                background(client.get_agent, agent.agent_id),
                background(client.find),
                background(client.check_policy, "a", "b", "c"),
            ]
            for call in calls:
                error = call.exception(PATIENCE_S)
                assert isinstance(error, grpc.RpcError)
                assert error.code() == grpc.StatusCode.UNAVAILABLE
            leader.start()
            other.start()
            cluster.wait_ready()
            assert client.get_agent(agent.agent_id).card.name == name("a")
            agent.deregister()


# ---- embedded


def test_embedded_daemons_live_side_by_side_and_stop_with_their_clients(binary: str) -> None:
    with AgentKeeperClient.embedded(binary) as one, AgentKeeperClient.embedded(binary) as other:
        one.set_policy("p", "a", "b", "c", PolicyEffect.ALLOW)
        assert other.list_policies() == []
        process, port = one._process, one.port
        one.close()
        assert process.returncode == 0
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=5)
        assert other.list_policies() == []


def test_where_the_daemon_is_looked_for(
    binary: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def place(where: str) -> str:
        path = tmp_path / where / "agentkeeper"
        path.parent.mkdir(parents=True)
        path.write_text(f'#!/bin/sh\necho {where} > "{tmp_path}/used"\nexec {binary} "$@"\n')
        path.chmod(0o755)
        return str(path)

    def used(argument: str | None = None) -> str:
        with AgentKeeperClient.embedded(argument) as client:
            assert client.find() == []
        return (tmp_path / "used").read_text().strip()

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AGENTKEEPER_BIN", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    with pytest.raises(FileNotFoundError):
        find_binary()
    place("daemon")
    assert used() == "daemon"
    place("path")
    assert used() == "path"
    monkeypatch.setenv("AGENTKEEPER_BIN", place("variable"))
    assert used() == "variable"
    assert used(place("argument")) == "argument"


# ---- HTTP


def test_gauges_count_agents_and_leases(
    deployment: Deployment, client: AgentKeeperClient, name: Name
) -> None:
    def gauges() -> tuple[float, float]:
        return (
            deployment.metric("agentkeeper_agents_alive"),
            deployment.metric("agentkeeper_leases_active"),
        )

    events = Recorder()
    agents, leases = gauges()
    with (
        client.watch(["agent."], events) as watch,
        client.register(name("alive"), "Is counted", "1.0.0") as alive,
        crashing(client, name("late")) as late,
    ):
        watch.ready()
        handle = client.acquire_lease(name("work"), alive.agent_id)
        assert eventually(lambda: gauges() == (agents + 2, leases + 1), "both counted")
        handle.release()
        events.topic("agent.unreachable", late.agent_id)
        assert eventually(lambda: gauges() == (agents + 2, leases), "UNREACHABLE counted")
        late.deregister()
        assert eventually(lambda: gauges() == (agents + 1, leases), "DEAD not counted")


def test_calls_are_counted_by_method(
    deployment: Deployment, client: AgentKeeperClient, name: Name
) -> None:
    def calls(method: str) -> float:
        return deployment.metric(f'agentkeeper_rpc_total{{method="{method}"}}')

    methods = ("Register", "GetAgent", "Deregister", "AcquireLease")
    before = {method: calls(method) for method in methods}
    with client.register(name("a"), "Is counted", "1.0.0") as agent:
        client.get_agent(agent.agent_id)
        client.get_agent(agent.agent_id)
    after = {method: calls(method) - before[method] for method in methods}
    assert after == {"Register": 1, "GetAgent": 2, "Deregister": 1, "AcquireLease": 0}


def test_healthz_says_ok(deployment: Deployment) -> None:
    status, body = deployment.get("/healthz")
    assert status == 200
    assert body.strip() == "ok"


def test_the_front_page_shows_agents_and_leases(deployment: Deployment) -> None:
    status, body = deployment.get("/")
    assert status == 200
    assert "agents" in body.lower()
    assert "leases" in body.lower()
