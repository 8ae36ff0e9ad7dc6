"""Commands that this replica owes the state machine for calls that have ended.

A withdrawal that got lost would leave a place in line, and a lease to be granted to nobody. So each
is kept until it is decided, over changes of leader and times without one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import structlog

from agentkeeper.core import limits
from agentkeeper.core.commands import Body
from agentkeeper.core.records import Result
from agentkeeper.server.caller import Caller
from agentkeeper.server.errors import OVERLOADED, CallError

log = structlog.get_logger(__name__)

UNDER_WAY: Final = 128
"""Owed commands under way at a time, so that calls find room beside them."""
RETRY_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class _Owed:
    body: Body
    caller: Caller
    settled: Callable[[], object]


class OwedCommands:
    """Submits what is owed until that is decided, a bounded number at a time, in order.

    `submit` raises `CallError`, with UNAVAILABLE or as overloaded for a command that is to be
    submitted again. Its tasks are kept in `background`, and end when they are cancelled.
    """

    def __init__(
        self,
        submit: Callable[[Body, Caller], Awaitable[Result]],
        background: dict[asyncio.Task[Any], None],
    ) -> None:
        self._submit = submit
        self._background = background
        self._waiting: deque[_Owed] = deque()
        self._under_way = 0

    def __len__(self) -> int:
        return len(self._waiting) + self._under_way

    def owe(self, body: Body, caller: Caller, settled: Callable[[], object]) -> None:
        """Get a command applied that may be applied more than once; then call `settled`.

        When too much is owed the oldest of it is given up.
        """
        if len(self) >= limits.OWED_COMMANDS and self._waiting:
            log.warning("too much is owed", bound=limits.OWED_COMMANDS)
            self._waiting.popleft().settled()
        self._waiting.append(_Owed(body, caller, settled))
        self._begin()

    def _begin(self) -> None:
        while self._waiting and self._under_way < UNDER_WAY:
            self._under_way += 1
            owed = self._waiting.popleft()
            task = asyncio.get_running_loop().create_task(self._settle(owed))
            self._background[task] = None
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._background.pop(task, None)
        self._under_way -= 1
        if task.cancelled():
            self._waiting.clear()  # this replica stops
            return
        error = task.exception()
        if error is not None:
            log.error("an owed command failed", exc_info=error)
        self._begin()

    async def _settle(self, owed: _Owed) -> None:
        try:
            while not await self._decided(owed):  # noqa: ASYNC110  # nothing tells when
                await asyncio.sleep(RETRY_S)
        finally:
            owed.settled()

    async def _decided(self, owed: _Owed) -> bool:
        try:
            await self._submit(owed.body, owed.caller)
        except CallError as error:
            # Any other refusal is an answer, too.
            return error.code != "UNAVAILABLE" and error.reason != OVERLOADED
        return True
