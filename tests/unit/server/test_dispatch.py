"""The one door to the services: counted, bounded, and nothing but `CallError` comes out."""

import asyncio

import pytest

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.core import limits
from agentkeeper.server.caller import Caller
from agentkeeper.server.dispatch import Dispatcher
from agentkeeper.server.errors import CallError, unavailable

from .desk import Desk, request
from .helpers import settle


async def refusal(desk: Desk, name: str, data: bytes = b"") -> CallError:
    with pytest.raises(CallError) as caught:
        await desk.dispatcher.answer(name, data, Caller())
    return caught.value


async def test_a_call_is_answered_in_bytes_and_counted() -> None:
    desk = Desk()
    data = await desk.dispatcher.answer("Echo", request("x"), Caller())
    assert pb.RegisterResponse.FromString(data).agent_id == "x"
    assert desk.counted == {"Echo": 1}
    assert desk.calls == 0


@pytest.mark.parametrize("name", ["", "Nope", "Follow", "One/Echo", "é" * 1_000])
async def test_what_is_no_unary_method(name: str) -> None:
    desk = Desk()
    error = await refusal(desk, name)
    assert (error.code, error.reason, error.field) == ("UNIMPLEMENTED", "no_such_method", "method")
    assert error.definite
    assert len(error.message) < 100
    desk.dispatcher.count(name, unavailable("not even tried"))
    assert set(desk.counted) <= {"Follow"}, "a name of the caller's is no label"


async def test_a_unary_method_is_not_subscribed_to() -> None:
    desk = Desk()
    with pytest.raises(CallError) as caught:
        await desk.dispatcher.subscribe("Echo", b"", Caller())
    assert caught.value.reason == "no_such_method"
    assert not desk.counted


async def test_errors() -> None:
    desk = Desk()
    assert (await refusal(desk, "Refuse", request("f"))).field == "f"
    assert (await refusal(desk, "Echo", b"\xff")).field == "request"
    error = await refusal(desk, "Break")
    assert (error.code, error.reason, error.definite) == ("INTERNAL", "internal", False)
    assert desk.calls == 0
    assert desk.counted == {"Refuse": 1, "Echo": 1, "Break": 1}


async def test_no_more_calls_at_a_time_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CONCURRENT_CALLS", 1)
    desk = Desk()
    first = asyncio.ensure_future(desk.dispatcher.answer("Block", request("1"), Caller()))
    await settle()
    error = await refusal(desk, "Echo")
    assert (error.code, error.reason, error.definite) == ("RESOURCE_EXHAUSTED", "overloaded", True)
    assert desk.counted == {"Block": 1, "Echo": 1}
    desk.blocked["1"].set_result("done")
    await first
    assert desk.surroundings.calls.none.is_set()
    await desk.dispatcher.answer("Echo", b"", Caller())


async def test_short_calls_find_room_however_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CONCURRENT_CALLS", 1)
    monkeypatch.setattr(limits, "WAITING_CALLS", 3)
    desk = Desk()
    waiting = [
        asyncio.ensure_future(desk.dispatcher.answer("Wait", request(name), Caller()))
        for name in "123"
    ]
    await settle()
    assert len(desk.begun) == 3
    assert (await refusal(desk, "Wait", request("4"))).reason == "overloaded"
    await desk.dispatcher.answer("Echo", b"", Caller())
    short = asyncio.ensure_future(desk.dispatcher.answer("Wait", request("no"), Caller()))
    await settle()
    assert (await refusal(desk, "Echo")).reason == "overloaded"
    for name in ("1", "2", "3", "no"):
        desk.blocked[name].set_result("done")
    await asyncio.gather(short, *waiting)
    calls = desk.surroundings.calls
    assert (calls.working, calls.waiting, calls.bytes) == (0, 0, 0)
    assert calls.none.is_set()


async def test_the_bytes_of_requests_under_way_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "UNDER_WAY_BYTES", 5_000)
    desk = Desk()
    padding = b"\xfa\x07\xa0\x1f" + b"z" * 4_000  # of an unknown field
    wait = asyncio.ensure_future(
        desk.dispatcher.answer("Wait", request("wait") + padding, Caller())
    )
    block = asyncio.ensure_future(
        desk.dispatcher.answer("Block", request("block") + padding, Caller())
    )
    await settle()
    assert desk.begun == ["wait", "block"], "the padding is not kept while a call waits"
    error = await refusal(desk, "Echo", padding)
    assert (error.code, error.reason, error.definite) == ("RESOURCE_EXHAUSTED", "overloaded", True)
    await desk.dispatcher.answer("Echo", b"", Caller())
    for name in ("wait", "block"):
        desk.blocked[name].set_result("done")
    await asyncio.gather(wait, block)
    assert desk.surroundings.calls.bytes == 0


async def test_while_closing_calls_under_way_end_and_new_ones_are_refused() -> None:
    desk = Desk()
    first = asyncio.ensure_future(desk.dispatcher.answer("Block", request("1"), Caller()))
    await settle()
    desk.closing.set()
    error = await refusal(desk, "Echo")
    assert (error.code, error.reason, error.definite) == ("UNAVAILABLE", "shutting_down", True)
    assert not desk.surroundings.calls.none.is_set()
    desk.blocked["1"].set_result("done")
    await first
    assert desk.surroundings.calls.none.is_set()


async def test_a_cancelled_call_is_cancelled() -> None:
    desk = Desk()
    call = asyncio.ensure_future(desk.dispatcher.answer("Block", request("1"), Caller()))
    await settle()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert desk.cancelled == ["1"]
    assert desk.calls == 0


async def test_a_subscription_is_a_call_for_as_long_as_it_lives() -> None:
    desk = Desk()
    events, after = await desk.dispatcher.subscribe("Follow", b"", Caller())
    assert (after, desk.calls, desk.counted) == (5, 1, {"Follow": 1})
    assert [event async for event in events] == [b"first"]
    assert (desk.calls, desk.closed) == (0, 1)


@pytest.mark.parametrize("begun", [True, False])
async def test_a_closed_subscription_is_over_also_if_never_begun(begun: bool) -> None:
    desk = Desk()
    events, _ = await desk.dispatcher.subscribe("Follow", b"", Caller())
    if begun:
        assert await anext(events) == b"first"
    await events.aclose()
    assert desk.calls == 0
    assert desk.closed == begun


@pytest.mark.parametrize(("kind", "code"), [("cut", "UNAVAILABLE"), ("broken", "INTERNAL")])
async def test_events_end_with_an_error(kind: str, code: str) -> None:
    desk = Desk()
    events, _ = await desk.dispatcher.subscribe("Follow", request(kind), Caller())
    assert await anext(events) == b"first"
    with pytest.raises(CallError) as caught:
        await anext(events)
    assert caught.value.code == code
    assert desk.calls == 0


async def test_a_refused_subscription() -> None:
    desk = Desk()
    for data, field in ((request("refused"), "topics"), (b"\xff", "request")):
        with pytest.raises(CallError) as caught:
            await desk.dispatcher.subscribe("Follow", data, Caller())
        assert caught.value.field == field
    desk.closing.set()
    with pytest.raises(CallError) as caught:
        await desk.dispatcher.subscribe("Follow", b"", Caller())
    assert caught.value.reason == "shutting_down"
    assert desk.calls == 0


async def test_names_are_unique_over_services() -> None:
    desk = Desk()
    services = desk.services()
    with pytest.raises(AssertionError, match="two methods"):
        Dispatcher({**services, "Three": services["One"][:1]}, desk.surroundings)
