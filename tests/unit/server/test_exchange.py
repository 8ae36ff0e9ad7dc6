"""The shared stream: frames in, frames out, and no call in another's way."""

import asyncio
from typing import Any

import pytest

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.core import limits
from agentkeeper.server import frames, turns
from agentkeeper.server.errors import NUMBERS

from .desk import call
from .helpers import settle, until
from .stream_client import BLOB, connected, failure, text


async def test_the_first_frame_comes_by_itself_and_tells_the_leader() -> None:
    async with connected() as client:
        (frame,) = client.frames
        assert (list(frame.answers), frame.leader_endpoint) == ([], "a:1")
        assert frame.log_index == 7


async def test_calls_are_answered_with_the_index_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "PASS_S", 60.0)  # or a busy machine has them in several passes
    async with connected() as client:
        client.desk.index = 9
        answers = await client.ask(*(call(i, "Echo", f"n{i}") for i in range(1, 6)))
        assert [text(answer) for answer in answers] == [f"n{i}" for i in range(1, 6)]
        assert len(client.frames) == 2, "what is ready together travels together"
        assert client.frames[1].log_index == 9
        assert not client.frames[1].HasField("leader_endpoint")
        assert client.desk.counted == {"Echo": 5}


async def test_the_leader_is_told_again_when_it_changes() -> None:
    async with connected() as client:
        client.desk.leader = ""
        await client.ask(call(1, "Echo"))
        assert client.frames[-1].HasField("leader_endpoint")
        assert client.frames[-1].leader_endpoint == ""
        await client.ask(call(2, "Echo"))
        assert not client.frames[-1].HasField("leader_endpoint")
        count = len(client.frames)
        client.exchange.look()
        await settle()
        assert len(client.frames) == count
        client.desk.leader = "b:1"
        client.exchange.look()
        await settle()
        assert len(client.frames) == count + 1
        assert client.frames[-1].leader_endpoint == "b:1"


async def test_one_frame_is_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "PASS_S", 60.0)
    async with connected() as client:
        count = limits.BATCH_COMMANDS
        calls = [call(i, "Write", f"n{i}", request_number=i) for i in range(1, count + 1)]
        client.send(*calls)
        await settle()
        around = client.desk.around
        assert len(around.batches) == 1
        assert around.commands() == list(range(1, count + 1))
        around.commit()
        await until(lambda: len(client.answers) == count)
        assert len(client.frames) == 2, "one entry, one frame of answers"


async def test_a_blocked_call_holds_up_nobody() -> None:
    async with connected() as client:
        client.send(call(1, "Block", "slow"), call(2, "Echo", "quick"))
        await until(lambda: 2 in client.answers)
        await client.ask(call(3, "Echo"))
        assert 1 not in client.answers
        client.desk.blocked["slow"].set_result("late")
        await until(lambda: 1 in client.answers)
        assert text(client.answers[1]) == "late"


async def test_failures_say_what_a_status_and_its_metadata_say() -> None:
    async with connected() as client:
        refused, unknown, broken = await client.ask(
            call(1, "Refuse", "some.field"), call(2, "Nope"), call(3, "Break")
        )
        assert failure(refused) == pb.CallFailure(
            code=NUMBERS["INVALID_ARGUMENT"],
            message="some.field: no good",
            definite=True,
            reason="bad_field",
            field="some.field",
            leader_endpoint="a:1",
        )
        assert failure(unknown).reason == "no_such_method"
        assert failure(unknown).field == "method"
        assert failure(broken).code == NUMBERS["INTERNAL"]
        assert not failure(broken).definite
        assert client.desk.counted == {"Refuse": 1, "Break": 1}


async def test_a_call_says_of_itself_what_metadata_says() -> None:
    async with connected() as client:
        last = limits.COUNTER_MAX
        await client.ask(
            call(1, "Echo"),
            call(
                2,
                "Echo",
                timeout_ms=60_000,
                session_id="s" * limits.SESSION_ID_BYTES,
                request_number=last,
                seen=last,
                stale=True,
                min_index=last,
            ),
        )
        plain, full = client.desk.callers
        assert plain == type(plain)()
        assert full.session_id == "s" * limits.SESSION_ID_BYTES
        assert (full.number, full.seen, full.min_index, full.stale) == (last, last, last, True)
        now_s = asyncio.get_running_loop().time()
        assert full.deadline_s is not None
        assert now_s < full.deadline_s <= now_s + 60


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"session_id": "s" * 65, "request_number": 1}, "session_id"),
        ({"session_id": "é" * 33, "request_number": 1}, "session_id"),
        ({"session_id": "a\nb", "request_number": 1}, "session_id"),
        ({"session_id": "s"}, "request_number"),
        ({"request_number": 2**53}, "request_number"),
        ({"seen": 2**53}, "seen"),
        ({"min_index": 2**64 - 1}, "min_index"),
        ({"timeout_ms": 2**64 - 1}, "timeout_ms"),
    ],
    ids=str,
)
async def test_bad_fields_refuse_that_call_alone(fields: dict[str, Any], named: str) -> None:
    async with connected() as client:
        bad, good = await client.ask(call(1, "Echo", **fields), call(2, "Echo", "fine"))
        assert text(good) == "fine"
        assert failure(bad).code == NUMBERS["INVALID_ARGUMENT"]
        assert (failure(bad).field, failure(bad).definite) == (named, True)
        assert client.desk.counted == {"Echo": 2}


