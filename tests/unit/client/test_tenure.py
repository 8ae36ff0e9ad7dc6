"""Something that is held for a time: over once and for all, whoever asks and whenever."""

import asyncio
import itertools
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from agentkeeper.client.tenure import MAX_MARGIN_S, Tenure, safe_s
from agentkeeper.testing.loop import HandMovedLoop


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def in_moved_time(story):
    """Run a coroutine function, which gets its loop, in time that is moved by hand."""
    loop = HandMovedLoop()
    try:
        loop.run_until_complete(story(loop))
    finally:
        loop.close()


async def a_turn():
    """Let everything happen that other threads and this one have asked for."""
    for _ in range(3):
        await asyncio.sleep(0)


async def in_threads(*calls):
    """Make calls, each on a thread of its own, and let everything happen that they ask for."""
    with ThreadPoolExecutor(len(calls)) as pool:
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.run_in_executor(pool, *call) for call in calls))
    await a_turn()


@pytest.fixture
def clock():
    return Clock()


async def test_it_is_held_without_end_until_somebody_says_otherwise(clock):
    tenure = Tenure(clock)
    clock.now += 1e9
    assert (tenure.held, tenure.lost, tenure.reason) == (True, False, "")


async def test_whoever_asks_after_the_deadline_is_told_before_any_timer(clock):
    for ask in (lambda t: not t.held, lambda t: t.lost, lambda t: t.reason):
        tenure, told = Tenure(clock), []
        tenure.on_lost(lambda told=told: told.append("lost"))
        assert tenure.extend_to(clock.now + 3600)
        clock.now += 3599.999
        assert tenure.held
        assert not tenure.lost
        clock.now += 0.001  # as after a night in which the machine slept
        assert ask(tenure)
        assert tenure.reason == "not renewed in time"
        await a_turn()
        assert told == ["lost"]


async def test_what_is_lost_stays_lost(clock):
    tenure = Tenure(clock)
    tenure.lose("taken away")
    assert tenure.lost
    assert not tenure.extend_to(clock.now + 1e6)
    assert not tenure.give_back()
    tenure.lose("for another reason")
    clock.now -= 1e6
    assert (tenure.held, tenure.lost, tenure.reason) == (False, True, "taken away")


async def test_it_is_too_late_to_extend_even_if_nobody_has_looked(clock):
    tenure = Tenure(clock)
    tenure.extend_to(clock.now + 10)
    clock.now += 10
    assert not tenure.extend_to(clock.now + 10)
    assert tenure.lost
    assert tenure.deadline_s == clock.now


async def test_what_was_given_back_is_never_lost(clock):
    tenure, told = Tenure(clock), []
    tenure.on_lost(lambda: told.append("early"))
    tenure.extend_to(clock.now + 10)
    assert tenure.give_back()
    assert not tenure.give_back()
    tenure.lose("too late to matter")
    clock.now += 1e6
    assert not tenure.extend_to(clock.now + 10)
    tenure.on_lost(lambda: told.append("late"))
    await a_turn()
    assert (tenure.held, tenure.lost, tenure.reason) == (False, False, "")
    assert told == []


async def test_a_loss_that_nobody_gives_a_reason_for_is_a_loss(clock):
    tenure, told = Tenure(clock), []
    tenure.on_lost(lambda: told.append("lost"))
    tenure.lose("")
    await a_turn()
    assert tenure.lost
    assert tenure.reason
    assert told == ["lost"]


async def test_observers_are_told_once_also_when_they_come_late(clock):
    tenure, told = Tenure(clock), Counter()
    tenure.on_lost(lambda: told.update(["early"]))
    tenure.lose("gone")
    assert not told, "on the loop, not in the middle of the caller's work"
    tenure.on_lost(lambda: told.update(["late"]))
    tenure.lose("gone again")
    await a_turn()
    tenure.on_lost(lambda: told.update(["later"]))
    await a_turn()
    assert told == {"early": 1, "late": 1, "later": 1}


