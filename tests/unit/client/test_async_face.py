"""The asyncio face: cancelling, entering, loops and threads, and the client's end."""

import asyncio
import os
import subprocess
import sys
import textwrap
import threading
import time
import warnings

import pytest
from sdk_story import (
    PATIENCE_S,
    Way,
    an_agent,
    eventually,
    eventually_async,
    holder_of,
)

from agentkeeper import (
    AgentStatus,
    AsyncAgentHandle,
    AsyncAgentKeeperClient,
    AsyncLeadership,
    AsyncLeaseHandle,
    ClientClosed,
    LeaseLost,
    TaskStatus,
    Unavailable,
)
from agentkeeper.testing import FakeKeeper


@pytest.fixture
def client(fake_keeper: FakeKeeper) -> AsyncAgentKeeperClient:
    return fake_keeper.async_client()


def hold_up_until(look, what: str) -> None:
    """Wait as no coroutine should: nothing else happens in this event loop meanwhile."""
    eventually(look, what)


# ---- cancelling


async def test_a_wait_in_line_that_is_cancelled_is_withdrawn(fake_keeper, client):
    first, second = await an_agent(client, "first"), await an_agent(client, "second")
    lease = await client.acquire_lease("job", first.agent_id)
    waiting = asyncio.ensure_future(client.acquire_lease("job", second.agent_id, wait=1000))
    state = fake_keeper._stack.machine.state
    await eventually_async(lambda: len(state.waiters) == 1, "somebody in line")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await eventually_async(lambda: len(state.waiters) == 0, "nobody in line")
    await lease.release()
    assert holder_of(fake_keeper, "job") is None


async def test_a_timeout_of_asyncio_ends_a_call(fake_keeper, client):
    agent = await an_agent(client)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await client.claim_task(agent.agent_id)
    await eventually_async(lambda: fake_keeper.calls_under_way == 0, "no claim waits")
    task = await client.create_task("work")
    assert (await client.get_task(task.id)).status == TaskStatus.PENDING


async def test_a_candidate_that_is_cancelled_is_none_any_more(fake_keeper, client):
    first, second = await an_agent(client, "first"), await an_agent(client, "second")
    leadership = await client.lead("group", first)

    def candidates():
        return fake_keeper._stack.machine.state.elections.get("group").candidates

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await client.lead("group", second)
    await eventually_async(lambda: second.agent_id not in candidates(), "withdrawn")
    leadership.check()
    await leadership.resign()
    assert candidates() == ()


async def test_what_was_had_at_the_moment_of_cancelling_is_given_back(fake_keeper, client):
    """The answer is there, and its waiter, cancelled just then, never gets to see it."""
    agent = await an_agent(client)

    async def holding():
        return await client.acquire_lease("job", agent.agent_id, ttl=60, keep_alive=True)

    acquiring = asyncio.create_task(holding())
    await asyncio.sleep(0)
    hold_up_until(lambda: holder_of(fake_keeper, "job"), "a grant")
    await_idle(fake_keeper)
    acquiring.cancel()
    with pytest.raises(asyncio.CancelledError):
        await acquiring
    await asyncio.to_thread(fake_keeper.advance, 61)
    assert holder_of(fake_keeper, "job") is None, "nobody keeps it alive"


async def test_an_agent_had_at_the_moment_of_cancelling_does_not_live_on(fake_keeper, client):
    agents = fake_keeper._stack.machine.state.agents
    registering = asyncio.create_task(hold(client.register("agent", "", "1", ttl=10)))
    await asyncio.sleep(0)
    hold_up_until(lambda: len(list(agents)) == 1, "an agent")
    await_idle(fake_keeper)
    registering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await registering
    await asyncio.to_thread(fake_keeper.advance, 60)
    assert await client.find() == []


async def test_a_group_won_at_the_moment_of_cancelling_is_free(fake_keeper, client):
    agent = await an_agent(client)
    leading = asyncio.create_task(hold(client.lead("group", agent)))
    await asyncio.sleep(0)

    def election():
        return fake_keeper._stack.machine.state.elections.get("group")

    hold_up_until(lambda: election() and election().leader, "a leader")
    await_idle(fake_keeper)
    leading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leading
    await asyncio.to_thread(fake_keeper.advance, 1)
    assert election().candidates == ()