async def test_a_cancelled_call_is_withdrawn_and_gets_no_answer() -> None:
    async with connected() as client:
        client.send(call(1, "Block", "one"), call(2, "Block", "two"))
        await until(lambda: client.desk.begun == ["one", "two"])
        client.send(cancelled=[1, 99])
        await until(lambda: client.desk.cancelled == ["one"])
        await client.ask(call(1, "Echo", "again"))  # its id is free
        assert text(client.answers[1]) == "again"
        client.desk.blocked["two"].set_result("late")
        await until(lambda: 2 in client.answers)
        assert len([a for f in client.frames for a in f.answers]) == 2


async def test_a_call_cancelled_in_its_own_frame_is_not_begun() -> None:
    async with connected() as client:
        client.send(call(1, "Block", "one"), call(2, "Echo"), cancelled=[1])
        await until(lambda: 2 in client.answers)
        assert client.desk.begun == []
        assert 1 not in client.answers


async def test_when_its_time_is_up_a_call_is_broken_off_and_of_unknown_outcome() -> None:
    async with connected() as client:
        (answer,) = await client.ask(call(1, "Block", "one", timeout_ms=1))
        await until(lambda: client.desk.cancelled == ["one"])
        assert failure(answer).code == NUMBERS["DEADLINE_EXCEEDED"]
        assert not failure(answer).definite
        await client.ask(call(1, "Echo"))  # its id is free


async def test_a_service_that_knows_better_at_the_deadline_is_heard() -> None:
    async with connected() as client:
        (answer,) = await client.ask(call(1, "InTime", "one", timeout_ms=1))
        assert failure(answer).code == NUMBERS["UNAVAILABLE"]
        assert failure(answer).definite


async def test_calls_run_out_in_the_order_of_their_deadlines() -> None:
    async with connected() as client:
        times = {1: 60, 2: 1, 3: 0, 4: 30, 5: 3_600_000}
        client.send(*(call(i, "Block", f"{i}", timeout_ms=t) for i, t in times.items()))
        await until(lambda: len(client.answers) == 3)
        assert list(client.answers) == [2, 4, 1]
        await until(lambda: client.desk.cancelled == ["2", "4", "1"])


async def test_deadlines_of_answered_calls_do_not_pile_up() -> None:
    async with connected() as client:
        for first in range(1, 2_001, 100):
            calls = [call(i, "Echo", timeout_ms=60_000) for i in range(first, first + 100)]
            await client.ask(*calls)
        assert len(client.exchange._deadlines) <= 300


async def test_too_many_calls_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STREAM_CALLS", 2)
    async with connected() as client:
        client.send(*(call(i, "Block", f"{i}") for i in (1, 2, 3)))
        await until(lambda: 3 in client.answers)
        assert failure(client.answers[3]).code == NUMBERS["RESOURCE_EXHAUSTED"]
        assert failure(client.answers[3]).definite
        assert client.desk.begun == ["1", "2"]
        assert client.desk.counted == {"Block": 3}
        client.desk.blocked["1"].set_result("done")
        await until(lambda: 1 in client.answers)
        client.send(call(4, "Block", "4"))
        await until(lambda: client.desk.begun == ["1", "2", "4"])


def encoded(*calls: pb.Call, cancelled: Any = ()) -> bytes:
    return pb.CallFrame(calls=calls, cancelled=cancelled).SerializeToString()


ECHO = call(2, "Echo")
NOT_UTF8 = b"\x0a\x07\x08\x07\x12\x03\xff\xfe\xfd"
BAD_FRAMES = [
    (b"\xff", "request"),
    (b"\x0a\x05a", "request"),
    (b"\x0b" * 200, "request"),
    (b"\xa3\x06\xa4\x06" + b"\x0a\x00" * 2_000_000, "calls"),
    (encoded(ECHO) + NOT_UTF8, "calls[1].method"),
    (encoded(ECHO, pb.Call(method="Echo")), "calls[1].id"),
    (encoded(ECHO, ECHO), "calls[1].id"),
    (encoded(ECHO, call(1, "Echo")), "calls[1].id"),
    (encoded(*(call(i, "Echo") for i in range(2, 2 + limits.FRAME_CALLS + 1))), "calls"),
    (b"\x0a\x00" * 2_000_000, "calls"),
    (b"\xa0\x06\x01" * 1_000_000, "calls"),
    (encoded(ECHO, cancelled=[5] * (limits.STREAM_CALLS + 1)), "cancelled"),
]


@pytest.mark.parametrize(("data", "field"), BAD_FRAMES, ids=range(len(BAD_FRAMES)))
async def test_a_frame_at_fault_ends_the_stream(data: bytes, field: str) -> None:
    async with connected() as client:
        client.send(call(1, "Block", "one"))
        await until(lambda: client.desk.begun == ["one"])
        client.sent.put_nowait(data)
        error = await client.ended()
        assert (error.code, error.field) == ("INVALID_ARGUMENT", field)
        assert not error.definite, "what became of the blocked call can't be known"
        await settle()
        assert client.desk.cancelled == ["one"]
        assert client.desk.counted == {"Block": 1}, "nothing of the frame is begun"


async def test_with_nothing_under_way_the_end_is_definite() -> None:
    async with connected() as client:
        client.sent.put_nowait(b"\xff")
        assert (await client.ended()).definite


async def test_full_frames_are_taken() -> None:
    async with connected() as client:
        calls = [call(i, "Echo", BLOB) for i in range(1, limits.FRAME_CALLS + 1)]
        assert len(encoded(*calls)) > frames.SMALL_FRAME_BYTES
        await client.ask(*calls)
        client.send(cancelled=range(1, limits.STREAM_CALLS + 1))
        await client.ask(call(5, "Echo"))
