"""What is owed to the state machine is submitted until it is decided."""

import asyncio
from functools import partial
from typing import Any

import pytest

from agentkeeper.core import limits
from agentkeeper.core.commands import Body, Withdraw
from agentkeeper.core.records import DONE, Result
from agentkeeper.core.refusals import session_expired
from agentkeeper.server import owed as module
from agentkeeper.server.caller import Caller
from agentkeeper.server.errors import outcome_unknown, overloaded, refused, unavailable
from agentkeeper.server.owed import OwedCommands

from .helpers import settle, until


class World:
    def __init__(self) -> None:
        self.answers: list[Exception] = []
        """What to raise next, before all is decided."""
        self.gate = asyncio.Event()
        self.gate.set()
        self.tries: list[int] = []
        self.settled: list[int] = []
        self.background: dict[asyncio.Task[Any], None] = {}
        self.owed = OwedCommands(self._submit, self.background)

    async def _submit(self, body: Body, caller: Caller) -> Result:
        assert isinstance(body, Withdraw)
        self.tries.append(body.number)
        await self.gate.wait()
        if self.answers:
            raise self.answers.pop(0)
        return DONE

    def owe(self, *numbers: int) -> None:
        for number in numbers:
            body = Withdraw("s", number, 1)
            self.owed.owe(body, Caller(), partial(self.settled.append, number))


async def test_what_may_not_have_happened_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.001)
    world = World()
    world.answers = [unavailable("nobody"), outcome_unknown("lost"), overloaded("full")]
    world.owe(1)
    await until(lambda: world.settled == [1])
    assert world.tries == [1] * 4
    await settle()
    assert len(world.owed) == 0
    assert not world.background


async def test_a_refusal_settles_it() -> None:
    world = World()
    world.answers = [refused(session_expired("s"))]
    world.owe(1)
    await until(lambda: world.settled == [1])
    assert world.tries == [1]


async def test_a_bounded_number_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "UNDER_WAY", 3)
    world = World()
    world.gate.clear()
    world.owe(*range(10))
    await settle()
    assert world.tries == [0, 1, 2]
    world.gate.set()
    await until(lambda: len(world.settled) == 10)
    assert world.settled == list(range(10))


async def test_when_too_much_is_owed_the_oldest_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "UNDER_WAY", 1)
    monkeypatch.setattr(limits, "OWED_COMMANDS", 3)
    world = World()
    world.gate.clear()
    world.owe(*range(5))
    assert len(world.owed) == 3
    assert world.settled == [1, 2]
    world.gate.set()
    await until(lambda: len(world.settled) == 5)
    assert world.tries == [0, 3, 4]


async def test_it_ends_with_the_replica() -> None:
    world = World()
    world.gate.clear()
    world.owe(*range(module.UNDER_WAY + 5))
    await settle()
    for task in tuple(world.background):
        task.cancel()
    await settle()
    assert not world.background
    assert len(world.tries) == module.UNDER_WAY
