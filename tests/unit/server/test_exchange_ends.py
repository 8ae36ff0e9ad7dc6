"""The shared stream: how it ends, and what becomes of its calls."""

from typing import Any

import pytest

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.server.errors import unavailable

from .desk import Desk, call, request
from .helpers import settle, until
from .stream_client import connected, failure


async def test_a_client_that_goes_away_leaves_nothing_behind() -> None:
    desk = Desk()
    async with connected(desk) as client:
        client.send(*(call(i, "Block", f"{i}", timeout_ms=60_000) for i in (1, 2, 3)))
        await until(lambda: len(desk.begun) == 3)
        await client.go()
        await settle()
        assert desk.cancelled == ["1", "2", "3"]
        assert desk.surroundings.calls.none.is_set()


async def test_a_connection_that_breaks_is_an_end() -> None:
    async with connected() as client:
        client.send(call(1, "Block", "one"))
        await until(lambda: client.desk.begun == ["one"])

        async def broken(data: bytes) -> None:
            raise ConnectionError

        client.exchange._write = broken
        client.send(call(2, "Echo"))
        with pytest.raises(ConnectionError):
            await client.running


async def test_a_client_that_sends_no_more_gets_its_answers() -> None:
    async with connected() as client:
        client.send(call(1, "Block", "one"), call(2, "Echo"))
        client.sent.put_nowait(None)
        await until(lambda: 2 in client.answers)
        assert not client.running.done()
        client.taking.clear()
        client.desk.blocked["one"].set_result("late")
        await until(lambda: 1 in client.answers)
        await settle()
        assert not client.running.done(), "the last frame is not out yet"
        client.taking.set()
        await client.running


async def test_a_client_whose_last_call_is_cancelled_is_done() -> None:
    async with connected() as client:
        client.send(call(1, "Block", "one"))
        client.send(cancelled=[1])
        client.sent.put_nowait(None)
        await client.running
        assert not client.answers


async def test_while_closing_new_calls_are_refused_and_others_finished() -> None:
    async with connected() as client:
        client.send(call(1, "Block", "one"))
        await until(lambda: client.desk.begun == ["one"])
        client.desk.closing.set()
        (answer,) = await client.ask(call(2, "Echo"))
        assert failure(answer).reason == "shutting_down"
        assert failure(answer).definite
        client.desk.blocked["one"].set_result("late")
        await until(lambda: 1 in client.answers)
        assert client.desk.surroundings.calls.none.is_set(), "the stream is no call"
        assert not client.running.done()


async def test_leaving_gives_the_answers_that_are_ready() -> None:
    async with connected() as client:
        client.taking.clear()
        client.send(*(call(i, "Echo") for i in (1, 2, 3)))
        await until(lambda: 1 in client.answers)
        client.send(call(4, "Echo"))
        await settle()
        client.exchange.leave(unavailable("leaving", "shutting_down"))
        client.send(call(5, "Echo"))
        client.taking.set()
        error = await client.ended()
        assert (error.code, error.reason, error.definite) == ("UNAVAILABLE", "shutting_down", True)
        assert set(client.answers) == {1, 2, 3, 4}
        assert client.desk.counted == {"Echo": 4}


async def test_leaving_with_calls_under_way_leaves_them_unknown() -> None:
    async with connected() as client:
        client.send(call(1, "Block", "one"))
        await until(lambda: client.desk.begun == ["one"])
        client.exchange.leave(unavailable("leaving", "shutting_down"))
        error = await client.ended()
        assert (error.code, error.definite) == ("UNAVAILABLE", False)


async def test_a_request_is_not_kept_while_its_call_lasts() -> None:
    async with connected() as client:
        padding = b"\xfa\x07\x90\x4e" + b"z" * 10_000  # of an unknown field
        held = pb.Call(id=1, method="Block", request=request("one") + padding)
        client.send(held)
        await until(lambda: client.desk.begun == ["one"])
        (task,) = client.exchange._calls.values()
        frames: list[Any] = []
        coroutine: Any = task.get_coro()
        while hasattr(coroutine, "cr_frame"):
            frames.append(coroutine.cr_frame)
            coroutine = coroutine.cr_await
        values = [value for frame in frames for value in frame.f_locals.values()]
        assert len(frames) >= 3
        assert not [v for v in values if isinstance(v, bytes) and len(v) > 1_000]
