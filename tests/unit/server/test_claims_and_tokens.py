"""ClaimTask with a time to wait, and VerifyToken, where only the timing makes a difference."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.core import limits
from agentkeeper.core.commands import AcquireLease, ClaimTask, CreateTask, Deregister, Heartbeat
from agentkeeper.core.records import Acquired, Result
from agentkeeper.server.caller import Caller
from agentkeeper.server.claims import ClaimWaiters
from agentkeeper.server.errors import CallError, unavailable
from agentkeeper.server.services.leases import LeaseService
from agentkeeper.server.services.tasks import TaskService
from agentkeeper.server.turns import Turns

from .helpers import Log, settle, until

CALLER = Caller(session_id="s", number=3)


class World:
    """A replica whose commands are decided when a test lets them."""

    def __init__(self) -> None:
        self.log = Log()
        self.log.register("a", "t")
        self.claims = ClaimWaiters(self.log.machine, Turns())
        self.tries = 0
        self.withdrawn: list[tuple[str, int]] = []
        self.withdrawal_fails = False
        self.may_decide = asyncio.Event()
        self.may_decide.set()
        self.replica: Any = SimpleNamespace(
            claims=self.claims,
            state=self.log.machine.state,
            draw_attempt=lambda: 5,
            submit_or_withdraw=self._submit,
            withdraw=self._withdraw,
            closing=asyncio.Event(),
            alarm=self._alarm,
        )
        self.service = TaskService(self.replica)

    @contextmanager
    def _alarm(self, deadline_s: float | None, event: asyncio.Event) -> Iterator[None]:
        if deadline_s is not None:
            asyncio.get_running_loop().call_at(deadline_s, event.set)
        yield

    async def _submit(self, body: ClaimTask, caller: Caller, attempt: int) -> Result:
        self.tries += 1
        await self.may_decide.wait()
        (result,) = self.log.put(body)
        return result

    async def _withdraw(self, key: tuple[str, int], attempt: int) -> None:
        assert attempt == 5
        self.withdrawn.append(key)
        if self.withdrawal_fails:
            raise unavailable("nobody there")

    def create(self) -> None:
        self.log.put(CreateTask("task", "t", b"", ("t",), 0, 60_000, 0, ""))
        self.claims.dispatch()

    def claim(self, wait_ms: int, caller: Caller = CALLER) -> "asyncio.Task[pb.ClaimTaskResponse]":
        request = pb.ClaimTaskRequest(agent_id="a", wait_ms=wait_ms)
        return asyncio.ensure_future(self.service.claim_task(request, caller))


async def test_a_claim_is_withdrawn_before_it_is_given_up() -> None:
    world = World()
    answer = await world.claim(wait_ms=1)
    assert not answer.HasField("task")
    assert world.withdrawn == [("s", 3)]
    assert not world.claims._waiting
    world.create()
    await settle()
    assert world.tries == 1


async def test_without_a_session_there_is_nothing_to_withdraw() -> None:
    world = World()
    assert not (await world.claim(wait_ms=1, caller=Caller())).HasField("task")
    assert world.withdrawn == []


async def test_a_claim_that_can_not_be_withdrawn_is_of_unknown_outcome() -> None:
    world = World()
    world.withdrawal_fails = True
    with pytest.raises(CallError) as caught:
        await world.claim(wait_ms=1)
    assert not caught.value.definite


async def test_without_a_time_to_wait_a_claim_waits_on() -> None:
    world = World()
    claim, other = world.claim(wait_ms=0), world.claim(wait_ms=1)
    await other
    assert not claim.done()
    world.create()
    assert (await claim).task.id == "task"


async def test_a_claim_that_is_decided_after_its_time_is_delivered() -> None:
    world = World()
    world.may_decide.clear()
    claim = world.claim(wait_ms=1)
    await until(lambda: world.tries == 1)
    await asyncio.sleep(0.01)  # its time is over now
    world.create()
    assert not claim.done()
    world.may_decide.set()
    assert (await claim).task.id == "task"
    assert world.withdrawn == []


class Leases:
    """A log with one agent's leases, and a service that reads it."""

    def __init__(self) -> None:
        self.log = Log()
        self.log.register("a")
        replica: Any = SimpleNamespace(read=self._read)
        self.service = LeaseService(replica)

    async def _read(self, caller: Caller) -> Any:
        return self.log.machine.state

    def acquire(self, task_id: str, agent_id: str = "a", ttl_ms: int = 60_000) -> int:
        (result,) = self.log.put(AcquireLease(task_id, agent_id, ttl_ms, 0, False))
        assert isinstance(result, Acquired)
        assert result.acquired
        return result.lease.token

    async def valid(self, task_id: str, token: int) -> bool:
        request = pb.VerifyTokenRequest(task_id=task_id, token=pb.FencingToken(value=token))
        return (await self.service.verify_token(request, Caller())).valid


async def test_a_lease_that_is_due_is_over_though_not_worked_off() -> None:
    leases = Leases()
    count = limits.DUE_WORK_PER_ENTRY + 50
    tokens = {f"key-{i:03}": leases.acquire(f"key-{i:03}", ttl_ms=1_000) for i in range(count)}
    assert all([await leases.valid(key, token) for key, token in tokens.items()])
    leases.log.put(Heartbeat("a"), later_ms=2_000)
    left = [key for key in tokens if key in leases.log.machine.state.leases]
    assert left, "they are more than one entry works off"
    assert not any([await leases.valid(key, tokens[key]) for key in left])


async def test_a_lease_ends_with_its_holder_whose_death_is_due() -> None:
    leases = Leases()
    for i in range(2 * limits.DUE_WORK_PER_ENTRY):
        leases.log.register(f"b{i:03}", ttl_ms=1_000)
    last = f"b{2 * limits.DUE_WORK_PER_ENTRY - 1:03}"
    token = leases.acquire("key", last)
    kept = leases.acquire("kept")
    for _ in range(2):
        leases.log.put(later_ms=600)
        leases.log.put()
    assert await leases.valid("key", token), "UNREACHABLE is not DEAD"
    leases.log.put(later_ms=1_000)
    assert "key" in leases.log.machine.state.leases, "it is not worked off yet"
    assert not await leases.valid("key", token)
    assert await leases.valid("kept", kept)


async def test_only_the_token_of_the_lease_as_it_is_now_held_is_valid() -> None:
    leases = Leases()
    former = leases.acquire("key")
    token = leases.acquire("key")
    assert [await leases.valid("key", t) for t in (former, token, token + 1)] == [
        False,
        True,
        False,
    ]
    assert not await leases.valid("other", token)
    leases.log.put(Deregister("a"))
    assert not await leases.valid("key", token)


@pytest.mark.parametrize("token", [0, limits.COUNTER_MAX + 1])
async def test_what_is_no_token_is_refused(token: int) -> None:
    with pytest.raises(CallError) as caught:
        await Leases().valid("key", token)
    assert caught.value.field == "token.value"