async def hold(entering):
    return await entering


def await_idle(keeper: FakeKeeper) -> None:
    """Let the keeper's clients hear of what has been decided."""
    keeper.advance(0)
    keeper.advance(0)


async def test_a_cancelled_call_harms_no_other(fake_keeper, client):
    agent = await an_agent(client)
    others = fake_keeper.calls_under_way
    claims = [asyncio.create_task(client.claim_task(agent.agent_id)) for _ in range(10)]
    await eventually_async(lambda: fake_keeper.calls_under_way == others + 10, "all of them wait")
    for claim in claims[::2]:
        claim.cancel()
    # Until the keeper knows, it may give one of them a task.
    await eventually_async(lambda: fake_keeper.calls_under_way == others + 5, "half of them wait")
    for _ in range(5):
        await client.create_task("work")
    done = await asyncio.wait_for(asyncio.gather(*claims[1::2]), PATIENCE_S)
    assert len({task.id for task in done}) == 5
    assert all(claim.cancelled() for claim in claims[::2])


# ---- entering and awaiting


async def test_what_is_held_may_be_awaited_or_entered(client):
    agent = await client.register("first", "", "1")
    assert isinstance(agent, AsyncAgentHandle)
    async with (
        client.register("second", "", "1") as other,
        client.acquire_lease("job", other.agent_id) as lease,
        client.lead("group", other) as leadership,
    ):
        assert isinstance(other, AsyncAgentHandle)
        assert isinstance(lease, AsyncLeaseHandle)
        assert isinstance(leadership, AsyncLeadership)
        lease.check()
        leadership.check()
        assert await client.acquire_lease("job", agent.agent_id) is None
    assert not lease.lost
    with pytest.raises(LeaseLost, match="released"):
        lease.check()
    assert (await client.get_agent(other.agent_id)).status is AgentStatus.DEAD
    async with await client.acquire_lease("job", agent.agent_id):
        pass
    async with agent:
        pass
    assert await client.find() == []


async def test_watches_may_be_entered_without_being_awaited(client):
    seen, states = [], []
    async with client.watch(["agent."], seen.append) as watch:
        await client.register("agent", "", "1")
        await eventually_async(lambda: seen, "an event")
        assert watch.active
    assert not watch.active
    async with client.watch_election("group", states.append) as watch:
        assert watch.active


async def test_there_is_nothing_to_enter_in_none(client):
    first, second = await an_agent(client, "first"), await an_agent(client, "second")
    async with client.acquire_lease("job", first.agent_id):
        with pytest.raises(TypeError, match="None"):
            async with client.acquire_lease("job", second.agent_id):
                pytest.fail("entered")


async def test_what_is_held_may_be_asked_for_in_a_task(client):
    """As of any coroutine function: tasks are made of what it returns."""
    agent = await asyncio.create_task(client.register("agent", "", "1"))
    async with asyncio.TaskGroup() as group:
        acquiring = [
            group.create_task(client.acquire_lease(f"job-{number}", agent.agent_id))
            for number in range(3)
        ]
    assert [task.result().token for task in acquiring] == [1, 2, 3]
    leases = await asyncio.gather(
        *(client.acquire_lease(f"more-{number}", agent.agent_id) for number in range(3))
    )
    assert None not in leases


async def test_an_error_in_the_block_wins(fake_keeper, client):
    agent = await an_agent(client)
    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        async with client.acquire_lease("job", agent.agent_id, ttl=10) as lease:
            await asyncio.to_thread(fake_keeper.advance, 11)
            assert lease.lost
            raise ZeroDivisionError
    with pytest.raises(LeaseLost):
        async with client.acquire_lease("job", agent.agent_id, ttl=10):
            await asyncio.to_thread(fake_keeper.advance, 11)


async def test_a_call_nobody_awaits_is_warned_about(client):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        client.register("agent", "", "1")
        for _ in range(2):
            await asyncio.sleep(0)
    assert ["never awaited" in str(warning.message) for warning in caught] == [True]
    assert await client.find() == []


