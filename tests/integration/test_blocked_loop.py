"""What the SDK does by itself goes on whatever the user's own code does, and disturbs nothing."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import grpc.aio
import pytest

from agentkeeper.client import AgentKeeperClient, AsyncAgentKeeperClient
from agentkeeper.launcher import LocalCluster
from agentkeeper.types import AgentStatus

from .waiting import PATIENCE_S, Recorder

TTL_S = 2
BLOCKED_S = 3 * TTL_S
LOOPS = 4
CYCLES = 20


def wait_on_the_thread() -> None:
    threading.Event().wait(BLOCKED_S)


def compute() -> None:
    """Keep the interpreter busy with Python code."""
    end_s = time.monotonic() + BLOCKED_S
    total = 0
    while time.monotonic() < end_s:
        total += sum(number * number for number in range(1_000))


@pytest.fixture
def unhappy(cluster: LocalCluster):
    """Topics of the events that tell of an agent or lease not kept up; needs no event loop."""
    seen = Recorder()
    with cluster.client() as client, client.watch(["agent.", "lease."], seen):

        def topics(*subjects: str) -> list[str]:
            marker = client.register("marker", "Comes last", "1", ttl=60)
            seen.first(lambda e: subject(e) == marker.agent_id, "the marker")
            mine = [event.topic for event in seen.kept if subject(event) in subjects]
            kept_up = {"agent.registered", "lease.acquired", "lease.renewed"}
            assert kept_up <= set(mine)
            return [topic for topic in mine if topic not in kept_up]

        yield topics


def subject(event: Any) -> str:
    return getattr(event.payload, "task_id", "") or getattr(event.payload, "agent_id", "")


@pytest.fixture
async def errors_of_loop(caplog: pytest.LogCaptureFixture) -> AsyncIterator[list[Any]]:
    """What the loop's exception handler was given; nobody's may have logged anything."""
    got: list[Any] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: got.append(context))
    yield got
    loop.set_exception_handler(None)
    assert [r for r in caplog.records if r.levelno >= logging.ERROR] == []


@pytest.mark.parametrize("block", [wait_on_the_thread, compute])
async def test_agent_and_lease_outlive_a_blocked_event_loop(cluster, unhappy, name, block):
    async with AsyncAgentKeeperClient(endpoints=cluster.endpoints) as client:
        agent = await client.register(name("agent"), "Is blocked", "1", ttl=TTL_S)
        key = name("lease")
        lease = await client.acquire_lease(key, agent.agent_id, ttl=TTL_S, keep_alive=True)
        token = lease.token
        block()
        lease.check()
        assert (await lease.renew()).token == token
        assert not agent.lost
        assert (await client.get_agent(agent.agent_id)).status is AgentStatus.ALIVE
        assert unhappy(agent.agent_id, key) == []
        await lease.release()
        await agent.deregister()


def test_agent_and_lease_outlive_a_busy_main_thread(cluster, unhappy, name):
    with AgentKeeperClient(endpoints=cluster.endpoints) as client:
        agent = client.register(name("agent"), "Is busy", "1", ttl=TTL_S)
        key = name("lease")
        with client.acquire_lease(key, agent.agent_id, ttl=TTL_S, keep_alive=True) as lease:
            compute()
            lease.check()
            assert unhappy(agent.agent_id, key) == []
        assert client.get_agent(agent.agent_id).status is AgentStatus.ALIVE


class Echo(grpc.GenericRpcHandler):
    """A gRPC service of the user's own."""

    PATH = "/users.own/Echo"

    def service(self, details: Any) -> Any:
        async def echo(request: bytes, _context: Any) -> bytes:
            await asyncio.sleep(0)
            return request

        return grpc.unary_unary_rpc_method_handler(echo) if details.method == self.PATH else None


async def echo_for(client_done: asyncio.Event) -> int:
    """Serve and call the user's own service until the event is set; how many answers came."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Echo(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    options = [("grpc.enable_http_proxy", 0)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        call = channel.unary_unary(Echo.PATH)
        count = 0
        while not client_done.is_set():
            answers = await asyncio.gather(*(call(b"%d" % number) for number in range(10)))
            assert answers == [b"%d" % number for number in range(10)]
            count += len(answers)
    await server.stop(None)
    return count


async def cycle(client: AsyncAgentKeeperClient, key: str, cycles: int = CYCLES) -> list[int]:
    """Take and give back a lease; the tokens."""
    tokens = []
    async with client.register(key, "Cycles", "1", ttl=60) as agent:
        for _ in range(cycles):
            async with client.acquire_lease(key, agent.agent_id) as lease:
                tokens.append(lease.token)
    return tokens


async def test_the_users_own_grpc_in_the_same_loop(cluster, name, errors_of_loop):
    done = asyncio.Event()
    echoes = asyncio.create_task(echo_for(done))
    seen = Recorder()
    async with AsyncAgentKeeperClient(endpoints=cluster.endpoints) as client:
        async with await client.watch(["lease."], seen):
            tokens = await asyncio.gather(*(cycle(client, name(f"lease{i}")) for i in range(5)))
        done.set()
    assert await asyncio.wait_for(echoes, PATIENCE_S) > 0
    assert all(mine == sorted(set(mine)) and len(mine) == CYCLES for mine in tokens)
    assert errors_of_loop == []


def in_loops(work: Callable[[int], Any]) -> list[Any]:
    """What a coroutine function returns in several event loops at once, each on its thread."""
    failures: list[Any] = []

    async def watched(number: int) -> Any:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: failures.append(context))
        return await work(number)

    def run(number: int) -> Any:
        return asyncio.run(watched(number))

    with ThreadPoolExecutor(LOOPS) as pool:
        results = list(pool.map(run, range(LOOPS)))
    assert failures == []
    return results


def test_clients_in_several_event_loops_at_once(cluster, name, caplog):
    async def work(number: int) -> list[int]:
        async with AsyncAgentKeeperClient(endpoints=cluster.endpoints) as client:
            return await cycle(client, name(f"lease{number}"))

    tokens = in_loops(work)
    assert len({token for mine in tokens for token in mine}) == LOOPS * CYCLES
    assert [r for r in caplog.records if r.levelno >= logging.ERROR] == []


async def test_one_client_in_several_event_loops_at_once(cluster, name, errors_of_loop):
    async with AsyncAgentKeeperClient(endpoints=cluster.endpoints) as client:
        key = name("shared")
        agent = await client.register(name("agent"), "Waits", "1", ttl=60)
        events = await client.events(["lease."]).opened()

        async def work(number: int) -> list[int]:
            return await cycle(client, f"{key}-{number}")

        own, others = await asyncio.gather(
            cycle(client, f"{key}-own"), asyncio.to_thread(in_loops, work)
        )
        tokens = {token for mine in (own, *others) for token in mine}
        assert len(tokens) == (LOOPS + 1) * CYCLES
        told = set()
        async with asyncio.timeout(PATIENCE_S):
            async for event in events:
                if event.topic == "lease.acquired" and event.payload.task_id.startswith(key):
                    told.add(event.payload.token)
                if told == tokens:
                    break
        events.close()
        await agent.deregister()
    assert errors_of_loop == []
