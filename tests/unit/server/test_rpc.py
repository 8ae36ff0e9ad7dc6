"""Shared streams over gRPC in this process: how many there may be, and how they end."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.core import limits
from agentkeeper.server import rpc
from agentkeeper.server.exchange import Exchange
from agentkeeper.server.rpc import RpcServer

from .desk import Desk, call
from .helpers import until

PATH = "/agentkeeper.v1.ExchangeService/Exchange"


@asynccontextmanager
async def serving(desk: Desk) -> AsyncIterator[Any]:
    """A server of the desk's methods, and what opens a stream to it."""
    server = RpcServer(desk.services(), desk.surroundings)
    port = await server.start("127.0.0.1:0")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel.stream_stream(PATH)
    await server.stop()


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
        assert code is grpc.StatusCode.UNAVAILABLE
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
