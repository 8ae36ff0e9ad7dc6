"""The search index is filled a little at a time, and searches wait for what came before them."""

import asyncio

import pytest

from agentkeeper.server.agent_index import AgentIndex
from agentkeeper.server.errors import CallError

from .helpers import Log, soon


def everybody(agent_id: str) -> bool:
    return True


def world() -> tuple[Log, AgentIndex]:
    log, index = Log(), AgentIndex()
    log.machine.on_applied.append(lambda applied: [index.observe(e) for e in applied.events])
    return log, index


async def test_a_search_finds_whoever_was_registered_before_it() -> None:
    log, index = world()
    for number in range(50):
        log.register(f"agent-{number}")
    await index.settled(soon())
    assert len(index.rank("agent", everybody, 100)) == 50


async def test_a_search_gives_up_in_time() -> None:
    log, index = world()
    log.register("a")
    with pytest.raises(CallError) as caught:
        await index.settled(asyncio.get_running_loop().time())
    assert (caught.value.code, caught.value.definite) == ("UNAVAILABLE", True)


async def test_one_that_can_not_be_indexed_keeps_nobody_else_from_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log, index = world()
    put = index._put
    spoilt = iter([True])

    def fail_once(change: object) -> None:
        if next(spoilt, False):
            raise ValueError("unreadable")
        put(change)

    monkeypatch.setattr(index, "_put", fail_once)
    log.register("a")
    log.register("b")
    await index.settled(soon())
    assert [agent_id for agent_id, _ in index.rank("agent", everybody, 5)] == ["b"]


async def test_after_a_restore_it_holds_the_restored() -> None:
    log, index = world()
    log.register("a")
    other, _ = world()
    other.register("b")
    index.rebuild(other.machine.state)
    await index.settled(soon())
    assert [agent_id for agent_id, _ in index.rank("agent", everybody, 5)] == ["b"]
