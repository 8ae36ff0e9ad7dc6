"""Events as an iterator: none is lost, and nothing is left behind however the reader leaves."""

import asyncio
import gc
import threading

import pytest
from sdk_story import PATIENCE_S, an_agent, background, eventually, eventually_async

from agentkeeper import ClientClosed, Compacted, InvalidArgument, Lease, WatchGap
from agentkeeper.client.buffer import BUFFERED_EVENTS
from agentkeeper.core import limits
from agentkeeper.testing import FakeKeeper


class Press:
    """Makes events: two for each lease that comes and goes."""

    def __init__(self, keeper: FakeKeeper) -> None:
        self.keeper = keeper
        self.client = keeper.client()
        self.agent_id = an_agent(self.client).agent_id
        self.number = 0

    def publish(self, count=1):
        for _ in range(count):
            self.client.acquire_lease(f"job-{self.number}", self.agent_id).release()
            self.number += 1

    @property
    def last(self):
        return self.keeper._stack.machine.state.last_sequence


@pytest.fixture
def press(fake_keeper: FakeKeeper) -> Press:
    return Press(fake_keeper)


@pytest.fixture
def few_kept(monkeypatch):
    """The keeper keeps only so many events."""
    monkeypatch.setattr(limits, "EVENTS", 20)
    return 20


def take(stream, count):
    """The next events, from a thread that can be given up waiting for."""
    return background(lambda: [next(stream) for _ in range(count)]).result(PATIENCE_S)


def jobs(events):
    assert all(isinstance(event.payload, Lease) for event in events)
    return [(event.topic, event.payload.task_id) for event in events]


def both(*numbers):
    return [
        (topic, f"job-{number}")
        for number in numbers
        for topic in ("lease.acquired", "lease.released")
    ]


# ---- iterating


def test_everything_that_happens_is_yielded_in_order(press: Press):
    client = press.keeper.client()
    with client.events(["lease."]) as stream:
        press.publish(5)
        seen = take(stream, 10)
    assert jobs(seen) == both(*range(5))
    numbers = [event.sequence for event in seen]
    assert numbers == sorted(set(numbers))
    assert iter(stream) is stream


def test_without_topics_all_are_yielded_and_after_a_number_those_that_follow(press: Press):
    press.publish(3)
    client = press.keeper.client()
    with client.events(after=0) as stream:
        seen = take(stream, 7)
    assert seen[0].topic == "agent.registered"
    assert jobs(seen[1:]) == both(0, 1, 2)
    with client.events(after=seen[2].sequence) as stream:
        assert take(stream, 4) == seen[3:]


def test_more_than_is_received_ahead_is_yielded_too(press: Press):
    with press.keeper.client().events(["lease."]) as stream:
        press.publish(BUFFERED_EVENTS)
        assert jobs(take(stream, 2 * BUFFERED_EVENTS)) == both(*range(BUFFERED_EVENTS))


def test_a_loop_may_be_left_and_gone_on_with(press: Press):
    stream = press.keeper.client().events(["lease."])
    press.publish(4)
    seen = []
    for event in stream:
        seen.append(event)
        if len(seen) == 3:
            break
    seen += take(stream, 5)
    assert jobs(seen) == both(0, 1, 2, 3)
    stream.close()
    assert list(stream) == []


def test_a_cut_costs_no_event(press: Press):
    client = press.keeper.client()
    with client.events(["lease."]) as stream:
        for _ in range(3):
            press.publish(2)
            press.keeper.disconnect(client)
            press.publish(2)
            press.keeper.reconnect(client)
            press.keeper.advance(5)
        assert jobs(take(stream, 24)) == both(*range(12))


def test_bad_topics_are_refused(press: Press):
    client = press.keeper.client()
    with pytest.raises(TypeError, match="sequence of prefixes"):
        client.events("agent.")
    with pytest.raises(InvalidArgument):
        client.events(["x" * 1000])
    eventually(lambda: press.keeper.calls_under_way == 0, "no watch")


# ---- closing


def test_closing_drops_what_is_left(press: Press):
    stream = press.keeper.client().events(["lease."])
    press.publish(3)
    take(stream, 1)
    stream.close()
    stream.close()
    assert stream.closed
    assert list(stream) == []
    eventually(lambda: press.keeper.calls_under_way == 0, "the keeper's end of the watch")


def test_a_stream_may_be_closed_while_another_thread_waits(press: Press):
    stream = press.keeper.client().events(["lease."])
    waiting = background(list, stream)
    eventually(lambda: stream._taking is not None, "a reader that waits")
    stream.close()
    assert waiting.result(PATIENCE_S) == []


