"""Waiting for a lease: whatever ends it, nobody is left in line who is not there any more."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.core import limits
from agentkeeper.core.commands import Command, OpenSession
from agentkeeper.server.caller import Caller
from agentkeeper.server.errors import CallError
from agentkeeper.server.services.leases import LeaseService

from .helpers import settle, soon, until
from .one_replica import OneReplica

SESSION = Caller(session_id="s", number=1)


class World(OneReplica):
    """Agent `a` holds the lease; `b` and others wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self.service = LeaseService(self.replica)

    async def start(self) -> None:
        await self.register("a", "b")
        opening = Command("", "", 0, 0, OpenSession("s", 60_000, 256))
        await self.proposer.submit(opening, soon())
        self.lease = (await self.acquire("a")).lease

    async def acquire(
        self, agent_id: str, wait_ms: int = 0, caller: Caller = SESSION
    ) -> pb.AcquireLeaseResponse:
        request = pb.AcquireLeaseRequest(task_id="k", agent_id=agent_id, wait_ms=wait_ms)
        return await self.service.acquire_lease(request, caller if wait_ms else Caller())

    async def wait(self, caller: Caller) -> "asyncio.Task[pb.AcquireLeaseResponse]":
        waiting = asyncio.ensure_future(self.acquire("b", 60_000, caller))
        await until(lambda: bool(self.state.waiters))
        await settle()
        return waiting

    async def release(self) -> None:
        request = pb.ReleaseLeaseRequest(task_id="k", agent_id="a", token=self.lease.token)
        await self.service.release_lease(request, Caller())


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    await world.start()
    yield world
    await settle()
    for task in tuple(world.replica.background):
        task.cancel()


CALLERS = pytest.mark.parametrize("caller", [SESSION, Caller()], ids=["session", "without"])


@CALLERS
async def test_a_lease_that_becomes_free_is_granted(world: World, caller: Caller) -> None:
    waiting = await world.wait(caller)
    await world.release()
    answer = await waiting
    assert (answer.acquired, answer.lease.holder_agent_id) == (True, "b")


@CALLERS
async def test_a_wait_in_vain_leaves_the_line_first(world: World, caller: Caller) -> None:
    answer = await world.acquire("b", 5, caller)
    assert not answer.acquired
    assert not world.state.waiters


async def test_while_closing_one_with_a_session_keeps_its_place(world: World) -> None:
    waiting = await world.wait(SESSION)
    world.replica.refuse_calls()
    with pytest.raises(CallError) as caught:
        await waiting
    assert (caught.value.code, caught.value.definite) == ("UNAVAILABLE", False)
    await settle()
    assert list(world.state.waiters) == [("s", 1)]
    world.replica.closing.clear()  # now it stands for another replica
    await world.release()
    answer = await world.acquire("b", 60_000)
    assert (answer.acquired, answer.lease.holder_agent_id) == (True, "b")


async def test_while_closing_one_without_a_session_leaves_the_line_first(world: World) -> None:
    waiting = await world.wait(Caller())
    world.replica.refuse_calls()
    with pytest.raises(CallError) as caught:
        await waiting
    assert (caught.value.reason, caught.value.definite) == ("shutting_down", True)
    assert not world.state.waiters


@CALLERS
async def test_who_goes_away_while_nobody_leads_leaves_the_line_once_somebody_does(
    world: World, caller: Caller
) -> None:
    waiting = await world.wait(caller)
    world.commits = False
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await settle()
    # As on a replica that waits for a leader in vain, those under way run out of time.
    assert world.replica.background
    for pending in tuple(world.proposer._pending.values()):
        pending.decided.set_exception(CallError("UNAVAILABLE", "no_leader", "nobody leads"))
    world.proposer._pending.clear()
    await settle()
    assert world.state.waiters
    world.commit()
    world.withheld.clear()
    await until(lambda: not world.state.waiters)
    assert set(world.clients_sessions()) <= {"s"}


async def test_a_session_opened_for_a_wait_that_was_cancelled_is_closed(world: World) -> None:
    world.commits = False
    calls = [asyncio.ensure_future(world.acquire("b", 60_000, Caller())) for _ in range(5)]
    await settle()
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    before = world.machine.applied_index
    world.commit()
    await settle()
    assert world.machine.applied_index > before
    await until(lambda: not world.replica.owed)
    assert world.clients_sessions() == ["s"]


async def test_many_waits_that_end_at_once_all_leave_the_line(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PENDING_COMMANDS", 150)
    count = 200
    callers = [Caller(session_id="s", number=n) for n in range(1, count + 1)]
    waiting = []
    for caller in callers:
        waiting.append(asyncio.ensure_future(world.acquire("b", 60_000, caller)))
        await until(lambda: len(world.state.waiters) == len(waiting))
    for call in waiting:
        call.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    await until(lambda: not world.replica.owed)
    assert not world.state.waiters