# ---- being told


async def test_whoever_waits_for_a_loss_is_told_in_their_own_loop(fake_keeper, client):
    told, home = [], asyncio.get_running_loop()

    async def on_lost(lease):
        await asyncio.sleep(0)
        told.append((lease, asyncio.get_running_loop()))

    agent = await an_agent(client)
    lease = await client.acquire_lease("job", agent.agent_id, ttl=60, on_lost=on_lost)
    assert await lease.lost.wait(0) is False
    waiting = [asyncio.create_task(lease.lost.wait()) for _ in range(3)]
    fake_keeper.disconnect(client)
    await asyncio.to_thread(fake_keeper.advance, 60)
    assert await asyncio.wait_for(asyncio.gather(*waiting), PATIENCE_S) == [True] * 3
    await eventually_async(lambda: told, "a call back")
    assert told == [(lease, home)]
    assert await lease.lost.wait() is True


async def test_a_wait_for_a_loss_may_be_cancelled(client):
    agent = await an_agent(client)
    lease = await client.acquire_lease("job", agent.agent_id)
    for _ in range(50):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(lease.lost.wait(), 0)
        assert await lease.lost.wait(0) is False
    assert len(lease._held.tenure._observers) <= 1


async def test_a_wait_for_a_loss_that_can_not_come_ends(client):
    agent = await an_agent(client)
    lease = await client.acquire_lease("job", agent.agent_id)
    waiting = asyncio.create_task(lease.lost.wait())
    await asyncio.sleep(0)
    await lease.release()
    assert await asyncio.wait_for(waiting, 5) is False


def test_a_loop_that_is_gone_is_not_called_back(fake_keeper: FakeKeeper, caplog):
    client, told = fake_keeper.async_client(), []

    async def acquire():
        agent = await an_agent(client)
        return await client.acquire_lease("job", agent.agent_id, ttl=60, on_lost=told.append)

    lease = asyncio.run(acquire())
    fake_keeper.disconnect(client)
    fake_keeper.advance(60)
    assert lease.lost
    assert told == []
    assert "Traceback" not in caplog.text


# ---- loops and threads


