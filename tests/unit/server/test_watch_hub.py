"""The watch hub: from a sequence number on, in order, each at its own pace."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.core import limits
from agentkeeper.server import watch as module
from agentkeeper.server.errors import CallError, unavailable
from agentkeeper.server.pace import Pace
from agentkeeper.server.watch import WatchHub

from .helpers import Log, refusal_of, settle


class Hub:
    def __init__(self) -> None:
        self.log = Log()
        self.encoded = 0
        self.hub = WatchHub(self.log.machine, self._encode, Pace())

    def _encode(self, event: object) -> bytes:
        self.encoded += 1
        return f"{event.sequence} {event.subject}".encode()

    def happen(self, *agent_ids: str) -> None:
        for agent_id in agent_ids:
            self.log.register(agent_id)
        self.hub.wake()

    def follow(self, after: int) -> AsyncGenerator[bytes, None]:
        return self.hub.follow(after, lambda event: not event.subject.startswith("x"))


async def take(watch: AsyncGenerator[bytes, None], count: int) -> list[bytes]:
    return [await anext(watch) for _ in range(count)]


async def refusal(watch: AsyncGenerator[bytes, None]) -> CallError:
    with pytest.raises(CallError) as caught:
        await anext(watch)
    return caught.value


async def test_a_watch_resumes_after_a_sequence_number() -> None:
    hub = Hub()
    hub.happen("a", "b", "c")
    assert await take(hub.follow(0), 3) == [b"1 a", b"2 b", b"3 c"]
    assert await take(hub.follow(2), 1) == [b"3 c"]
    assert hub.encoded == 3  # each once, for all watchers


async def test_a_watch_wakes_for_what_happens_and_skips_what_it_does_not_want() -> None:
    hub = Hub()
    watch = hub.follow(0)
    following = asyncio.ensure_future(anext(watch))
    await settle()
    hub.happen("x1", "x2")
    await settle()
    assert not following.done()
    hub.happen("a")
    assert await following == b"3 a"
    hub.happen("b", "x3", "c")
    assert await take(watch, 2) == [b"4 b", b"6 c"]


async def test_what_is_no_longer_kept_is_out_of_range(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "EVENTS", 3)
    hub = Hub()
    hub.happen(*"abcdef")
    error = refusal_of(lambda: hub.hub.check(2))
    assert error is not None
    assert (error.code, error.oldest) == ("OUT_OF_RANGE", 4)
    assert (error.code, error.field) == ("OUT_OF_RANGE", "after_sequence")
    assert "4" in error.message
    hub.hub.check(3)
    assert await take(hub.follow(3), 3) == [b"4 d", b"5 e", b"6 f"]


async def test_a_slow_watcher_is_cut_and_hurts_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "EVENTS", 3)
    hub = Hub()
    hub.happen("a")
    slow, quick = hub.follow(0), hub.follow(0)
    assert await take(slow, 1) == await take(quick, 1) == [b"1 a"]
    for agent_id in "bcdef":
        hub.happen(agent_id)
        await take(quick, 1)
    error = await refusal(slow)
    assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "slow_watcher")
    assert "after 1" in error.message
    assert hub.hub.watchers == 1
    hub.happen("g")
    assert await take(quick, 1) == [b"7 g"]


async def test_all_watches_are_cut_and_later_allowed_again() -> None:
    hub = Hub()
    watches = [asyncio.ensure_future(anext(hub.follow(0))) for _ in range(3)]
    await settle()
    hub.hub.cut(lambda: unavailable("away"))
    for watch in watches:
        with pytest.raises(CallError):
            await watch
    assert (await refusal(hub.follow(0))).code == "UNAVAILABLE"
    hub.hub.cut(None)
    hub.happen("a")
    assert await take(hub.follow(0), 1) == [b"1 a"]


async def test_too_many_watches_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WATCHERS", 1)
    hub = Hub()
    hub.happen("a")
    first = hub.follow(0)
    await take(first, 1)
    error = refusal_of(lambda: hub.hub.check(0))
    assert error is not None
    assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "overloaded")
    await first.aclose()
    hub.hub.check(0)
    assert await take(hub.follow(0), 1) == [b"1 a"]


async def test_marks_tell_how_far_a_watch_has_come_for_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "PROGRESS_EVENTS", 3)
    hub = Hub()
    watch = hub.hub.follow(0, lambda event: not event.subject.startswith("x"), progress=True)
    hub.happen("x1", "x2", "a", "x4", "x5", "x6", "x7", "x8", "b", "x10", "x11", "x12")
    marks = [pb.Event(sequence_number=n).SerializeToString() for n in (6, 12)]
    assert await take(watch, 4) == [b"3 a", marks[0], b"9 b", marks[1]]
    assert await take(hub.follow(0), 2) == [b"3 a", b"9 b"]
    following = asyncio.ensure_future(anext(watch))
    hub.happen("x13", "x14")
    await settle()
    assert not following.done()
    hub.happen("x15")
    assert await following == pb.Event(sequence_number=15).SerializeToString()


async def test_marks_come_before_what_follows_them_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However few events are kept, as large ones push each other out."""
    monkeypatch.setattr(limits, "EVENT_BYTES", 4_000)
    hub = Hub()
    watch = hub.hub.follow(0, lambda event: False, progress=True)
    state, marks = hub.log.machine.state, [0]
    following = asyncio.ensure_future(anext(watch))
    for number in range(300):
        hub.happen(f"x{number}")
        await settle()
        if following.done():
            marks.append(pb.Event.FromString(following.result()).sequence_number)
            following = asyncio.ensure_future(anext(watch))
            await settle()
        assert marks[-1] + 1 >= state.first_sequence, "resuming there would find a gap"
    assert state.first_sequence > 100
    assert 3 < len(marks) < 30
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
