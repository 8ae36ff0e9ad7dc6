"""Many take steps a few at a time, and rest in between."""

import asyncio
from itertools import pairwise

import pytest

from agentkeeper.server.pace import BUSY_REST, REST, TOGETHER, Pace

from .helpers import settle


class Walk:
    """Takers of one step each, who tell when they took it."""

    def __init__(self, pace: Pace, count: int) -> None:
        self.taken: list[int] = []
        self.takers = [asyncio.ensure_future(self._take(pace, i)) for i in range(count)]

    async def _take(self, pace: Pace, number: int) -> None:
        await pace.step()
        self.taken.append(number)

    async def counts(self) -> list[int]:
        """How many had taken theirs, pass by pass, until all have that will."""
        counts = [0]
        while not all(taker.done() for taker in self.takers):
            await asyncio.sleep(0)
            counts.append(len(self.taken))
        return counts


async def test_a_few_take_theirs_in_a_pass_and_all_do_in_order() -> None:
    walk = Walk(Pace(), 100)
    counts = await walk.counts()
    assert max(b - a for a, b in pairwise(counts)) == TOGETHER
    assert walk.taken == list(range(100))


async def test_who_gives_up_takes_nobodys_place() -> None:
    walk = Walk(Pace(), 3 * TOGETHER)
    await asyncio.sleep(0)
    for taker in walk.takers[:TOGETHER]:
        taker.cancel()
    await walk.counts()
    assert walk.taken == list(range(TOGETHER, 3 * TOGETHER))


@pytest.mark.parametrize(("busy", "rest"), [(False, REST), (True, BUSY_REST)])
async def test_they_rest_for_some_times_as_long_as_they_took(
    busy: bool, rest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, rests, now_s = asyncio.get_running_loop(), list[float](), 0.0
    monkeypatch.setattr(loop, "time", lambda: now_s)
    monkeypatch.setattr(loop, "call_later", lambda delay_s, _: rests.append(delay_s))
    walk = Walk(Pace(lambda: busy), 2 * TOGETHER)
    await asyncio.sleep(0)  # they ask
    await asyncio.sleep(0)  # the first few are woken
    now_s = 0.003
    await settle()
    assert walk.taken == list(range(TOGETHER))
    assert rests == [pytest.approx(rest * 0.003)]
    for taker in walk.takers:
        taker.cancel()


async def test_a_few_never_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    def rest(*_: object) -> None:
        raise AssertionError("rested")

    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", rest)
    pace = Pace(lambda: True)
    for _ in range(10):
        walk = Walk(pace, TOGETHER)
        await walk.counts()
        assert len(walk.taken) == TOGETHER
