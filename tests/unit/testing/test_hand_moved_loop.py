"""The loop whose time is moved by hand, and the engine that commits at once."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from agentkeeper.consensus.port import Outcome, Role
from agentkeeper.testing.engine import InstantEngine
from agentkeeper.testing.loop import HandMovedLoop

from .waiting import PATIENCE_S, background


@pytest.fixture
def loop() -> Iterator[HandMovedLoop]:
    loop = HandMovedLoop()
    yield loop
    loop.close()


class Chores:
    """An agenda of given times."""

    def __init__(self, loop: HandMovedLoop, *times_s: float) -> None:
        self._loop = loop
        self.left_s = sorted(times_s)
        self.done_s: list[float] = []

    def next_s(self) -> float | None:
        return self.left_s[0] if self.left_s else None

    def work_off(self) -> None:
        self.left_s.pop(0)
        self.done_s.append(self._loop.time())


def test_timers_fire_in_order_at_their_own_times(loop: HandMovedLoop):
    fired: list[tuple[str, float]] = []

    async def sleeper(name: str, *pauses_s: float) -> None:
        for pause_s in pauses_s:
            await asyncio.sleep(pause_s)
            fired.append((name, loop.time()))

    async def main() -> None:
        sleepers = [loop.create_task(sleeper("a", 2, 2, 9)), loop.create_task(sleeper("b", 3, 0))]
        await loop.move(5)
        for task in sleepers:
            task.cancel()

    loop.run_until_complete(main())
    assert fired == [("a", 2), ("b", 3), ("b", 3), ("a", 4)]
    assert loop.time() == 5


def test_timeouts_follow_the_moved_time(loop: HandMovedLoop):
    async def limited() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(100_000):
                await loop.create_future()
        return loop.time()

    async def main() -> float:
        waiting = loop.create_task(limited())
        await loop.move(1e6)
        return await waiting

    assert loop.run_until_complete(main()) == 100_000


def test_a_timer_at_the_very_end_of_a_move_belongs_to_it(loop: HandMovedLoop):
    fired: list[float] = []

    async def main() -> None:
        loop.call_later(0.3, lambda: fired.append(loop.time()))
        for _ in range(3):
            await loop.move(0.1)

    loop.run_until_complete(main())
    assert len(fired) == 1


def test_the_agenda_is_worked_off_between_the_timers(loop: HandMovedLoop):
    chores = loop.agenda = Chores(loop, 1, 1, 2.5, 7)
    seen: list[tuple[float, int]] = []

    async def main() -> None:
        loop.call_later(2, lambda: seen.append((loop.time(), len(chores.done_s))))
        loop.call_later(2.5, lambda: seen.append((loop.time(), len(chores.done_s))))
        await loop.move(5)

    loop.run_until_complete(main())
    assert chores.done_s == [1, 1, 2.5]
    assert seen == [(2, 2), (2.5, 2)]
    assert chores.left_s == [7]


def test_moves_follow_one_upon_another(loop: HandMovedLoop):
    ended: list[float] = []

    async def mover(seconds: float) -> None:
        await loop.move(seconds)
        ended.append(loop.time())

    async def main() -> None:
        await asyncio.gather(mover(3), mover(4), mover(0))

    loop.run_until_complete(main())
    assert ended == [3, 7, 7]


def test_a_move_that_is_cancelled_ends_where_it_is(loop: HandMovedLoop):
    async def main() -> None:
        moved = loop.move(100)
        loop.call_later(10, moved.cancel)
        with pytest.raises(asyncio.CancelledError):
            await moved
        assert loop.time() == 10
        await loop.move(5)

    loop.run_until_complete(main())
    assert loop.time() == 15


def test_other_threads_are_served_while_time_stands_still(loop: HandMovedLoop):
    asked: list[float] = []

    async def main() -> None:
        sleeping = loop.create_task(asyncio.sleep(3600))
        served = asyncio.Event()
        threading.Thread(target=loop.call_soon_threadsafe, args=(served.set,)).start()
        await served.wait()
        asked.append(await asyncio.to_thread(loop.time))
        sleeping.cancel()

    background(loop.run_until_complete, main()).result(PATIENCE_S)
    assert asked == [0]


class Told:
    """A listener, and callbacks, that keep what they are told in one order."""

    def __init__(self) -> None:
        self.all: list[object] = []

    def committed(self, index: int, term: int, payload: bytes) -> None:
        self.all.append((index, payload))

    def role_changed(self, role: Role, term: int, leader_id: str | None) -> None:
        self.all.append((role, term, leader_id))

    def __getattr__(self, name: str) -> Callable[..., None]:
        raise AssertionError(f"nothing else is told, but {name}")


def run(loop: HandMovedLoop, main: Coroutine[Any, Any, None]) -> None:
    loop.run_until_complete(main)


def test_the_engine_tells_of_an_entry_before_its_outcome(loop: HandMovedLoop):
    engine, told = InstantEngine("n", loop), Told()

    async def main() -> None:
        engine.start(told)
        engine.propose(b"a", 1.0, told.all.append)
        engine.propose(b"b", 1.0, told.all.append)
        engine.read_index(1.0, told.all.append)
        assert told.all == [], "every method returns at once"
        await loop.move(0)

    run(loop, main())
    committed = Outcome.COMMITTED
    assert told.all == [(Role.LEADER, 1, "n"), (1, b"a"), committed, (2, b"b"), committed, 2]
    status = engine.status()
    assert (status.role, status.leader_id, status.last_log_index) == (Role.LEADER, "n", 2)


def test_an_engine_that_is_stopped_takes_nothing(loop: HandMovedLoop):
    engine, told = InstantEngine("n", loop), Told()

    async def main() -> None:
        engine.start(told)
        await loop.move(0)
        told.all.clear()
        engine.propose(b"too late", 1.0, told.all.append)
        engine.read_index(1.0, told.all.append)
        for _ in range(2):  # harmless when repeated
            engine.stop()
        await loop.move(0)

    run(loop, main())
    assert told.all == [Outcome.REJECTED, None]
    assert engine.status().leader_id is None
