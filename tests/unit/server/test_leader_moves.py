"""Moving the leader: the leader is asked to hand over, and the call ends when another leads."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from agentkeeper.consensus.port import Transfer
from agentkeeper.server.errors import CallError
from agentkeeper.server.messages import AskTransfer, TellTransfer
from agentkeeper.server.moves import PATIENCE_S, Ended, LeaderMoves

from .helpers import settle, soon


class World:
    """Replica a, of three, which follows b unless told otherwise."""

    def __init__(self) -> None:
        self.leadership: Any = SimpleNamespace(changed=asyncio.Event())
        self.follow("b", 3)
        self.transfers: list[tuple[str | None, Ended]] = []
        self.sent: list[tuple[str, AskTransfer | TellTransfer]] = []
        self.linked = True
        self.recent = True
        self.moves = LeaderMoves(
            self.leadership,
            transfer=lambda to, ended: self.transfers.append((to, ended)),
            send=self._send,
            understands=lambda node_id: self.recent,
            first_number=40,
        )

    def follow(self, leader_id: str | None, term: int) -> None:
        self.leadership.leader_id, self.leadership.term = leader_id, term
        self.leadership.may_lead = leader_id == "a"
        self.leadership.changed.set()

    def _send(self, node_id: str, message: AskTransfer | TellTransfer) -> bool:
        self.sent.append((node_id, message))
        return self.linked

    async def begin(self, to: str, seconds: float = 5.0) -> "asyncio.Task[tuple[str, int]]":
        moving = asyncio.ensure_future(self.moves.move(to, soon(seconds)))
        await settle()
        return moving


async def test_the_leader_hands_over_by_itself() -> None:
    world = World()
    world.follow("a", 3)
    moving = await world.begin("c")
    ((to, ended),) = world.transfers
    assert to == "c"
    ended(Transfer.DONE)
    world.follow(None, 4)
    await settle()
    assert not moving.done()
    world.follow("c", 4)
    assert await moving == ("c", 4)
    assert world.sent == []


async def test_another_replica_asks_the_leader() -> None:
    world = World()
    moving = await world.begin("")
    assert world.sent == [("b", AskTransfer(41, ""))]
    world.moves.told(TellTransfer(40, "gave up"))  # meant for an earlier call
    world.moves.told(TellTransfer(41, "done"))
    world.follow("c", 4)
    assert await moving == ("c", 4)
    assert world.transfers == []


async def test_the_leader_answers_whoever_asked_it() -> None:
    world = World()
    for to, wanted in (("c", "c"), ("", None)):
        world.moves.take("c", AskTransfer(7, to))
        asked, ended = world.transfers.pop()
        assert asked == wanted
        ended(Transfer.GAVE_UP)
        assert world.sent.pop() == ("c", TellTransfer(7, "gave up"))


async def test_a_leader_known_here_does_without_the_lost_answer() -> None:
    world = World()
    moving = await world.begin("c")
    world.follow("c", 4)
    assert await moving == ("c", 4)
    world.moves.told(TellTransfer(41, "done"))  # too late: it means nothing


async def test_a_leader_resigns_until_somebody_has_taken_over() -> None:
    world = World()
    world.follow("a", 3)
    resigning = asyncio.ensure_future(world.moves.resign())
    for how in (Transfer.GAVE_UP, Transfer.SILENT, Transfer.BEHIND, Transfer.DONE):
        await settle()
        to, ended = world.transfers.pop()
        assert (to, world.transfers) == (None, [])
        ended(how)
    await settle()
    assert not resigning.done(), "what is above the engine does not know yet"
    world.follow(None, 4)
    await settle()
    assert resigning.done()


async def test_who_does_not_lead_or_is_alone_has_nothing_to_resign() -> None:
    world = World()
    await world.moves.resign()
    assert world.transfers == []
    world.follow("a", 3)
    resigning = asyncio.ensure_future(world.moves.resign())
    await settle()
    world.transfers.pop()[1](Transfer.ALONE)
    await resigning


async def test_an_answer_to_a_resignation_that_was_broken_off_harms_nobody() -> None:
    world = World()
    world.follow("a", 3)
    resigning = asyncio.ensure_future(world.moves.resign())
    await settle()
    resigning.cancel()
    await settle()
    world.transfers.pop()[1](Transfer.GAVE_UP)


async def test_nothing_is_moved_to_who_leads_already() -> None:
    world = World()
    assert await (await world.begin("b")) == ("b", 3)
    assert world.sent == world.transfers == []


@pytest.mark.parametrize(
    ("ended", "code", "words"),
    [
        ("alone", "FAILED_PRECONDITION", "no others"),
        ("unknown", "FAILED_PRECONDITION", "no replica 'c'"),
        ("not connected", "FAILED_PRECONDITION", "'c' is not connected"),
        ("no vote", "FAILED_PRECONDITION", "'c' does not vote"),
        ("silent", "FAILED_PRECONDITION", "no answer came from replica 'c'"),
        ("behind", "FAILED_PRECONDITION", "did not reach replica 'c'"),
        ("gave up", "ABORTED", "'b' leads on"),
        ("not leading", "UNAVAILABLE", "'b' does not lead"),
        ("something that a newer build says", "ABORTED", "'b' leads on"),
    ],
)
async def test_why_it_did_not_move_is_told(ended: str, code: str, words: str) -> None:
    world = World()
    moving = await world.begin("c")
    world.moves.told(TellTransfer(41, ended))
    with pytest.raises(CallError, match=words) as error:
        await moving
    assert error.value.code == code
    assert error.value.definite


async def test_another_than_the_wanted_one_may_come_to_lead() -> None:
    world = World()
    moving = await world.begin("c")
    world.moves.told(TellTransfer(41, "done"))
    world.follow("b", 4)
    with pytest.raises(CallError, match="'b' leads now"):
        await moving


async def test_a_leader_that_cannot_be_asked_is_named() -> None:
    world = World()
    world.linked = False
    with pytest.raises(CallError, match="can't be reached"):
        await (await world.begin("c"))
    world.recent = False
    with pytest.raises(CallError, match="upgrade it") as error:
        await (await world.begin("c"))
    assert error.value.code == "FAILED_PRECONDITION"


@pytest.mark.parametrize(("leader_id", "definite"), [(None, True), ("b", False)])
async def test_out_of_time(leader_id: str | None, definite: bool) -> None:
    world = World()
    world.follow(leader_id, 3)
    with pytest.raises(CallError) as error:
        await (await world.begin("c", seconds=0.0))
    assert error.value.definite is definite
    assert PATIENCE_S > 0
