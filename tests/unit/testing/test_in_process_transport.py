"""The in-process transport: what a client is told is what it would be told over a network."""

import asyncio
import math
from collections.abc import AsyncGenerator
from typing import Any

import grpc
import pytest

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.client import methods
from agentkeeper.client.transport import Failure
from agentkeeper.server.caller import Caller
from agentkeeper.server.dispatch import Dispatcher, Surroundings
from agentkeeper.server.errors import CallError
from agentkeeper.server.services.method import Stream, Subscription, Unary
from agentkeeper.testing.transport import InProcessTransport

ENDPOINT = "keeper:7070"


class Keeper:
    """A service with one unary method and one watch, which a test directs."""

    def __init__(self) -> None:
        self.error: CallError | None = None
        self.callers: list[Caller] = []
        self.cancelled = asyncio.Event()
        self.events: asyncio.Queue[bytes | CallError | None] = asyncio.Queue()
        self.watches = 0
        self.held = asyncio.Event()
        self.held.set()
        services = {
            "RegistryService": [
                Unary("GetAgent", pb.GetAgentRequest, self.get_agent),
                Stream("Watch", pb.WatchRequest, self.watch),
            ]
        }
        around = Surroundings(lambda: 17, lambda: "leader:1", lambda name: None, asyncio.Event())
        self.transport = InProcessTransport(Dispatcher(services, around), around)

    async def get_agent(self, request: pb.GetAgentRequest, caller: Caller) -> Any:
        self.callers.append(caller)
        try:
            await self.held.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        if self.error is not None:
            raise self.error
        return pb.GetAgentResponse(agent=pb.AgentInfo(agent_id=request.agent_id))

    async def watch(self, request: pb.WatchRequest, caller: Caller) -> Subscription:
        if self.error is not None:
            raise self.error
        return Subscription(self._events(), 41)

    async def _events(self) -> AsyncGenerator[bytes, None]:
        self.watches += 1
        try:
            while (event := await self.events.get()) is not None:
                if isinstance(event, CallError):
                    raise event
                yield event
        finally:
            self.watches -= 1

    def put(self, sequence: int) -> None:
        self.events.put_nowait(pb.Event(sequence_number=sequence).SerializeToString())

    async def ask(self, timeout_s: float = 30.0, **metadata: str) -> pb.GetAgentResponse:
        request = pb.GetAgentRequest(agent_id="a")
        named = {f"agentkeeper-{key}": value for key, value in metadata.items()}
        return await self.transport.call(ENDPOINT, methods.GET_AGENT, request, named, timeout_s)

    async def open(self, timeout_s: float = 30.0) -> Any:
        request = pb.WatchRequest()
        return await self.transport.stream(ENDPOINT, methods.WATCH, request, {}, timeout_s)


async def numbers(stream: Any, seen: list[int]) -> None:
    async for event in stream:
        seen.append(event.sequence_number)  # noqa: PERF401  # seen as they come


async def failure_of(work: Any) -> Failure:
    with pytest.raises(Failure) as caught:
        await work
    return caught.value


async def test_a_request_takes_its_metadata_and_deadline_along():
    keeper = Keeper()
    answer = await keeper.ask(timeout_s=7, session="s", request="3", seen="2")
    assert answer.agent.agent_id == "a"
    (caller,) = keeper.callers
    assert (caller.session_id, caller.number, caller.seen) == ("s", 3, 2)
    left_s = caller.deadline_s - asyncio.get_running_loop().time()
    assert 0 < left_s <= 7


async def test_a_refusal_keeps_everything_that_is_said_of_it():
    keeper = Keeper()
    keeper.error = CallError(
        "OUT_OF_RANGE", "compacted", "gone", definite=True, field="after", oldest=9
    )
    expected = Failure(
        grpc.StatusCode.OUT_OF_RANGE, "gone", True, "compacted", "after", "leader:1", 9, False
    )
    assert await failure_of(keeper.ask()) == expected
    assert await failure_of(keeper.open()) == expected


async def test_metadata_that_is_malformed_is_refused():
    failure = await failure_of(Keeper().ask(session="s", request="x"))
    assert (failure.code, failure.field) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "agentkeeper-request",
    )