@pytest.mark.parametrize("round_", range(5))
async def test_threads_that_observe_ask_and_end_it_agree(clock, round_):
    tenure, told, answers = Tenure(clock), Counter(), set()
    loop_thread = threading.current_thread()
    together = threading.Barrier(12)

    def observe(names):
        together.wait()
        for name in names:
            tenure.on_lost(lambda name=name: told.update([(name, threading.current_thread())]))

    def ask():
        together.wait()
        seen = [tenure.lost for _ in range(500)]
        answers.add(tuple(lost for lost, _ in itertools.groupby(seen)))

    def end(how):
        together.wait()
        how()

    names = [[f"{who}-{number}" for number in range(50)] for who in range(6)]
    await in_threads(
        *((observe, mine) for mine in names),
        *((ask,) for _ in range(3)),
        *((end, lambda: tenure.lose("gone")) for _ in range(3)),
    )
    assert told == {(name, loop_thread): 1 for mine in names for name in mine}
    assert answers <= {(False,), (False, True), (True,)}, "never unset"


@pytest.mark.parametrize("round_", range(20))
async def test_of_giving_back_and_losing_one_wins(clock, round_):
    tenure, told, given = Tenure(clock), [], []
    tenure.on_lost(lambda: told.append("lost"))
    together = threading.Barrier(2)

    def give_back():
        together.wait()
        given.append(tenure.give_back())

    def lose():
        together.wait()
        tenure.lose("gone")

    await in_threads((give_back,), (lose,))
    assert tenure.lost is not given[0]
    assert told == (["lost"] if tenure.lost else [])


def test_the_timer_tells_at_the_deadline_and_the_deadline_moves():
    async def story(loop):
        tenure, told = Tenure(loop.time), []
        tenure.on_lost(lambda: told.append(loop.time()))
        tenure.extend_to(10)
        await loop.move(9)
        assert tenure.extend_to(30)
        await loop.move(15)
        assert tenure.extend_to(26)  # earlier than it was
        assert told == []
        await loop.move(100)
        assert told == [26]

    in_moved_time(story)


def test_a_timer_that_fires_before_the_deadline_goes_on_waiting():
    async def story(loop):
        tenure, told = Tenure(lambda: loop.time() * 0.9), []  # a clock that lags behind
        tenure.on_lost(lambda: told.append(loop.time()))
        tenure.extend_to(9)
        await loop.move(9.9)
        assert told == []
        await loop.move(0.2)
        assert told == [pytest.approx(10)]

    in_moved_time(story)


@pytest.mark.parametrize("behind_s", [1e-10, 1e-12, 1e-15])
def test_a_timer_that_fires_a_hair_too_early_does_not_spin(behind_s):
    """Event loops run timers that are due within their clock's resolution."""

    async def story(loop):
        asked = itertools.count()

        def clock():
            assert next(asked) < 1_000, "asked again and again while no time passes"
            return loop.time() - behind_s

        tenure, told = Tenure(clock), []
        tenure.on_lost(lambda: told.append(loop.time()))
        tenure.extend_to(9)
        await loop.move(9.001)
        assert told == [pytest.approx(9)]

    in_moved_time(story)


def test_nothing_is_left_to_fire_once_it_is_over():
    async def story(loop):
        for end in (Tenure.give_back, lambda tenure: tenure.lose("gone")):
            tenure = Tenure(loop.time)
            tenure.extend_to(loop.time() + 10)
            end(tenure)
            await a_turn()
            assert tenure._timer is None
            assert not [timer for timer in loop._scheduled if not timer.cancelled()]

    in_moved_time(story)


def test_observers_hear_of_it_soon_after_the_machine_has_slept():
    """The clock has gone on, the loop's timers have not; and nobody asks."""

    async def story(loop):
        slept_s = [0.0]
        tenure, told = Tenure(lambda: loop.time() + slept_s[0]), []
        tenure.on_lost(lambda: told.append(loop.time()))
        tenure.extend_to(3600)
        await loop.move(10)
        slept_s[0] = 10_000
        await loop.move(5)
        assert len(told) == 1, "told within a few seconds of waking up"

    in_moved_time(story)


def test_what_is_counted_on_is_a_little_less_than_the_ttl():
    for ttl_s in (0.001, 1, 10, 49, 50, 51, 3600, 86_400):
        assert ttl_s - MAX_MARGIN_S <= safe_s(ttl_s) < ttl_s
        assert safe_s(ttl_s) >= 0.99 * ttl_s
        assert safe_s(ttl_s) > safe_s(ttl_s * 0.99), "longer is longer"
