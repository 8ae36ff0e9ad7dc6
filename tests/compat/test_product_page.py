"""What the product's page of 0.1.0 shows, each piece as somebody would use it.

Functions that the page leaves to the reader are lists here that say what was done.
"""

import inspect
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import grpc
import pytest

from .conftest import Deployment
from .helpers import PATIENCE_S, refused
from .legacy_client import AgentHandle, AgentKeeperClient
from .legacy_embedded import free_port
from .legacy_types import (
    AgentInfo,
    AgentStatus,
    Lease,
    PolicyEffect,
    WatchEvent,
)

Name = Callable[[str], str]


# ---- quick start


def test_quick_start(client: AgentKeeperClient, name: Name) -> None:
    """An orchestrator assigns a task, its agent works on it and goes; the orchestrator hears."""
    browser, task = name("browser"), name("task")
    reassigned: list[str] = []
    heard = threading.Event()

    def on_event(event: WatchEvent) -> None:
        if event.topic == "agent.died" and event.payload.card.name == name("scraper"):
            reassigned.append(event.payload.agent_id)
            heard.set()

    subscription = client.watch(["agent."], on_event).ready()
    with client.register(
        name=name("scraper"),
        description="Loads pages and takes them apart",
        version="1.0.0",
        tools=[browser, "http_client"],
    ) as scraper:
        assigned = []
        for candidate in client.find(query="load web pages", tools=[browser]):
            lease = client.acquire_lease(task, candidate.agent_id, ttl=120)
            if lease:
                assigned.append((candidate.agent_id, candidate.card.name))
                break
        assert assigned == [(scraper.agent_id, name("scraper"))]
        with client.acquire_lease(task, scraper.agent_id, ttl=120) as lease:
            assert lease.lease.task_id == task
        with refused(grpc.StatusCode.NOT_FOUND):
            lease.renew()
    assert heard.wait(PATIENCE_S)
    assert reassigned == [scraper.agent_id]
    subscription.cancel()


# ---- connecting


def test_connecting(deployment: Deployment) -> None:
    defaults = inspect.signature(AgentKeeperClient).parameters
    assert (defaults["host"].default, defaults["port"].default) == ("localhost", 7070)
    with AgentKeeperClient(host=deployment.host, port=deployment.port) as client:
        assert client.find(tools=["nobody-has-this"]) == []
    with pytest.raises(ValueError, match="closed"):
        client.find()


def test_embedded(binary: str, tmp_path: Path) -> None:
    port = free_port()
    with (
        AgentKeeperClient.embedded(binary=binary, port=port) as client,
        client.register("embedded", "Lives in the daemon of its client", "1.0.0") as agent,
    ):
        assert client.port == port
        assert client.get_agent(agent.agent_id).status is AgentStatus.ALIVE
    data_dir = str(tmp_path / "kept")
    with AgentKeeperClient.embedded(binary=binary, data_dir=data_dir) as client:
        client.set_policy("kept", "agent:a", "call", "tool:*", PolicyEffect.ALLOW)
        with client.register("past", "Is history", "1.0.0") as past:
            pass
    with AgentKeeperClient.embedded(binary=binary, data_dir=data_dir) as client:
        assert [policy.id for policy in client.list_policies()] == ["kept"]
        assert client.get_agent(past.agent_id).status is AgentStatus.DEAD


# ---- agents


def test_register_and_inspect(client: AgentKeeperClient, name: Name) -> None:
    with client.register(
        name=name("analyst"),
        description="Turns tables into prose",
        version="2.1.0",
        tools=["sql_runner", "pdf_reader"],
        metadata={"team": "data", "region": "us-east"},
        ttl=30,
    ) as agent:
        info = client.get_agent(agent.agent_id)
        assert isinstance(info, AgentInfo)
        assert info.card.name == name("analyst")
        assert info.card.metadata == {"team": "data", "region": "us-east"}
        assert info.status is AgentStatus.ALIVE
        assert isinstance(info.registered_at, datetime)
        assert isinstance(info.last_heartbeat_at, datetime)
    assert client.get_agent(agent.agent_id).status is AgentStatus.DEAD