def test_the_end_of_the_client_ends_its_streams(press: Press):
    client = press.keeper.client()
    stream, idle = client.events(["lease."]), client.events()
    waiting = background(list, stream)
    eventually(lambda: stream._taking is not None, "a reader that waits")
    client.close()
    with pytest.raises(ClientClosed):
        waiting.result(PATIENCE_S)
    with pytest.raises(ClientClosed):
        next(idle)
    with pytest.raises(ClientClosed):
        client.events()
    stream.close()


def test_a_stream_that_is_dropped_ends_its_watch(press: Press):
    client = press.keeper.client()
    stream = client.events(["lease."])
    press.publish(1)
    for event in stream:
        assert event.payload.task_id == "job-0"
        break
    assert press.keeper.calls_under_way == 1
    del stream
    gc.collect()
    eventually(lambda: press.keeper.calls_under_way == 0, "the keeper's end of the watch")


# ---- gaps


def test_a_gap_is_raised_and_the_iteration_goes_on(press: Press, few_kept: int):
    client = press.keeper.client()
    with client.events(["lease."]) as stream:
        press.publish(2)
        seen = take(stream, 4)
        press.keeper.disconnect(client)
        press.publish(30)
        press.keeper.reconnect(client)
        press.keeper.advance(5)
        with pytest.raises(Compacted) as gap:
            take(stream, 1)
        assert gap.value.code().name == "OUT_OF_RANGE"
        assert gap.value.oldest == press.last - few_kept + 1
        assert str(seen[-1].sequence + 1) in gap.value.details()
        rest = take(stream, few_kept)
        assert rest[0].sequence == gap.value.oldest
        press.publish(1)
        assert jobs(take(stream, 2)) == both(32)


def test_a_gap_is_told_to_whoever_wants_to_know(press: Press, few_kept: int):
    client, gaps = press.keeper.client(), []
    with client.events(["lease."], on_gap=gaps.append) as stream:
        press.publish(1)
        seen = take(stream, 2)
        press.keeper.disconnect(client)
        press.publish(30)
        press.keeper.reconnect(client)
        press.keeper.advance(5)
        rest = take(stream, few_kept)
    assert gaps == [WatchGap(seen[-1].sequence, press.last - few_kept + 1)]
    assert rest[0].sequence == gaps[0].oldest


def test_a_beginning_that_is_gone_is_a_gap_like_any_other(press: Press, few_kept: int):
    """The iteration raises, and may be continued."""
    press.publish(30)
    client = press.keeper.client()
    with client.events(after=1) as stream:
        with pytest.raises(Compacted) as gap:
            take(stream, 1)
        assert take(stream, 1)[0].sequence == gap.value.oldest


def test_a_beginning_that_is_gone_is_told_too(press: Press, few_kept: int):
    press.publish(30)
    client, gaps = press.keeper.client(), []
    with client.events(after=1, on_gap=gaps.append) as stream:
        rest = take(stream, few_kept)
    assert gaps == [WatchGap(1, press.last - few_kept + 1)]
    assert rest[0].sequence == gaps[0].oldest


def test_a_watch_from_a_beginning_that_is_gone_is_refused(press: Press, few_kept: int):
    press.publish(30)
    client, gaps, seen = press.keeper.client(), [], []
    with pytest.raises(Compacted) as gap:
        client.watch([], seen.append, after=1)
    assert gap.value.oldest == press.last - few_kept + 1
    with client.watch([], seen.append, after=1, on_gap=gaps.append):
        eventually(lambda: len(seen) == few_kept, "what is kept")
    assert gaps == [WatchGap(1, gap.value.oldest)]


def test_a_quiet_watch_does_not_fall_behind(fake_keeper: FakeKeeper, monkeypatch):
    """Nothing of its own happened, but more than is kept; it knows where it is all the same."""
    monkeypatch.setattr(limits, "EVENTS", 1_500)
    press = Press(fake_keeper)
    client = fake_keeper.client()
    with client.events(["leader."]) as stream:
        press.publish(1_600)
        fake_keeper.disconnect(client)
        fake_keeper.advance(1)
        fake_keeper.reconnect(client)
        fake_keeper.advance(5)
        client.campaign("group", press.agent_id)
        assert take(stream, 1)[0].topic == "leader.changed"


# ---- callbacks


def test_a_callback_that_raises_costs_no_event(press: Press, caplog):
    seen = []

    def callback(event):
        seen.append(event)
        raise ZeroDivisionError

    with press.keeper.client().watch(["lease."], callback) as watch:
        press.publish(3)
        eventually(lambda: len(seen) == 6, "all events")
        assert watch.active
        assert watch.error is None
        raised = "the callback of a watch raised"
        eventually(lambda: caplog.text.count(raised) == 6, "each in the log")
    assert not watch.active


