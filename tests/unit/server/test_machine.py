"""The machine: entries in order, restores in their place, a failing entry stops it."""

import asyncio
import gc

import pytest

from agentkeeper.core import limits
from agentkeeper.core.codec import ENCODING, pack_batch
from agentkeeper.core.commands import Batch
from agentkeeper.core.snapshot import capture, pack_snapshot
from agentkeeper.core.state import TABLES
from agentkeeper.core.table import Table
from agentkeeper.server import machine as module
from agentkeeper.server.errors import CallError
from agentkeeper.server.machine import Machine

from .helpers import Log, failing, settle, until


def entry(time_ms: int) -> bytes:
    return pack_batch(Batch(time_ms, 1, ()), ENCODING)


async def test_entries_are_applied_in_order_and_told() -> None:
    log = Log()
    log.register("a")
    log.register("b")
    assert [applied.index for applied in log.applied] == [1, 2]
    assert list(log.machine.state.agents) == ["a", "b"]
    assert log.machine.applied_index == 2


async def test_long_runs_of_entries_yield_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLICE_S", -1.0)
    machine = Machine(on_failure=failing)
    seen: list[int] = []
    machine.on_applied.append(lambda applied: seen.append(applied.index))
    for index in range(1, 6):
        machine.deliver(index, 1, entry(index))
    assert seen == [1], "an entry for each pass"
    await asyncio.sleep(0)
    assert seen == [1, 2]
    monkeypatch.setattr(module, "SLICE_S", 1.0)
    await settle()
    assert seen == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "payload", [b"", b"\xc1", b"\x94\x63\x01\x01\x90", b"\x94\x01\x01\x01\x07"]
)
async def test_an_entry_that_cannot_be_applied_stops_everything(payload: bytes) -> None:
    failures: list[str] = []
    machine = Machine(on_failure=failures.append)
    machine.deliver(1, 1, entry(5))
    machine.deliver(2, 1, payload)
    machine.deliver(3, 1, entry(9))
    await settle()
    assert len(failures) == 1
    assert "2" in failures[0]
    assert machine.applied_index == 1
    assert machine.state.time_ms == 5


async def test_a_snapshot_is_restored_between_its_entries() -> None:
    log = Log()
    log.register("kept")
    data = b"".join(pack_snapshot(capture(log.machine.state, 10)))
    machine = Machine(on_failure=failing)
    order: list[str] = []
    machine.on_restored.append(lambda: order.append("restored"))
    machine.on_applied.append(lambda applied: order.append(f"applied {applied.index}"))
    machine.deliver(1, 1, entry(1))
    machine.deliver_snapshot(10, 2, data)
    machine.deliver(11, 2, entry(99_000))
    await machine.reach(11)
    assert order == ["applied 1", "restored", "applied 11"]
    assert "kept" in machine.state.agents
    assert machine.state.time_ms == 99_000


async def test_a_damaged_snapshot_stops_everything() -> None:
    failures: list[str] = []
    machine = Machine(on_failure=failures.append)
    machine.deliver_snapshot(10, 2, b"AKSNAP02 and then nonsense")
    machine.deliver(11, 2, entry(5))
    await until(lambda: bool(failures))
    assert "10" in failures[0]
    await settle()
    assert machine.applied_index == 0
    assert gc.isenabled()


async def test_reach_wakes_whoever_waits_for_an_index_passed() -> None:
    machine = Machine(on_failure=failing)
    waiting = {i: asyncio.ensure_future(machine.reach(i)) for i in (3, 1, 2, 2, 7)}
    await settle()
    machine.deliver(2, 1, entry(1))
    await settle()
    assert {i for i, task in waiting.items() if task.done()} == {1, 2}
    machine.deliver(9, 1, entry(1))
    await asyncio.gather(*waiting.values())
    await machine.reach(9)


async def test_waits_for_an_index_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PENDING_READS", 5)
    machine = Machine(on_failure=failing)
    for _ in range(200):
        gone = asyncio.ensure_future(machine.reach(2**53 - 1))
        await settle()
        gone.cancel()
        await settle()
    assert len(machine._waiting) <= 2 * limits.PENDING_READS
    waiting = [asyncio.ensure_future(machine.reach(50)) for _ in range(12)]
    await settle()
    refused = [task for task in waiting if task.done()]
    assert refused
    for task in refused:
        assert isinstance(task.exception(), CallError)
    machine.deliver(50, 1, entry(1))
    await asyncio.gather(*(task for task in waiting if task not in refused))


async def test_a_capture_is_of_the_call_and_shared_by_those_who_ask_at_once() -> None:
    log = Log()
    log.register("before")
    machine = log.machine
    asking = [asyncio.ensure_future(machine.capture()) for _ in range(2)]
    await asyncio.sleep(0)
    log.register("after")
    asking.append(asyncio.ensure_future(machine.capture()))
    asking[1].cancel()
    await settle()
    first, later = await asking[0], await asking[2]
    assert (first.log_index, later.log_index) == (1, 2)
    assert [list(dict(taken.tables)["agents"]) for taken in (first, later)] == [
        ["before"],
        ["before", "after"],
    ]
    one, other = await asyncio.gather(machine.capture(), machine.capture())
    assert one is other
    assert not machine._captures


async def test_no_turn_copies_more_than_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log()
    log.register("a", "tool")
    copied: list[int] = []
    turn = 0
    copy = Table.copy

    def noted(table: Table[object, object]) -> dict[object, object]:
        copied.append(turn)
        return copy(table)

    monkeypatch.setattr(Table, "copy", noted)
    capturing = asyncio.ensure_future(log.machine.capture())
    while not capturing.done():
        turn += 1
        await asyncio.sleep(0)
    assert len(copied) == len(TABLES) == len(set(copied))
