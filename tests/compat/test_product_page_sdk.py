"""What the product's page shows, said to the sync face of this SDK.

`test_product_page_async` says the same to the other one. Functions that the page leaves to the
reader are lists here that say what was done.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import grpc
import pytest

from agentkeeper import (
    AgentInfo,
    AgentKeeperClient,
    AgentStatus,
    ElectionState,
    Lease,
    PolicyEffect,
    WatchEvent,
)
from agentkeeper.client.embedded import EmbeddedDaemon

from .conftest import Deployment
from .helpers import Recorder, eventually, refused
from .legacy_embedded import free_port

Name = Callable[[str], str]


@pytest.fixture(scope="module", params=["embedded", "replicas"])
def endpoints(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """A daemon as the SDK embeds it, and three replicas."""
    if request.param == "embedded":
        daemon = EmbeddedDaemon()
        yield [f"127.0.0.1:{daemon.port}"]
        daemon.stop()
    else:
        replicas: dict[str, Deployment] = request.getfixturevalue("cluster")
        yield [f"{each.host}:{each.port}" for each in replicas.values()]


@pytest.fixture
def client(endpoints: list[str]) -> Iterator[AgentKeeperClient]:
    with AgentKeeperClient(endpoints=endpoints) as client:
        yield client


@pytest.fixture
def agent_id(client: AgentKeeperClient, name: Name) -> Iterator[str]:
    with client.register(name("worker"), "Does what is asked", "1.0.0") as agent:
        yield agent.agent_id


# ---- quick start and connecting


def test_quick_start(client: AgentKeeperClient, name: Name) -> None:
    browser, task = name("browser"), name("task")
    reassigned: list[str] = []

    def on_event(event: WatchEvent) -> None:
        if event.topic == "agent.died" and event.payload.card.name == name("scraper"):
            reassigned.append(event.payload.agent_id)

    subscription = client.watch(["agent."], on_event)
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
    eventually(lambda: reassigned, "the agent's death")
    assert reassigned == [scraper.agent_id]
    subscription.cancel()


def test_connecting(endpoints: list[str]) -> None:
    host, port = endpoints[0].split(":")
    client = AgentKeeperClient(host=host, port=int(port))
    assert client.find(tools=["nobody-has-this"]) == []
    client.close()
    with AgentKeeperClient(host=host, port=int(port)) as client:
        assert client.find(tools=["nobody-has-this"]) == []
    with pytest.raises(grpc.RpcError):
        client.find()


def test_embedded(binary: str, tmp_path: Path) -> None:
    port = free_port()
    with (
        AgentKeeperClient.embedded(binary=binary, port=port) as client,
        client.register("embedded", "Lives in the daemon of its client", "1.0.0") as agent,
        AgentKeeperClient(port=port) as other,
    ):
        assert other.get_agent(agent.agent_id).status is AgentStatus.ALIVE
    data_dir = str(tmp_path / "kept")
    client = AgentKeeperClient.embedded(data_dir=data_dir)
    client.set_policy("kept", "agent:a", "call", "tool:*", PolicyEffect.ALLOW)
    with client.register("past", "Is history", "1.0.0") as past:
        pass
    client.close()
    with AgentKeeperClient.embedded(data_dir=data_dir) as client:
        assert [policy.id for policy in client.list_policies()] == ["kept"]
        assert client.get_agent(past.agent_id).status is AgentStatus.DEAD


# ---- agents


def test_register_find_and_inspect(client: AgentKeeperClient, name: Name) -> None:
    browser, http = name("browser"), name("http_client")
    with (
        client.register(
            name=name("scraper"),
            description="Scrapes data out of HTML",
            version="2.1.0",
            tools=[browser, http],
            metadata={"team": "data", "region": "us-east"},
            ttl=30,
        ) as agent,
        client.register(name("clicker"), "Clicks buttons", "1.0.0", [browser]),
        client.register(name("poster"), "Sends requests", "1.0.0", [http]),
    ):
        info = client.get_agent(agent.agent_id)
        assert isinstance(info, AgentInfo)
        assert info.card.name == name("scraper")
        assert info.card.metadata == {"team": "data", "region": "us-east"}
        assert info.status is AgentStatus.ALIVE
        assert str(info.status) == "AgentStatus.ALIVE"
        assert isinstance(info.registered_at, datetime)
        assert isinstance(info.last_heartbeat_at, datetime)
        assert 3 <= len(client.find(query="fetch and parse web pages", limit=5)) <= 5
        both = client.find(tools=[browser, http])
        assert [found.card.name for found in both] == [name("scraper")]
        ranked = client.find(query="scrape structured data from HTML", tools=[browser], limit=3)
        assert [found.card.name for found in ranked] == [name("scraper"), name("clicker")]
    assert client.get_agent(agent.agent_id).status is AgentStatus.DEAD


# ---- leases


def test_acquire_a_lease(client: AgentKeeperClient, name: Name, agent_id: str) -> None:
    with client.register(name("rival"), "Wants the same", "1.0.0") as rival:
        lease = client.acquire_lease(task_id=name("job"), agent_id=agent_id, ttl=120)
        assert lease is not None
        assert isinstance(lease.lease, Lease)
        assert lease.lease.token > 0
        assert client.acquire_lease(name("job"), rival.agent_id) is None
        lease.release()
        lease = client.acquire_lease(name("job"), rival.agent_id)
        done = []
        if lease:
            with lease:
                done.append("work")
        assert done == ["work"]
        with pytest.raises(ZeroDivisionError), client.acquire_lease(name("job"), agent_id):
            raise ZeroDivisionError
        assert client.acquire_lease(name("job"), rival.agent_id) is not None


def test_renew_as_the_work_goes_on(client: AgentKeeperClient, name: Name, agent_id: str) -> None:
    with client.acquire_lease(name("long"), agent_id, ttl=60) as lease:
        token, ends = lease.lease.token, [lease.lease.expires_at]
        ends += [lease.renew(ttl=60).expires_at for _chunk in range(3)]
        assert ends == sorted(ends)
        assert lease.lease.token == token


def test_of_many_orchestrators_one_assigns_the_task(client: AgentKeeperClient, name: Name) -> None:
    tool = name("pdf_reader")
    agents = [client.register(name(f"clerk{i}"), "Files", "1.0.0", [tool]) for i in range(5)]

    def orchestrate() -> str | None:
        for agent in client.find(query="process invoices", tools=[tool]):
            lease = client.acquire_lease(name("invoice"), agent.agent_id)
            if lease:
                return agent.agent_id
        return None

    with ThreadPoolExecutor(8) as pool:
        winners = set(pool.map(lambda _: orchestrate(), range(8)))
    assert len(winners) == 1
    assert winners <= {agent.agent_id for agent in agents}
    for agent in agents:
        agent.deregister()


def test_errors(client: AgentKeeperClient, name: Name, agent_id: str) -> None:
    def outcome() -> str:
        try:
            lease.renew()
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.PERMISSION_DENIED:
                return "taken by another"
            if error.code() == grpc.StatusCode.NOT_FOUND:
                return "gone"
            raise
        return "renewed"

    with client.register(name("other"), "Takes over", "1.0.0") as other:
        lease = client.acquire_lease(name("job"), agent_id)
        assert lease is not None
        assert outcome() == "renewed"
        lease.release()
        assert outcome() == "gone"
        client.acquire_lease(name("job"), other.agent_id)
        assert outcome() == "taken by another"


# ---- elections


def test_elections(client: AgentKeeperClient, name: Name) -> None:
    group = name("orchestrator:pipeline")
    became: list[tuple[str, int]] = []
    with (
        client.register("orchestrator", "Runs the pipeline", "1.0.0") as active,
        client.register("orchestrator", "Runs the pipeline", "1.0.0") as standby,
    ):
        mine = standby.agent_id

        def on_leader_change(state: ElectionState) -> None:
            role = "active" if state.leader_agent_id == mine else "standby"
            became.append((role, state.term))

        state = client.campaign(group=group, agent_id=active.agent_id)
        assert state.leader_agent_id == active.agent_id
        assert isinstance(state.elected_at, datetime)
        joined = client.campaign(group, standby.agent_id)
        assert joined.leader_agent_id == active.agent_id
        with client.watch_election(group, on_leader_change):
            client.resign(group=group, agent_id=active.agent_id)
            eventually(lambda: ("active", state.term + 1) in became, "becoming active")
        assert became == [("standby", state.term), ("active", state.term + 1)]
        client.campaign(group, active.agent_id)
        standby.deregister()
        last = client.campaign(group, active.agent_id)
        assert (last.leader_agent_id, last.term) == (active.agent_id, state.term + 2)


# ---- entitlements


def test_entitlements(client: AgentKeeperClient, name: Name) -> None:
    orchestrator, scraper = name("agent:orchestrator"), name("agent:scraper")
    client.set_policy(
        id=name("allow"),
        subject=orchestrator,
        action="call",
        resource="tool:*",
        effect=PolicyEffect.ALLOW,
    )
    client.set_policy(
        id=name("deny"),
        subject=scraper,
        action="call",
        resource="tool:write_file",
        effect=PolicyEffect.DENY,
    )
    ran: list[str] = []

    def call_tool(subject: str, tool: str) -> None:
        result = client.check_policy(subject=subject, action="call", resource=f"tool:{tool}")
        if not result.allowed:
            raise PermissionError(result.reason)
        ran.append(tool)

    call_tool(orchestrator, "write_file")
    with pytest.raises(PermissionError, match=f'denied by policy "{name("deny")}"'):
        call_tool(scraper, "write_file")
    assert ran == ["write_file"]
    ids = {policy.id for policy in client.list_policies()}
    assert {name("allow"), name("deny")} <= ids
    scrapers = client.list_policies(subject_prefix=scraper)
    assert [policy.effect for policy in scrapers] == [PolicyEffect.DENY]
    client.delete_policy(name("deny"))
    assert client.list_policies(subject_prefix=scraper) == []
    client.delete_policy(name("allow"))


# ---- events


def test_watch(client: AgentKeeperClient, name: Name) -> None:
    agents, both, everything = Recorder(), Recorder(), Recorder()
    subscriptions = [
        client.watch(["agent."], agents),
        client.watch(["agent.", "lease."], both),
        client.watch([], everything),
    ]
    with client.register(name("a"), "Is watched", "1.0.0") as agent:
        with client.acquire_lease(name("work"), agent.agent_id):
            pass
        client.campaign(name("group"), agent.agent_id)
        client.resign(name("group"), agent.agent_id)
    mine = (agent.agent_id, name("work"), name("group"))
    for recorder in (agents, both, everything):

        def died(recorder: Recorder = recorder) -> bool:
            return any(event.topic == "agent.died" for event in recorder.about(*mine))

        eventually(died, "the agent's death")
    for subscription in subscriptions:
        subscription.cancel()
    assert [e.topic for e in agents.about(*mine)] == ["agent.registered", "agent.died"]
    assert [e.topic for e in both.about(*mine)] == [
        "agent.registered",
        "lease.acquired",
        "lease.released",
        "agent.died",
    ]
    assert [type(e.payload) for e in everything.about(*mine)] == [
        *(AgentInfo, Lease, Lease),
        *(ElectionState, ElectionState, AgentInfo),
    ]
    numbers = [event.sequence for event in everything.kept]
    assert numbers == sorted(set(numbers))


def test_an_orchestrator_that_reacts(client: AgentKeeperClient, name: Name, agent_id: str) -> None:
    active: dict[str, str] = {}
    reassigned: list[str] = []
    requeued: list[str] = []

    def on_event(event: WatchEvent) -> None:
        if event.topic == "agent.died":
            for task_id, holder in list(active.items()):
                if holder == event.payload.agent_id:
                    reassigned.append(task_id)
        elif event.topic == "lease.expired" and event.payload.task_id in active:
            requeued.append(event.payload.task_id)

    with (
        client.register(name("doomed"), "Dies at work", "1.0.0") as doomed,
        client.watch(["agent.died", "lease.expired"], on_event),
    ):
        active[name("lost")] = doomed.agent_id
        active[name("slow")] = agent_id
        client.acquire_lease(name("slow"), agent_id, ttl=1)
        client.acquire_lease(name("lost"), doomed.agent_id, ttl=60)
        doomed.deregister()
        eventually(lambda: reassigned and requeued, "a death and an expiry")
    assert (reassigned, requeued) == ([name("lost")], [name("slow")])
