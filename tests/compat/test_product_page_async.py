"""What the product's page shows, said to the asyncio face of this SDK.

`test_product_page_sdk` says the same to the sync face. Functions that the page leaves to the reader
are lists here that say what was done.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime
from pathlib import Path

import grpc
import pytest
import pytest_asyncio

from agentkeeper import (
    AgentInfo,
    AgentStatus,
    AsyncAgentKeeperClient,
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


@pytest_asyncio.fixture
async def client(endpoints: list[str]) -> AsyncIterator[AsyncAgentKeeperClient]:
    async with AsyncAgentKeeperClient(endpoints=endpoints) as client:
        yield client


@pytest_asyncio.fixture
async def agent_id(client: AsyncAgentKeeperClient, name: Name) -> AsyncIterator[str]:
    async with client.register(name("worker"), "Does what is asked", "1.0.0") as agent:
        yield agent.agent_id


async def seen(look: Callable[[], object], what: str) -> None:
    """Wait until something is there."""
    await asyncio.to_thread(eventually, look, what)


# ---- quick start and connecting


async def test_quick_start(client: AsyncAgentKeeperClient, name: Name) -> None:
    browser, task = name("browser"), name("task")
    reassigned: list[str] = []

    def on_event(event: WatchEvent) -> None:
        if event.topic == "agent.died" and event.payload.card.name == name("scraper"):
            reassigned.append(event.payload.agent_id)

    subscription = await client.watch(["agent."], on_event)
    async with client.register(
        name=name("scraper"),
        description="Loads pages and takes them apart",
        version="1.0.0",
        tools=[browser, "http_client"],
    ) as scraper:
        assigned = []
        for candidate in await client.find(query="load web pages", tools=[browser]):
            lease = await client.acquire_lease(task, candidate.agent_id, ttl=120)
            if lease:
                assigned.append((candidate.agent_id, candidate.card.name))
                break
        assert assigned == [(scraper.agent_id, name("scraper"))]
        async with client.acquire_lease(task, scraper.agent_id, ttl=120) as lease:
            assert lease.lease.task_id == task
        with refused(grpc.StatusCode.NOT_FOUND):
            await lease.renew()
    await seen(lambda: reassigned, "the agent's death")
    assert reassigned == [scraper.agent_id]
    subscription.cancel()


async def test_connecting(endpoints: list[str]) -> None:
    host, port = endpoints[0].split(":")
    client = AsyncAgentKeeperClient(host=host, port=int(port))
    assert await client.find(tools=["nobody-has-this"]) == []
    await client.close()
    async with AsyncAgentKeeperClient(host=host, port=int(port)) as client:
        assert await client.find(tools=["nobody-has-this"]) == []
    with pytest.raises(grpc.RpcError):
        await client.find()


async def test_embedded(binary: str, tmp_path: Path) -> None:
    port = free_port()
    async with (
        AsyncAgentKeeperClient.embedded(binary=binary, port=port) as client,
        client.register("embedded", "Lives in the daemon of its client", "1.0.0") as agent,
        AsyncAgentKeeperClient(port=port) as other,
    ):
        assert (await other.get_agent(agent.agent_id)).status is AgentStatus.ALIVE
    data_dir = str(tmp_path / "kept")
    client = await AsyncAgentKeeperClient.embedded(data_dir=data_dir)
    await client.set_policy("kept", "agent:a", "call", "tool:*", PolicyEffect.ALLOW)
    async with client.register("past", "Is history", "1.0.0") as past:
        pass
    await client.close()
    async with AsyncAgentKeeperClient.embedded(data_dir=data_dir) as client:
        assert [policy.id for policy in await client.list_policies()] == ["kept"]
        assert (await client.get_agent(past.agent_id)).status is AgentStatus.DEAD


# ---- agents


async def test_register_find_and_inspect(client: AsyncAgentKeeperClient, name: Name) -> None:
    browser, http = name("browser"), name("http_client")
    async with (
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
        info = await client.get_agent(agent.agent_id)
        assert isinstance(info, AgentInfo)
        assert info.card.name == name("scraper")
        assert info.card.metadata == {"team": "data", "region": "us-east"}
        assert info.status is AgentStatus.ALIVE
        assert str(info.status) == "AgentStatus.ALIVE"
        assert isinstance(info.registered_at, datetime)
        assert isinstance(info.last_heartbeat_at, datetime)
        assert 3 <= len(await client.find(query="fetch and parse web pages", limit=5)) <= 5
        both = await client.find(tools=[browser, http])
        assert [found.card.name for found in both] == [name("scraper")]
        ranked = await client.find(
            query="scrape structured data from HTML", tools=[browser], limit=3
        )
        assert [found.card.name for found in ranked] == [name("scraper"), name("clicker")]
    assert (await client.get_agent(agent.agent_id)).status is AgentStatus.DEAD


# ---- leases


async def test_acquire_a_lease(client: AsyncAgentKeeperClient, name: Name, agent_id: str) -> None:
    async with client.register(name("rival"), "Wants the same", "1.0.0") as rival:
        lease = await client.acquire_lease(task_id=name("job"), agent_id=agent_id, ttl=120)
        assert lease is not None
        assert isinstance(lease.lease, Lease)
        assert lease.lease.token > 0
        assert await client.acquire_lease(name("job"), rival.agent_id) is None
        await lease.release()
        lease = await client.acquire_lease(name("job"), rival.agent_id)
        done = []
        if lease:
            async with lease:
                done.append("work")
        assert done == ["work"]
        with pytest.raises(ZeroDivisionError):
            async with client.acquire_lease(name("job"), agent_id):
                raise ZeroDivisionError
        assert await client.acquire_lease(name("job"), rival.agent_id) is not None


async def test_renew_as_the_work_goes_on(
    client: AsyncAgentKeeperClient, name: Name, agent_id: str
) -> None:
    async with client.acquire_lease(name("long"), agent_id, ttl=60) as lease:
        token, ends = lease.lease.token, [lease.lease.expires_at]
        ends += [(await lease.renew(ttl=60)).expires_at for _chunk in range(3)]
        assert ends == sorted(ends)
        assert lease.lease.token == token


async def test_of_many_orchestrators_one_assigns_the_task(
    client: AsyncAgentKeeperClient, name: Name
) -> None:
    tool = name("pdf_reader")
    agents = [await client.register(name(f"clerk{i}"), "Files", "1.0.0", [tool]) for i in range(5)]

    async def orchestrate() -> str | None:
        for agent in await client.find(query="process invoices", tools=[tool]):
            lease = await client.acquire_lease(name("invoice"), agent.agent_id)
            if lease:
                return agent.agent_id
        return None

    winners = set(await asyncio.gather(*(orchestrate() for _ in range(8))))
    assert len(winners) == 1
    assert winners <= {agent.agent_id for agent in agents}
    for agent in agents:
        await agent.deregister()


async def test_errors(client: AsyncAgentKeeperClient, name: Name, agent_id: str) -> None:
    async def outcome() -> str:
        try:
            await lease.renew()
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.PERMISSION_DENIED:
                return "taken by another"
            if error.code() == grpc.StatusCode.NOT_FOUND:
                return "gone"
            raise
        return "renewed"

    async with client.register(name("other"), "Takes over", "1.0.0") as other:
        lease = await client.acquire_lease(name("job"), agent_id)
        assert lease is not None
        assert await outcome() == "renewed"
        await lease.release()
        assert await outcome() == "gone"
        await client.acquire_lease(name("job"), other.agent_id)
        assert await outcome() == "taken by another"


# ---- elections


async def test_elections(client: AsyncAgentKeeperClient, name: Name) -> None:
    group = name("orchestrator:pipeline")
    became: list[tuple[str, int]] = []
    async with (
        client.register("orchestrator", "Runs the pipeline", "1.0.0") as active,
        client.register("orchestrator", "Runs the pipeline", "1.0.0") as standby,
    ):
        mine = standby.agent_id

        def on_leader_change(state: ElectionState) -> None:
            role = "active" if state.leader_agent_id == mine else "standby"
            became.append((role, state.term))

        state = await client.campaign(group=group, agent_id=active.agent_id)
        assert state.leader_agent_id == active.agent_id
        assert isinstance(state.elected_at, datetime)
        joined = await client.campaign(group, standby.agent_id)
        assert joined.leader_agent_id == active.agent_id
        async with client.watch_election(group, on_leader_change):
            await client.resign(group=group, agent_id=active.agent_id)
            await seen(lambda: ("active", state.term + 1) in became, "becoming active")
        assert became == [("standby", state.term), ("active", state.term + 1)]
        await client.campaign(group, active.agent_id)
        await standby.deregister()
        last = await client.campaign(group, active.agent_id)
        assert (last.leader_agent_id, last.term) == (active.agent_id, state.term + 2)


# ---- entitlements


async def test_entitlements(client: AsyncAgentKeeperClient, name: Name) -> None:
    orchestrator, scraper = name("agent:orchestrator"), name("agent:scraper")
    await client.set_policy(
        id=name("allow"),
        subject=orchestrator,
        action="call",
        resource="tool:*",
        effect=PolicyEffect.ALLOW,
    )
    await client.set_policy(
        id=name("deny"),
        subject=scraper,
        action="call",
        resource="tool:write_file",
        effect=PolicyEffect.DENY,
    )
    ran: list[str] = []

    async def call_tool(subject: str, tool: str) -> None:
        result = await client.check_policy(subject=subject, action="call", resource=f"tool:{tool}")
        if not result.allowed:
            raise PermissionError(result.reason)
        ran.append(tool)

    await call_tool(orchestrator, "write_file")
    with pytest.raises(PermissionError, match=f'denied by policy "{name("deny")}"'):
        await call_tool(scraper, "write_file")
    assert ran == ["write_file"]
    ids = {policy.id for policy in await client.list_policies()}
    assert {name("allow"), name("deny")} <= ids
    scrapers = await client.list_policies(subject_prefix=scraper)
    assert [policy.effect for policy in scrapers] == [PolicyEffect.DENY]
    await client.delete_policy(name("deny"))
    assert await client.list_policies(subject_prefix=scraper) == []
    await client.delete_policy(name("allow"))


# ---- events


async def test_watch(client: AsyncAgentKeeperClient, name: Name) -> None:
    agents, both, everything = Recorder(), Recorder(), Recorder()
    subscriptions = [
        await client.watch(["agent."], agents),
        await client.watch(["agent.", "lease."], both),
        await client.watch([], everything),
    ]
    async with client.register(name("a"), "Is watched", "1.0.0") as agent:
        async with client.acquire_lease(name("work"), agent.agent_id):
            pass
        await client.campaign(name("group"), agent.agent_id)
        await client.resign(name("group"), agent.agent_id)
    mine = (agent.agent_id, name("work"), name("group"))
    for recorder in (agents, both, everything):

        def died(recorder: Recorder = recorder) -> bool:
            return any(event.topic == "agent.died" for event in recorder.about(*mine))

        await seen(died, "the agent's death")
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


async def test_an_orchestrator_that_reacts(
    client: AsyncAgentKeeperClient, name: Name, agent_id: str
) -> None:
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

    async with (
        client.register(name("doomed"), "Dies at work", "1.0.0") as doomed,
        client.watch(["agent.died", "lease.expired"], on_event),
    ):
        active[name("lost")] = doomed.agent_id
        active[name("slow")] = agent_id
        await client.acquire_lease(name("slow"), agent_id, ttl=1)
        await client.acquire_lease(name("lost"), doomed.agent_id, ttl=60)
        await doomed.deregister()
        await seen(lambda: reassigned and requeued, "a death and an expiry")
    assert (reassigned, requeued) == ([name("lost")], [name("slow")])