def test_several_event_loops_may_use_one_client(fake_keeper: FakeKeeper):
    client = fake_keeper.async_client()
    together = threading.Barrier(4)
    results = {}

    async def use(number: int):
        together.wait()
        async with client.register(f"agent-{number}", "", "1") as agent:
            tokens = []
            for _ in range(20):
                async with client.acquire_lease(f"job-{number}", agent.agent_id) as lease:
                    tokens.append(lease.token)
            results[number] = tokens

    threads = [threading.Thread(target=asyncio.run, args=(use(number),)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert sorted(results) == [0, 1, 2, 3]
    tokens = [token for each in results.values() for token in each]
    assert len(set(tokens)) == 80


def test_a_handle_may_be_used_in_another_loop(fake_keeper: FakeKeeper):
    client = fake_keeper.async_client()
    agent = asyncio.run(hold(client.register("agent", "", "1")))
    lease = asyncio.run(hold(client.acquire_lease("job", agent.agent_id)))
    asyncio.run(lease.renew())
    asyncio.run(lease.release())
    asyncio.run(agent.deregister())
    assert asyncio.run(client.find()) == []


async def test_a_blocked_loop_starves_no_heartbeat(fake_keeper, client):
    agent = await an_agent(client, ttl=2)
    lease = await client.acquire_lease("job", agent.agent_id, ttl=3, keep_alive=True)
    fake_keeper.advance(600)  # on this very thread, so that this loop stands still
    lease.check()
    assert (await client.get_agent(agent.agent_id)).status is AgentStatus.ALIVE


# ---- the end


async def test_a_closed_client_refuses_everything(fake_keeper, client):
    agent = await an_agent(client)
    lease = await client.acquire_lease("job", agent.agent_id)
    await client.close()
    await client.close()
    for call in (
        client.find,
        agent.deregister,
        lease.renew,
        lease.release,
        lambda: client.register("agent", "", "1"),
        lambda: client.acquire_lease("job", agent.agent_id),
        lambda: client.lead("group", agent),
        lambda: client.watch([], print),
    ):
        with pytest.raises(ClientClosed) as closed:
            await call()
        assert closed.value.code().name == "CANCELLED"
    with pytest.raises(ClientClosed):
        client.events()


async def test_calls_that_wait_end_with_the_client(fake_keeper, client):
    agent = await an_agent(client)
    other = fake_keeper.async_client()
    first = await an_agent(other, "first")
    await other.lead("group", first)
    await other.acquire_lease("job", first.agent_id)
    waiting = [
        asyncio.ensure_future(call)
        for call in (
            client.claim_task(agent.agent_id),
            client.acquire_lease("job", agent.agent_id, wait=1000),
            client.lead("group", agent),
            anext(client.events()),
        )
    ]
    await eventually_async(lambda: fake_keeper.calls_under_way >= 5, "all of them wait")
    await client.close()
    for ended in await asyncio.wait_for(
        asyncio.gather(*waiting, return_exceptions=True), PATIENCE_S
    ):
        assert isinstance(ended, ClientClosed), ended
    assert await other.find()


async def test_leaving_the_client_closes_it(fake_keeper):
    async with fake_keeper.async_client() as client:
        await client.find()
    with pytest.raises(ClientClosed):
        await client.find()


async def test_a_call_that_reaches_nobody_gives_up_in_time():
    async with AsyncAgentKeeperClient(port=1, timeout=0.1) as client:
        with pytest.raises(Unavailable):
            await client.find()
        with pytest.raises(Unavailable):
            await client.register("agent", "", "1", timeout=0.05)


async def test_answers_that_are_late_hold_up_nobody(fake_keeper, client):
    way = Way(client)
    way.late_s["Find"] = 5
    finding = asyncio.create_task(client.find())
    await eventually_async(lambda: way.calls["Find"] == 1, "a call under way")
    assert await client.list_policies() == []
    await asyncio.to_thread(fake_keeper.advance, 5)
    assert await finding == []


def test_a_fork_is_told_that_it_can_use_no_client():
    code = """
        import asyncio, os, signal, sys
        from agentkeeper import AsyncAgentKeeperClient, errors
        client = AsyncAgentKeeperClient(port=1)
        async def ask():
            try:
                await client.find(timeout=0.1)
            except errors.Unavailable:
                print("unavailable", flush=True)
            except errors.ClientClosed as error:
                print(error.details(), flush=True)
        asyncio.run(ask())
        forked = os.fork()
        if forked == 0:
            signal.alarm(30)  # should it hang
            asyncio.run(ask())
            asyncio.run(client.close())
            try:
                AsyncAgentKeeperClient(port=1)
            except RuntimeError as error:
                print(error, flush=True)
            os._exit(0)  # as those of multiprocessing do: gRPC's own destructors may crash
        assert os.waitpid(forked, 0)[1] == 0
        asyncio.run(client.close())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        timeout=60,
        check=True,
        capture_output=True,
        text=True,
        # Its own handlers can hang the child if it is busy at that moment, as it may be under load.
        env={**os.environ, "GRPC_ENABLE_FORK_SUPPORT": "0"},
    )
    asked, inherited, new = done.stdout.splitlines()
    assert asked == "unavailable"
    assert "forked" in inherited
    assert "fork" in new


async def test_a_daemon_of_its_own_may_be_entered_or_awaited():
    async with AsyncAgentKeeperClient.embedded() as client:
        async with client.register("agent", "", "1") as agent:
            assert [found.agent_id for found in await client.find()] == [agent.agent_id]
        daemon = client._daemon
    with pytest.raises(ClientClosed):
        await client.find()
    assert not await asyncio.to_thread(lives, daemon.pid)
    client = await AsyncAgentKeeperClient.embedded()
    try:
        assert await client.find() == []
    finally:
        await client.close()


def lives(pid: int) -> bool:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            with open(f"/proc/{pid}/stat") as stat:
                if stat.read().rpartition(")")[2].split()[0] == "Z":
                    return False
        except FileNotFoundError:
            return False
        time.sleep(0.01)
    return True
