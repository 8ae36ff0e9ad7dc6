"""Workers whose handlers run in an event loop."""

import asyncio

import pytest
from sdk_story import PATIENCE_S, an_agent, eventually_async

from agentkeeper import TaskStatus
from agentkeeper.testing import FakeKeeper


async def done(client, task):
    async with asyncio.timeout(PATIENCE_S):
        while (await client.get_task(task.id)).status != TaskStatus.COMPLETED:  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def test_coroutine_functions_and_plain_ones_may_handle_tasks(fake_keeper: FakeKeeper):
    client = fake_keeper.async_client()
    agent = await an_agent(client)
    inside, most = 0, 0

    async def handler(task):
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0.02)
        inside -= 1
        return task.input

    async with client.worker(agent, handler, concurrency=3):
        tasks = [await client.create_task("work", b"%d" % number) for number in range(9)]
        for number, task in enumerate(tasks):
            await done(client, task)
            assert (await client.get_task(task.id)).output == b"%d" % number
    assert most == 3
    async with client.worker(agent, lambda task: task.input * 2):
        task = await client.create_task("work", b"x")
        await done(client, task)
    assert (await client.get_task(task.id)).output == b"xx"


async def test_a_handler_that_is_cancelled_from_within_fails_its_task(fake_keeper: FakeKeeper):
    """Whatever it awaits may have been cancelled by somebody; that ends no slot of the worker."""
    client = fake_keeper.async_client()
    agent = await an_agent(client)

    async def handler(task):
        if task.input:
            other = asyncio.create_task(asyncio.sleep(3600))
            other.cancel()
            await other
        return b"next"

    async with client.worker(agent, handler):
        await client.create_task("work", b"x")
        second = await client.create_task("work")
        async with asyncio.timeout(5):
            await done(client, second)


async def test_a_run_that_is_cancelled_leaves_nothing_running(fake_keeper: FakeKeeper):
    client = fake_keeper.async_client()
    agent = await an_agent(client)
    handled = []
    running = asyncio.create_task(client.worker(agent, handled.append).run())
    await eventually_async(lambda: fake_keeper.calls_under_way == 1, "a claim that waits")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await eventually_async(lambda: fake_keeper.calls_under_way == 0, "nobody waits for a task")
    task = await client.create_task("work")
    assert handled == []
    assert (await client.get_task(task.id)).status == TaskStatus.PENDING


async def test_handlers_that_are_not_done_in_time_are_cancelled(fake_keeper: FakeKeeper):
    client = fake_keeper.async_client()
    agent = await an_agent(client)
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def handler(task):
        begun.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            assert task.lost
            cancelled.set()
            raise

    async with client.worker(agent, handler, drain_timeout=0.01):
        await client.create_task("work")
        await begun.wait()
    async with asyncio.timeout(PATIENCE_S):
        await cancelled.wait()
