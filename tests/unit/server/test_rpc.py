"""Shared streams over gRPC in this process: how many there may be, and how they end."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.core import limits
from agentkeeper.server import rpc
from agentkeeper.server.caller import Caller
from agentkeeper.server.exchange import Exchange
from agentkeeper.server.rpc import RpcServer
from agentkeeper.server.sending import Sending
from agentkeeper.server.services.method import Method, Stream, Subscription

from .desk import Desk, Request, call, request
from .helpers import until

PATH = "/agentkeeper.v1.ExchangeService/Exchange"
ECHO = "/agentkeeper.v1.One/Echo"
FLOOD = "/agentkeeper.v1.Three/Flood"


class FloodingDesk(Desk):
    """Its `Flood` gives more than any connection holds, for as long as that is taken."""

    def __init__(self, stalled_s: float | None) -> None:
        self.stalled_s = stalled_s
        self.sent = 0
        super().__init__()

    def services(self) -> dict[str, list[Method]]:
        flood = Stream("Flood", Request, self.flood, self.stalled_s)
        return {**super().services(), "Three": [flood]}

    async def flood(self, request: pb.GetAgentRequest, caller: Caller) -> Subscription:
        return Subscription(self._endless(), None)

    async def _endless(self) -> AsyncGenerator[bytes, None]:
        while True:
            self.sent += 1
            yield bytes(1_000_000)


@asynccontextmanager
async def connected(desk: Desk) -> AsyncIterator[grpc.aio.Channel]:
    """A connection to a server of the desk's methods."""
    server = RpcServer(desk.services(), desk.surroundings)
    port = await server.start("127.0.0.1:0")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.stop()


@asynccontextmanager
async def serving(desk: Desk) -> AsyncIterator[Any]:
    """A server of the desk's methods, and what opens a shared stream to it."""
    async with connected(desk) as channel:
        yield channel.stream_stream(PATH)


async def status_of(stream: Any) -> tuple[grpc.StatusCode, dict[str, str]]:
    """How a stream ends."""

    async def read_on() -> None:
        while await stream.read() is not grpc.aio.EOF:
            pass

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await read_on()
    trailing: Any = caught.value.trailing_metadata()
    return caught.value.code(), dict(trailing)


async def test_no_more_streams_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STREAMS", 1)
    desk = Desk()
    async with serving(desk) as open_stream:
        first = open_stream()
        assert pb.AnswerFrame.FromString(await first.read()).leader_endpoint == "a:1"
        code, told = await status_of(open_stream())
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert told["agentkeeper-reason"] == "overloaded"
        assert told["agentkeeper-definite"] == "true"
        await first.write(pb.CallFrame(calls=[call(1, "Echo", "x")]).SerializeToString())
        (answer,) = pb.AnswerFrame.FromString(await first.read()).answers
        assert answer.id == 1
        await first.done_writing()
        assert await first.read() is grpc.aio.EOF
        again = open_stream()
        assert await again.read()
        again.cancel()
    assert desk.counted == {"Echo": 1}


async def test_unary_calls_have_turns_and_those_that_wait_too_long_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk, held = Desk(), [True]
    turns = desk.surroundings.turns
    monkeypatch.setattr(turns, "_held", lambda: held[0])
    async with connected(desk) as channel:
        for late_ms in (limits.LATE_MS, -1):
            monkeypatch.setattr(limits, "LATE_MS", late_ms)
            held[0], before = True, desk.counted["Echo"]
            calling = channel.unary_unary(ECHO)(request("x"))
            await until(lambda: bool(turns._waiting))
            assert desk.counted["Echo"] == before
            held[0] = False
            turns.resume()
            if late_ms >= 0:
                assert await calling
                continue
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await calling
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            trailing: Any = caught.value.trailing_metadata()
            told = dict(trailing)
            assert told["agentkeeper-reason"] == "overloaded"
            assert told["agentkeeper-definite"] == "true"


async def test_while_closing_no_stream_is_opened() -> None:
    desk = Desk()
    async with serving(desk) as open_stream:
        desk.closing.set()
        code, told = await status_of(open_stream())
        assert code is grpc.StatusCode.UNAVAILABLE
        assert told["agentkeeper-reason"] == "shutting_down"


async def test_a_stream_that_ends_at_once_has_a_status_each_time() -> None:
    """However far its first frame is when it ends."""
    async with serving(Desk()) as open_stream:
        for _ in range(300):
            stream = open_stream()
            await stream.write(b"\xff")
            code, told = await status_of(stream)
            assert code is grpc.StatusCode.INVALID_ARGUMENT
            assert told["agentkeeper-field"] == "request"


async def test_a_client_that_goes_away_ends_its_calls() -> None:
    desk = Desk()
    async with serving(desk) as open_stream:
        stream = open_stream()
        await stream.write(pb.CallFrame(calls=[call(1, "Block", "one")]).SerializeToString())
        await until(lambda: desk.begun == ["one"])
        stream.cancel()
        await until(lambda: desk.cancelled == ["one"])
    assert desk.calls == 0


async def test_streams_are_looked_after_though_that_failed_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rpc, "LOOK_S", 0.001)
    look, failures = Exchange.look, list[ZeroDivisionError]()

    def look_or_fail(exchange: Exchange) -> None:
        if not failures:
            failures.append(ZeroDivisionError())
            raise failures[0]
        look(exchange)

    monkeypatch.setattr(Exchange, "look", look_or_fail)
    desk = Desk()
    async with serving(desk) as open_stream:
        stream = open_stream()
        await stream.read()
        await until(lambda: bool(failures))
        desk.leader = "b:1"
        assert pb.AnswerFrame.FromString(await stream.read()).leader_endpoint == "b:1"
        stream.cancel()


@pytest.mark.parametrize("stops", [False, True])
async def test_a_stream_that_nobody_reads_gives_its_place_to_others(
    monkeypatch: pytest.MonkeyPatch, stops: bool
) -> None:
    """After a while, or at once when the replica stops."""
    monkeypatch.setattr(rpc, "LOOK_S", 0.001)
    desk = FloodingDesk(stalled_s=None if stops else 0.05)
    async with connected(desk) as channel:
        stream: Any = channel.unary_stream(FLOOD)(request(""))
        await stream.initial_metadata()
        await until(lambda: desk.sent > 0)
        if stops:
            desk.closing.set()
        await until(lambda: desk.calls == 0)
        sent = desk.sent
        code, told = await status_of(stream)
        assert code is grpc.StatusCode[("RESOURCE_EXHAUSTED", "UNAVAILABLE")[stops]]
        assert told["agentkeeper-reason"] == ("slow_reader", "shutting_down")[stops]
    assert desk.sent == sent


async def test_a_stream_that_is_read_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many writes, together longer than one may take."""
    monkeypatch.setattr(rpc, "LOOK_S", 0.001)
    desk = FloodingDesk(stalled_s=30.0)
    looked_at = 0

    def look(sending: Sending) -> None:
        nonlocal looked_at
        if desk.sent > looked_at:
            looked_at = desk.sent
            sending._since_s -= 20.0  # as if it took so long
        original(sending)

    original = Sending.look
    monkeypatch.setattr(Sending, "look", look)
    async with connected(desk) as channel:
        stream: Any = channel.unary_stream(FLOOD)(request(""))
        while looked_at < 10:
            assert len(await stream.read()) == 1_000_000
        stream.cancel()
        await until(lambda: desk.calls == 0)
