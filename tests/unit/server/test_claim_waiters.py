"""Callers waiting for tasks: first come first served, and none sleeps past a task that fits."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkeeper.core import limits
from agentkeeper.core.commands import ClaimTask, CreateTask, Deregister
from agentkeeper.core.records import Task, Waiting
from agentkeeper.server.claims import ClaimWaiters
from agentkeeper.server.errors import CallError
from agentkeeper.server.turns import Turns

from .helpers import Log, settle


class World:
    """Agents with tools, tasks, and callers that claim as the service does."""

    def __init__(self) -> None:
        self.log = Log()
        self.waiters = ClaimWaiters(self.log.machine, Turns())
        self.claimed: list[str] = []
        self.attempts = 0
        self.created = 0

    def create(self, *tools: str) -> str:
        self.created += 1
        task_id = f"task-{self.created}"
        self.log.put(CreateTask(task_id, "t", b"", tools, 0, 60_000, 0, ""))
        self.waiters.dispatch()
        return task_id

    def steal(self, agent_id: str) -> None:
        """Another replica's caller is faster."""
        self.log.put(ClaimTask(agent_id))

    async def claim(self, name: str, agent_id: str) -> str:
        with self.waiters.waiting(agent_id) as place:
            while True:
                await asyncio.sleep(0)  # the way through the log
                self.attempts += 1
                (result,) = self.log.put(ClaimTask(agent_id))
                if isinstance(result, Task):
                    self.claimed.append(name)
                    return result.task_id
                if not isinstance(result, Waiting):
                    return "refused"
                await place.next_chance()

    def call(self, name: str, agent_id: str) -> "asyncio.Task[str]":
        return asyncio.ensure_future(self.claim(name, agent_id))


@contextmanager
def cancelled(*tasks: "asyncio.Task[str]") -> Iterator[None]:
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()


async def test_first_come_first_served() -> None:
    world = World()
    world.log.register("a", "t")
    calls = []
    for name in "123":
        calls.append(world.call(name, "a"))
        await settle()
    for count in (1, 2, 3):
        world.create("t")
        await settle()
        assert world.claimed == list("123")[:count]
    await asyncio.gather(*calls)


async def test_as_many_are_woken_as_there_are_tasks() -> None:
    world = World()
    world.log.register("a", "t")
    calls = [world.call(str(i), "a") for i in range(50)]
    await settle()
    before = world.attempts
    with cancelled(*calls):
        world.create("t")
        await settle()
        assert len(world.claimed) == 1
        assert world.attempts - before <= 3


async def test_one_that_comes_away_empty_handed_keeps_its_place() -> None:
    world = World()
    world.log.register("a", "t")
    first = world.call("first", "a")
    await settle()
    second = world.call("second", "a")
    await settle()
    world.create("t")  # wakes the first, which is not there yet when it is gone
    world.steal("a")
    await settle()
    world.create("t")
    await settle()
    assert world.claimed == ["first"]
    world.create("t")
    await asyncio.gather(first, second)


async def test_a_woken_caller_that_leaves_passes_its_chance_on() -> None:
    world = World()
    world.log.register("a", "t")
    calls = [world.call(name, "a") for name in "12"]
    await settle()
    world.create("t")
    calls[0].cancel()
    await settle()
    assert world.claimed == ["2"]


async def test_tools_decide_who_is_woken() -> None:
    world = World()
    world.log.register("plain")
    world.log.register("able", "t", "u")
    plain, able = world.call("plain", "plain"), world.call("able", "able")
    await settle()
    world.create("t", "u")
    assert await able == "task-1"
    assert not plain.done()
    world.create()
    assert await plain == "task-2"


async def test_callers_of_an_agent_that_dies_are_told() -> None:
    world = World()
    world.log.register("a", "t")
    waiting = world.call("1", "a")
    await settle()
    world.log.put(Deregister("a"))
    world.waiters.wake_agent("a")
    assert await waiting == "refused"


async def test_too_many_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CLAIM_WAITERS", 2)
    world = World()
    world.log.register("a")
    calls = [world.call(name, "a") for name in "12"]
    await settle()
    with cancelled(*calls):
        with pytest.raises(CallError) as caught:
            await world.call("3", "a")
        assert caught.value.reason == "overloaded"


TOOLS = {"a": ("t",), "b": ("t", "u"), "c": ()}
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["create", "call", "cancel", "steal", "run"]),
        st.sampled_from(list(TOOLS)),
        st.integers(0, 20),
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_nobody_sleeps_past_a_task_that_fits(steps: list[tuple[str, str, int]]) -> None:
    asyncio.run(_no_lost_wake_ups(steps))


async def _no_lost_wake_ups(steps: list[tuple[str, str, int]]) -> None:
    world = World()
    for agent_id, tools in TOOLS.items():
        world.log.register(agent_id, *tools)
    calls: list[tuple[str, asyncio.Task[str]]] = []
    for what, agent_id, number in steps:
        if what == "create":
            world.create(*TOOLS[agent_id])
        elif what == "call":
            calls.append((agent_id, world.call(str(len(calls)), agent_id)))
        elif what == "cancel" and calls:
            calls[number % len(calls)][1].cancel()
        elif what == "steal":
            world.steal(agent_id)
        else:
            for _ in range(number):
                await asyncio.sleep(0)
    for _ in range(10):
        await settle()
    state = world.log.machine.state
    for agent_id, call in calls:
        assert call.done() or not state.pending.fits(state.tool_sets[agent_id])
        call.cancel()
    await asyncio.gather(*(call for _, call in calls), return_exceptions=True)
    assert not world.waiters._waiting
    assert not world.waiters._attempting


async def test_one_woken_for_a_task_that_takes_a_better_one_leaves_the_first_to_another() -> None:
    world = World()
    world.log.register("both", "a", "b")
    world.log.register("only-a", "a")
    calls = world.call("w1", "both"), world.call("w2", "only-a")
    with cancelled(*calls):
        await settle()
        world.log.put(CreateTask("x", "t", b"", ("a",), 0, 60_000, 0, ""))
        world.log.put(CreateTask("y", "t", b"", ("b",), 0, 60_000, 5, ""))
        world.waiters.dispatch({("a",): 1, ("b",): 1})
        assert await asyncio.gather(*calls) == ["y", "x"]
