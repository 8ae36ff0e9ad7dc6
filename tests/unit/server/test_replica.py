"""Reads wait until what they must see is applied."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from agentkeeper.server.caller import Caller
from agentkeeper.server.errors import CallError
from agentkeeper.server.replica import Notices, Replica
from agentkeeper.server.turns import Turns

from .helpers import Log, settle, soon


class Rounds:
    """Read rounds that all find one index."""

    def __init__(self, found: int) -> None:
        self.found = found

    async def index(self, deadline_s: float) -> int:
        return self.found


def replica(log: Log, found: int = 0) -> Replica:
    """A replica of which only the reading side is there."""
    nothing: Any = SimpleNamespace()
    reads: Any = Rounds(found)
    return Replica(
        node_id="a",
        machine=log.machine,
        proposer=nothing,
        reads=reads,
        hub=nothing,
        claims=nothing,
        own_session=nothing,
        index=nothing,
        notices=nothing,
        draw_id=lambda: "id",
        draw_attempt=lambda: 1,
        leader_known=lambda: True,
        closing=asyncio.Event(),
        background={},
        turns=Turns(),
    )


@pytest.mark.parametrize("stale", [False, True])
async def test_a_read_waits_until_what_it_must_see_is_applied(stale: bool) -> None:
    log = Log()
    log.register("a1")
    caller = Caller(stale=stale, min_index=3 if stale else 0)
    reading = asyncio.ensure_future(replica(log, found=3).read(caller))
    await settle()
    log.register("a2")
    await settle()
    assert not reading.done()
    log.register("a3")
    assert "a3" in (await reading).agents


async def test_a_stale_read_asks_nobody() -> None:
    log = Log()
    log.register("a1")
    assert "a1" in (await replica(log, found=99).read(Caller(stale=True))).agents


@pytest.mark.parametrize("stale", [False, True])
async def test_nothing_is_read_of_a_restored_state_before_its_epoch_begins(stale: bool) -> None:
    """A watch that resumes would else be told that what it has seen is in the future."""
    log = Log()
    log.register("a1")
    log.machine.state.epoch_due = 1
    with pytest.raises(CallError) as caught:
        await replica(log, found=1).read(Caller(stale=stale))
    assert (caught.value.code, caught.value.definite) == ("UNAVAILABLE", True)
    log.register("a2")
    assert "a2" in (await replica(log, found=2).read(Caller(stale=stale))).agents


async def test_a_read_that_can_not_be_served_in_time_is_definitely_unavailable() -> None:
    with pytest.raises(CallError) as caught:
        await replica(Log(), found=3).read(Caller(deadline_s=soon(0.01)))
    assert (caught.value.code, caught.value.definite) == ("UNAVAILABLE", True)


async def test_news_about_a_lease_that_has_its_agents_name() -> None:
    notices = Notices()
    with notices.about("same", "same") as news:
        notices.tell("same")
        assert news.is_set()
    with notices.about("same") as news:
        notices.tell_all()
        assert news.is_set()