def test_find(client: AgentKeeperClient, name: Name) -> None:
    browser, http = name("browser"), name("http_client")
    with (
        client.register(name("clicker"), "Clicks buttons", "1.0.0", [browser]),
        client.register(name("scraper"), "Scrapes data out of HTML", "1.0.0", [browser, http]),
        client.register(name("poster"), "Sends requests", "1.0.0", [http]),
    ):
        everyone = client.find(query="fetch and parse web pages", limit=5)
        assert 3 <= len(everyone) <= 5
        both = client.find(tools=[browser, http])
        assert [agent.card.name for agent in both] == [name("scraper")]
        ranked = client.find(query="scrape structured data from HTML", tools=[browser], limit=3)
        assert [agent.card.name for agent in ranked] == [name("scraper"), name("clicker")]
        assert {agent.status for agent in ranked} == {AgentStatus.ALIVE}


# ---- leases


def test_acquire_a_lease(client: AgentKeeperClient, name: Name, agent: AgentHandle) -> None:
    with client.register(name("rival"), "Wants the same", "1.0.0") as rival:
        lease = client.acquire_lease(task_id=name("invoice"), agent_id=agent.agent_id, ttl=120)
        assert isinstance(lease.lease, Lease)
        assert lease.lease.token > 0
        assert client.acquire_lease(name("invoice"), rival.agent_id) is None
        lease.release()
        assert client.acquire_lease(name("invoice"), rival.agent_id) is not None


def test_a_lease_is_released_on_exit_whatever_happens(
    client: AgentKeeperClient, name: Name, agent: AgentHandle
) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        client.acquire_lease(name("invoice"), agent.agent_id) as lease,
    ):
        raise ZeroDivisionError
    with refused(grpc.StatusCode.NOT_FOUND):
        lease.renew()


def test_renew_for_as_long_as_the_work_takes(
    client: AgentKeeperClient, name: Name, agent: AgentHandle
) -> None:
    with client.acquire_lease(name("long"), agent.agent_id, ttl=60) as lease:
        token, ends = lease.lease.token, [lease.lease.expires_at]
        ends += [lease.renew(ttl=60).expires_at for _chunk in range(3)]
        assert ends == sorted(ends)
        assert lease.lease.token == token


def test_of_many_orchestrators_one_assigns_the_task(client: AgentKeeperClient, name: Name) -> None:
    tool = name("pdf_reader")
    agents = [client.register(name(f"clerk{i}"), "Files", "1.0.0", [tool]) for i in range(5)]

    def orchestrate(_: int) -> str | None:
        for agent in client.find(query="process invoices", tools=[tool]):
            if client.acquire_lease(name("invoice"), agent.agent_id):
                return agent.agent_id
        return None

    # Every agent is asked for once per orchestrator. A holder that is asked again gets the lease
    # anew, so the orchestrators may agree on the agent but never disagree.
    with ThreadPoolExecutor(8) as pool:
        winners = set(pool.map(orchestrate, range(8)))
    assert len(winners) == 1
    assert winners <= {agent.agent_id for agent in agents}
    for agent in agents:
        agent.deregister()


# ---- errors


def test_errors_tell_a_lost_lease_from_a_gone_one(
    client: AgentKeeperClient, name: Name, agent: AgentHandle
) -> None:
    def outcome(renew: Callable[[], object]) -> str:
        try:
            renew()
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.PERMISSION_DENIED:
                return "taken by another"
            if error.code() == grpc.StatusCode.NOT_FOUND:
                return "gone"
            raise
        return "renewed"

    with client.register(name("other"), "Takes over", "1.0.0") as other:
        lease = client.acquire_lease(name("work"), agent.agent_id)
        assert outcome(lease.renew) == "renewed"
        lease.release()
        assert outcome(lease.renew) == "gone"
        client.acquire_lease(name("work"), other.agent_id)
        assert outcome(lease.renew) == "taken by another"


# ---- dashboard and metrics


def test_http_endpoints(deployment: Deployment) -> None:
    status, body = deployment.get("/healthz")
    assert (status, body.strip()) == (200, "ok")
    _, metrics = deployment.get("/metrics")
    for name, kind in (
        ("agentkeeper_agents_alive", "gauge"),
        ("agentkeeper_leases_active", "gauge"),
        ("agentkeeper_rpc_total", "counter"),
    ):
        assert f"# TYPE {name} {kind}" in metrics