def test_a_callback_may_cancel_its_own_watch(press: Press):
    seen, ready = [], threading.Event()

    def callback(event):
        assert ready.wait(PATIENCE_S)
        seen.append(event)
        watch.cancel()

    watch = press.keeper.client().watch(["lease."], callback)
    ready.set()
    press.publish(3)
    eventually(lambda: press.keeper.calls_under_way == 0, "the keeper's end of the watch")
    assert len(seen) == 1


def test_a_gap_without_anybody_to_tell_is_in_the_log(press: Press, few_kept: int, caplog):
    client, seen = press.keeper.client(), []
    with client.watch(["lease."], seen.append) as watch:
        press.publish(1)
        eventually(lambda: len(seen) == 2, "the first")
        press.keeper.disconnect(client)
        press.publish(30)
        press.keeper.reconnect(client)
        press.keeper.advance(5)
        eventually(lambda: len(seen) == 2 + few_kept, "those that are kept")
        assert watch.error is None
    assert "no longer kept" in caplog.text


def test_a_watch_of_a_closed_client_has_ended_without_an_error(press: Press):
    client = press.keeper.client()
    watch = client.watch([], lambda event: None)
    client.close()
    eventually(lambda: not watch.active, "its end")
    assert watch.error is None


def test_a_group_is_watched_from_its_present_state_on(press: Press):
    client, states = press.keeper.client(), []
    first, second = an_agent(client, "first"), an_agent(client, "second")
    client.campaign("group", first.agent_id)
    with client.watch_election("group", states.append):
        eventually(lambda: len(states) == 1, "the present state")
        client.campaign("group", second.agent_id)
        client.campaign("other", second.agent_id)
        client.resign("group", first.agent_id)
        eventually(lambda: len(states) == 2, "the change")
    assert [(state.leader_agent_id, state.term) for state in states] == [
        (first.agent_id, 1),
        (second.agent_id, 2),
    ]


# ---- in an event loop


async def test_an_iteration_that_was_cancelled_loses_nothing(press: Press):
    client = press.keeper.async_client()
    async with client.events(["lease."]) as stream:
        seen = []
        for number in range(10):
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(anext(stream), 0.001)
            await asyncio.to_thread(press.publish)
            while len(seen) < 2 * (number + 1):
                try:
                    seen.append(await asyncio.wait_for(anext(stream), 0.001))
                except TimeoutError:
                    continue
    assert jobs(seen) == both(*range(10))


async def test_coroutine_functions_are_called_back_in_order(press: Press):
    client, seen = press.keeper.async_client(), []
    home = asyncio.get_running_loop()

    async def callback(event):
        await asyncio.sleep(0)
        assert asyncio.get_running_loop() is home
        seen.append(event)
        raise ZeroDivisionError

    async with await client.watch(["lease."], callback):
        await asyncio.to_thread(press.publish, 5)
        await eventually_async(lambda: len(seen) == 10, "all events")
    assert jobs(seen) == both(*range(5))


async def test_a_stream_may_be_closed_while_a_task_waits(press: Press):
    client = press.keeper.async_client()

    async def read(stream):
        return [event async for event in stream]

    stream = await client.events(["lease."]).opened()
    reading = asyncio.create_task(read(stream))
    await eventually_async(lambda: stream._taking is not None, "a reader that waits")
    await asyncio.to_thread(stream.close)
    assert await asyncio.wait_for(reading, PATIENCE_S) == []


async def test_a_stream_that_is_closed_before_it_is_open_has_ended(press: Press):
    client = press.keeper.async_client()
    stream = client.events(["lease."])
    stream.close()
    assert [event async for event in stream] == []
    press.keeper.disconnect(client)
    stream = client.events(["lease."])  # which can't be opened now
    reading = asyncio.ensure_future(anext(stream, None))
    await asyncio.sleep(0)
    stream.close()
    assert await asyncio.wait_for(reading, PATIENCE_S) is None


async def test_a_stream_that_nobody_opens_leaves_no_watch(press: Press):
    client = press.keeper.async_client()
    stream = client.events(["lease."])
    await eventually_async(lambda: press.keeper.calls_under_way == 1, "a watch")
    del stream
    gc.collect()
    await eventually_async(lambda: press.keeper.calls_under_way == 0, "its end")


async def test_on_gap_may_be_a_coroutine_function(press: Press, few_kept: int):
    await asyncio.to_thread(press.publish, 30)
    client, gaps = press.keeper.async_client(), []

    async def on_gap(gap):
        await asyncio.sleep(0)
        gaps.append(gap)

    async with client.events(after=1, on_gap=on_gap) as stream:
        first = await anext(stream)
    assert [gap.oldest for gap in gaps] == [first.sequence]
