"""The replica's own session: numbers rise, what is answered is said to be seen."""

import asyncio

import pytest

from agentkeeper.consensus.port import Outcome
from agentkeeper.core import limits, refusals
from agentkeeper.core.codec import unpack_batch
from agentkeeper.core.commands import OpenSession
from agentkeeper.core.records import Result, Session
from agentkeeper.server.errors import CallError
from agentkeeper.server.own_session import OwnSession, Place

from .helpers import FAR_S, Around, settle, soon


class World:
    """A session over a proposer whose batches are answered by hand."""

    def __init__(self) -> None:
        self.around = Around()
        self.around.proposer.lead()
        self.drawn = 0
        self.session = OwnSession("n", self.around.proposer, self._draw)

    def _draw(self) -> str:
        self.drawn += 1
        return f"session-{self.drawn}"

    def place(self, seconds: float = FAR_S) -> "asyncio.Task[Place]":
        return asyncio.ensure_future(self.session.place(soon(seconds)))

    async def opened(self, result: Result | None = None) -> OpenSession:
        """The entry that opens a session is committed; returns what it asked for."""
        await settle()
        (command,) = unpack_batch(self.around.batches[-1]).commands
        assert isinstance(command.body, OpenSession)
        assert command.identity == "replica:n"
        session = Session(command.body.session_id, command.identity, 1, 1, 0, 1)
        self.around.apply(self.around.batches[-1], result or session)
        self.around.proposed(Outcome.COMMITTED)
        await settle()
        return command.body


async def open_world() -> tuple[World, Place]:
    world = World()
    first = world.place()
    await world.opened()
    return world, await first


async def test_opens_itself_once_for_all() -> None:
    world = World()
    waiting = [world.place() for _ in range(5)]
    body = await world.opened()
    assert body.window == limits.REPLICA_SESSION_WINDOW
    places = await asyncio.gather(*waiting)
    assert [place.key for place in places] == [(body.session_id, n) for n in range(1, 6)]
    assert len(world.around.batches) == 1


async def test_what_is_answered_is_seen() -> None:
    world, first = await open_world()
    second, third = await world.place(), await world.place()
    assert [place.seen for place in (first, second, third)] == [0, 0, 0]
    second.release()
    assert third.seen == 0
    first.release()
    assert third.seen == 2
    third.release()
    third.release()  # harmless when repeated
    assert (await world.place()).seen == 3


async def test_an_expired_session_is_opened_anew() -> None:
    world, old = await open_world()
    also_old = await world.place()
    world.session.expired(old)
    fresh = world.place()
    body = await world.opened()
    assert (await fresh).key == (body.session_id, 1)
    assert body.session_id != old.key[0]
    # What is left of the old one touches the new one in no way.
    world.session.expired(also_old)
    also_old.release()
    old.release()
    assert (await world.place()).key == (body.session_id, 2)
    assert (await fresh).seen == 0


async def test_a_refused_opening_is_an_error_and_tried_again_under_the_same_id() -> None:
    world = World()
    refused = world.place()
    first = await world.opened(refusals.limit("sessions", 1))
    with pytest.raises(CallError) as caught:
        await refused
    assert caught.value.code == "RESOURCE_EXHAUSTED"
    again = world.place()
    second = await world.opened()
    assert second.session_id == first.session_id
    assert (await again).number == 1


async def test_without_a_leader_it_ends_in_time_with_no_effect() -> None:
    world = World()
    world.around.proposer.follow(None)
    waiting = [world.place(0.02) for _ in range(3)]
    for place in waiting:
        with pytest.raises(CallError) as caught:
            await place
        assert (caught.value.code, caught.value.definite) == ("UNAVAILABLE", True)


async def test_a_full_window_is_left_to_those_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REPLICA_SESSION_WINDOW", 4)
    world, stuck = await open_world()
    numbers = [stuck.number]
    while world.session._session is not None:
        place = await world.place()
        assert place.number <= place.seen + limits.REPLICA_SESSION_WINDOW
        numbers.append(place.number)
        place.release()
    assert numbers == [1, 2, 3, 4]
    fresh = world.place()
    body = await world.opened()
    assert (await fresh).key == (body.session_id, 1)
    assert stuck.seen == 0