async def test_an_answer_that_does_not_come_in_time_is_no_answer():
    keeper = Keeper()
    keeper.held.clear()
    failure = await failure_of(keeper.ask(timeout_s=0.01))
    assert (failure.code, failure.definite) == (grpc.StatusCode.DEADLINE_EXCEEDED, None)
    assert failure.unreachable
    await keeper.cancelled.wait()


async def test_cancelling_a_call_cancels_it_at_the_keeper():
    keeper = Keeper()
    keeper.held.clear()
    asking = asyncio.ensure_future(keeper.ask())
    while not keeper.callers:  # noqa: ASYNC110
        await asyncio.sleep(0)
    asking.cancel()
    await keeper.cancelled.wait()
    with pytest.raises(asyncio.CancelledError):
        await asking


async def test_a_cut_leaves_open_what_was_under_way_and_not_what_comes_later():
    keeper = Keeper()
    keeper.held.clear()
    asking = asyncio.ensure_future(keeper.ask())
    while not keeper.callers:  # noqa: ASYNC110
        await asyncio.sleep(0)
    keeper.transport.line.cut()
    failure = await failure_of(asking)
    assert (failure.code, failure.definite) == (grpc.StatusCode.UNAVAILABLE, None)
    assert failure.unreachable
    await keeper.cancelled.wait()
    for later in (keeper.ask(timeout_s=0.01), keeper.open(timeout_s=0.01)):
        failure = await failure_of(later)
        assert (failure.code, failure.definite) == (grpc.StatusCode.UNAVAILABLE, True)
        assert failure.unreachable
    assert len(keeper.callers) == 1
    keeper.held.set()
    trying = asyncio.ensure_future(keeper.ask(timeout_s=math.inf))
    await asyncio.sleep(0)
    keeper.transport.line.mend()
    assert (await trying).agent.agent_id == "a"
    assert (await keeper.ask()).agent.agent_id == "a"


async def test_the_farewell_of_a_client_does_not_wait_for_the_line():
    keeper = Keeper()
    keeper.transport.line.cut()
    request = pb.CloseSessionRequest()
    farewell = keeper.transport.call(ENDPOINT, methods.CLOSE_SESSION, request, {}, math.inf)
    assert (await failure_of(farewell)).code is grpc.StatusCode.UNAVAILABLE


async def test_a_stream_tells_where_it_begins_and_then_its_events():
    keeper = Keeper()
    stream = await keeper.open()
    assert stream.headers == {"agentkeeper-index": "17", "agentkeeper-sequence": "41"}
    for sequence in (42, 43):
        keeper.put(sequence)
    keeper.events.put_nowait(None)
    seen: list[int] = []
    failure = await failure_of(numbers(stream, seen))
    assert seen == [42, 43]
    assert (failure.code, failure.definite) == (grpc.StatusCode.UNAVAILABLE, True)


async def test_an_error_among_the_events_breaks_the_stream():
    keeper = Keeper()
    stream = await keeper.open()
    keeper.put(42)
    keeper.events.put_nowait(CallError("RESOURCE_EXHAUSTED", "slow_watcher", "too slow"))
    seen: list[int] = []
    failure = await failure_of(numbers(stream, seen))
    assert seen == [42]
    assert (failure.code, failure.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "slow_watcher")


@pytest.mark.parametrize("mended", [False, True])
async def test_a_cut_breaks_a_stream_for_good(mended: bool):
    keeper = Keeper()
    stream = await keeper.open()
    seen: list[int] = []
    reading = asyncio.ensure_future(numbers(stream, seen))
    keeper.put(42)
    while not seen:  # noqa: ASYNC110
        await asyncio.sleep(0)
    keeper.transport.line.cut()
    if mended:
        keeper.transport.line.mend()
    failure = await failure_of(reading)
    assert (failure.code, failure.definite) == (grpc.StatusCode.UNAVAILABLE, None)
    while keeper.watches:  # noqa: ASYNC110
        await asyncio.sleep(0)


async def test_a_stream_that_is_cancelled_ends_at_the_keeper_too():
    keeper = Keeper()
    stream = await keeper.open()
    reading = asyncio.ensure_future(numbers(stream, []))
    while not keeper.watches:  # noqa: ASYNC110
        await asyncio.sleep(0)
    for _ in range(2):  # harmless when repeated
        stream.cancel()
    while keeper.watches:  # noqa: ASYNC110
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await reading
