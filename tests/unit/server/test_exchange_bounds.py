"""The shared stream: what a client may ask for at a time, and what it leaves unread."""

import asyncio
from itertools import pairwise

import pytest

from agentkeeper.core import limits
from agentkeeper.server import admission, turns
from agentkeeper.server import exchange as module

from .desk import Desk, call
from .helpers import settle, until
from .stream_client import BLOB, connected, failure, text


async def test_answers_are_split_into_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ANSWER_FRAME_BYTES", 2_500)
    async with connected() as client:
        large = "y" * 5_000
        names = [BLOB, BLOB, BLOB, large, BLOB]
        answers = await client.ask(*(call(i + 1, "Echo", name) for i, name in enumerate(names)))
        assert [text(answer) for answer in answers] == names
        assert [[a.id for a in f.answers] for f in client.frames[1:]] == [[1, 2], [3], [4], [5]]
        assert all(size <= 2_500 or size > 5_000 for size in client.sizes)


async def test_a_client_that_does_not_read_is_not_read_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "STREAM_UNREAD_BYTES", 3_000)
    async with connected() as client:
        client.taking.clear()
        for i in range(1, 21):
            client.send(call(i, "Echo", BLOB))
            await settle()
        begun = client.desk.counted["Echo"]
        assert 3 <= begun <= 5
        await settle()
        assert client.desk.counted["Echo"] == begun
        client.taking.set()
        await until(lambda: len(client.answers) == 20)


async def test_a_client_that_never_reads_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STREAM_CUT_BYTES", 10_000)
    async with connected() as client:
        client.taking.clear()
        client.send(call(50, "Block", "one"), *(call(i, "Echo", BLOB) for i in range(1, 21)))
        error = await client.ended()
        assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "slow_reader")
        assert not error.definite
        await settle()
        assert client.desk.cancelled == ["one"]
        assert not client.exchange._ready


async def test_a_frame_is_begun_no_faster_than_its_answers_are_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "STREAM_UNREAD_BYTES", 3_000)
    async with connected() as client:
        client.taking.clear()
        client.send(*(call(i, "Echo", BLOB) for i in range(1, 21)))
        await settle()
        assert 3 <= client.desk.counted["Echo"] <= 5
        client.taking.set()
        await until(lambda: len(client.answers) == 20)


async def test_a_long_frame_leaves_turns_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "PASS_S", 0.0)  # whatever is begun takes as long
    async with connected() as client:
        client.send(*(call(i, "Block", f"{i}") for i in range(1, 51)))
        begun, desk = [0], client.desk
        while len(desk.begun) < 50:
            await asyncio.sleep(0)
            begun.append(len(desk.begun))
        assert max(b - a for a, b in pairwise(begun)) == 1
        assert desk.begun == [f"{i}" for i in range(1, 51)]


async def test_calls_are_broken_off_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "PASS_STEPS", 4)
    desk = Desk()
    async with connected(desk) as one, connected(desk) as other:
        for client, name in ((one, "a"), (other, "b")):
            client.send(*(call(i, "Block", f"{name}{i}") for i in range(1, 41)))
        await until(lambda: len(desk.begun) == 80)
        one.send(cancelled=range(1, 41))
        other.running.cancel()
        ended = [0]
        while len(desk.cancelled) < 80:
            await asyncio.sleep(0)
            ended.append(len(desk.cancelled))
        assert max(b - a for a, b in pairwise(ended)) <= 4


async def test_the_stream_with_most_unread_answers_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "UNREAD_BYTES", 10_000)
    desk = Desk()
    async with connected(desk) as greedy, connected(desk) as modest:
        for client, count in ((greedy, 7), (modest, 2)):
            client.taking.clear()
            client.send(*(call(i, "Echo", BLOB) for i in range(1, count + 1)))
        await until(lambda: desk.counted["Echo"] == 9)
        await settle()
        assert not greedy.running.done()
        modest.send(call(3, "Echo", BLOB))
        error = await greedy.ended()
        assert (error.reason, error.definite) == ("slow_reader", False)
        assert greedy.exchange.unread_bytes == 0
        assert desk.surroundings.unread.bytes == modest.exchange.unread_bytes
        modest.taking.set()
        await until(lambda: len(modest.answers) == 3)
    assert desk.surroundings.unread.bytes == 0
    assert not desk.surroundings.unread.streams


async def test_a_client_that_takes_nothing_for_long_is_cut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with connected() as client:
        client.taking.clear()
        client.send(call(1, "Echo"))
        await until(lambda: 1 in client.answers)
        client.exchange.look()
        await settle()
        assert not client.running.done()
        monkeypatch.setattr(module, "STALLED_S", -1.0)
        client.exchange.look()
        assert (await client.ended()).reason == "slow_reader"


async def test_while_a_frame_is_written_the_end_is_not_definite() -> None:
    async with connected() as client:
        client.taking.clear()
        client.send(call(1, "Echo"))
        await until(lambda: 1 in client.answers)
        assert not client.exchange._calls
        assert not client.exchange._ready
        client.sent.put_nowait(b"\xff")
        assert not (await client.ended()).definite


async def test_working_calls_of_a_stream_are_fewer_than_those_that_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "STREAM_WORKING_CALLS", 1)
    async with connected() as client:
        client.send(call(1, "Wait", "1"), call(2, "Wait", "2"))
        await until(lambda: client.desk.begun == ["1", "2"])
        client.send(call(3, "Block", "3"))
        (answer,) = await client.ask(call(4, "Echo"))
        assert (failure(answer).reason, failure(answer).definite) == ("overloaded", True)
        client.desk.blocked["3"].set_result("done")
        await until(lambda: 3 in client.answers)
        assert text((await client.ask(call(5, "Echo", "x")))[0]) == "x"


async def test_what_waits_too_long_for_its_turn_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "PASS_S", 0.0)
    monkeypatch.setattr(limits, "LATE_MS", 0)
    monkeypatch.setattr(admission, "UPKEEP", {"Block"})
    async with connected() as client:
        client.send(call(50, "Block", "upkeep"))
        answers = await client.ask(*(call(i, "Echo", f"{i}") for i in range(1, 6)))
        late = [failure(answer) for answer in answers if answer.HasField("failure")]
        assert len(late) >= 3
        assert {(one.reason, one.definite) for one in late} == {("overloaded", True)}
        assert client.desk.counted["Echo"] == 5
        assert client.desk.begun == ["upkeep"]


async def test_a_client_with_much_to_do_delays_others_by_a_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turns, "PASS_S", 0.0)  # a turn takes a whole pass
    desk = Desk()
    async with connected(desk) as greedy, connected(desk) as modest:
        greedy.send(*(call(i, "Block", f"greedy {i}") for i in range(1, 201)))
        await until(lambda: len(desk.begun) >= 3)
        modest.send(call(1, "Block", "modest"))
        before = len(desk.begun)
        await until(lambda: "modest" in desk.begun)
        # Those are a turn for the frame and one for the call, and those of the other in between.
        assert desk.begun.index("modest") - before <= 5
        await greedy.go()


async def test_no_more_is_read_before_what_was_read_has_begun(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turns, "PASS_S", 0.0)
    async with connected() as client:
        for i in range(20):
            client.send(*(call(10 * i + j, "Block", "") for j in range(1, 11)))
        begun, read = client.desk.begun, [0]
        while len(begun) < 200:
            await asyncio.sleep(0)
            read.append(len(client.exchange._calls) - len(begun))
        assert max(read) <= 20
