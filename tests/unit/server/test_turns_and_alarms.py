"""Much at once is done in slices; many deadlines need one timer."""

import asyncio
from functools import partial
from itertools import pairwise

import pytest

from agentkeeper.server import alarms, turns
from agentkeeper.server.alarms import Alarms
from agentkeeper.server.turns import Turns

from .helpers import soon, until


def growth(counts: list[int]) -> int:
    return max(b - a for a, b in pairwise(counts))


async def test_a_pass_has_its_share_and_the_next_one_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turns, "PASS_S", 0.0)
    taken = Turns()
    assert [taken.spent(), taken.spent()] == [False, True]
    await taken.take()
    monkeypatch.setattr(turns, "PASS_S", 60.0)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [taken.spent(), taken.spent()] == [False, False]


@pytest.mark.parametrize(("pass_s", "most"), [(0.0, 1), (60.0, turns.PASS_TURNS)])
async def test_each_has_a_turn_and_as_many_in_a_pass_as_there_is_time_for(
    pass_s: float, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "PASS_S", 0.0)
    given, taken = Turns(), list[str]()
    monkeypatch.setattr(turns, "BUSY_S", 60.0)
    given.spent()

    async def take(owner: str) -> None:
        assert await given.take(owner) >= 0
        taken.append(owner)

    takers = [asyncio.ensure_future(take(owner)) for owner in 1000 * ["many"] + 5 * ["few"]]
    await asyncio.sleep(0)
    assert not given.free
    takers[1].cancel()
    monkeypatch.setattr(turns, "PASS_S", pass_s)
    counts = [0]
    while len(taken) < 1004:
        await asyncio.sleep(0)
        counts.append(len(taken))
    assert growth(counts) == most
    assert taken[:10] == 5 * ["many", "few"]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert given.free


async def test_passes_with_much_other_work_have_few_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "PASS_S", 60.0)
    monkeypatch.setattr(turns, "BUSY_S", -1.0)
    held, given = [True], 0
    taken = Turns(lambda: held[0])

    async def take() -> None:
        nonlocal given
        await taken.take()
        given += 1

    takers = [asyncio.ensure_future(take()) for _ in range(200)]
    for _ in range(10):
        await asyncio.sleep(0)
    assert (given, taken.free) == (0, False)
    held[0] = False
    taken.resume()
    taken._turns = turns.PASS_TURNS
    counts = [0]
    while given < 200:
        await asyncio.sleep(0)
        counts.append(given)
    assert growth(counts) == turns.PASS_TURNS
    assert growth(counts[-10:]) == turns.BUSY_TURNS
    await asyncio.gather(*takers)


async def test_steps_are_taken_in_order_and_a_few_in_a_pass() -> None:
    put_off, steps = Turns(), list[int]()
    for number in range(100):
        put_off.soon(partial(steps.append, number))
    assert not steps
    counts = [0]
    while len(steps) < 100:
        await asyncio.sleep(0)
        counts.append(len(steps))
    assert growth(counts) == turns.PASS_STEPS
    assert steps == list(range(100))
    put_off.soon(partial(steps.append, 100))
    await until(lambda: steps[-1] == 100)


async def test_who_asks_for_a_step_goes_on_in_order_and_a_few_in_a_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turns, "PASS_S", 0.0)
    steps, gone = Turns(), list[int]()

    async def go(number: int) -> None:
        await steps.step()
        gone.append(number)

    await go(0)
    assert gone == [0], "at once, as this pass has time left"
    tasks = [asyncio.create_task(go(number)) for number in range(1, 41)]
    await asyncio.sleep(0)
    tasks[4].cancel()
    counts = [len(gone)]
    while not all(task.done() for task in tasks):
        await asyncio.sleep(0)
        counts.append(len(gone))
    assert gone == [number for number in range(41) if number != 5]
    assert growth(counts) == turns.PASS_STEPS


async def test_alarms_that_are_due_together_ring_a_few_in_a_pass() -> None:
    rung: list[int] = []
    many = Alarms[int](lambda item: item % 2 == 0, rung.append)
    when_s = soon(0.01)
    for number in range(1_000):
        many.add(when_s, number)
    counts = [0]
    while len(rung) < 500:
        await asyncio.sleep(0)
        counts.append(len(rung))
    assert growth(counts) <= alarms.PASS_ALARMS
    assert rung == list(range(0, 1_000, 2))
    assert len(many) <= 1


async def test_alarms_ring_by_their_deadlines_and_not_once_closed() -> None:
    rung: list[str] = []
    some = Alarms[str](lambda item: True, rung.append)
    some.add(soon(60.0), "never")
    some.add(soon(0.02), "second")
    some.add(soon(0.01), "first")
    await until(lambda: len(rung) == 2)
    assert rung == ["first", "second"]
    some.add(soon(0.01), "closed")
    some.close()
    await asyncio.sleep(0.03)
    assert rung == ["first", "second"]
