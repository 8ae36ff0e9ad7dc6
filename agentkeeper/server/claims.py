"""Callers of ClaimTask that wait on this replica for a task that fits.

Nothing of this is replicated: a caller is woken when a PENDING task fits its agent, and only then
proposes a claim. At most as many are woken as there are tasks, first come first served; one that
comes away empty-handed (another replica's caller was faster) waits on at its place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from agentkeeper.core import limits
from agentkeeper.core.queue import ToolSet
from agentkeeper.server.errors import overloaded
from agentkeeper.server.machine import Machine
from agentkeeper.server.turns import Turns


@dataclass(slots=True, eq=False)
class _Waiter:
    agent_id: str
    woken: asyncio.Event


class ClaimWaiters:
    """The waiting callers, in order of arrival."""

    def __init__(self, machine: Machine, turns: Turns) -> None:
        self._machine = machine
        self._turns = turns
        self._waiting: dict[int, _Waiter] = {}
        self._attempting: set[int] = set()
        self._woken: set[int] = set()
        """Those of the attempting that were woken for a task."""
        self._tickets = 0

    @property
    def count(self) -> int:
        """How many callers there are."""
        return len(self._waiting) + len(self._attempting)

    @contextmanager
    def waiting(self, agent_id: str) -> Iterator[ClaimWaiter]:
        """A place in line for the duration of a call."""
        if self.count >= limits.CLAIM_WAITERS:
            raise overloaded(f"{limits.CLAIM_WAITERS} claims wait on this replica")
        self._tickets += 1
        place = ClaimWaiter(self, self._tickets, agent_id, asyncio.Event())
        self._attempting.add(place.ticket)
        try:
            yield place
        finally:
            self._waiting.pop(place.ticket, None)
            self._attempting.discard(place.ticket)
            if place.ticket in self._woken:
                # It leaves without a task, or perhaps with a better one than it was woken for:
                # what is there still is another's chance.
                self._woken.discard(place.ticket)
                self.dispatch()

    def dispatch(self, queued: Mapping[ToolSet, int] | None = None) -> None:
        """Wake callers for tasks that have just become PENDING: how many, by required tools.

        Without `queued`, for all that are PENDING.
        """
        state = self._machine.state
        room = dict(state.pending.sets() if queued is None else queued)
        if not room:
            return
        for ticket in sorted(self._waiting):
            tools = state.tool_sets.get(self._waiting[ticket].agent_id, frozenset())
            fitting = next((key for key in room if tools.issuperset(key)), None)
            if fitting is None:
                continue
            self._wake(ticket)
            room[fitting] -= 1
            if room[fitting] == 0:
                del room[fitting]
                if not room:
                    return

    def wake_all(self) -> None:
        """Anything may have changed: let every caller try, in turns."""
        for ticket in sorted(self._waiting):
            self._turns.soon(partial(self._wake_waiting, ticket))

    def wake_agent(self, agent_id: str) -> None:
        """An agent has died: its callers must be told."""
        for ticket in [t for t, w in self._waiting.items() if w.agent_id == agent_id]:
            self._turns.soon(partial(self._wake_waiting, ticket))

    async def wait(self, ticket: int, agent_id: str, woken: asyncio.Event) -> None:
        """Wait until `woken` is set, here or by others."""
        woken.clear()
        waiter = _Waiter(agent_id, woken)
        self._attempting.discard(ticket)
        self._woken.discard(ticket)
        self._waiting[ticket] = waiter
        state = self._machine.state
        tools = state.tool_sets.get(agent_id)
        if tools is None or state.pending.fits(tools):
            self._wake(ticket)
        await woken.wait()

    def _wake_waiting(self, ticket: int) -> None:
        if ticket in self._waiting:
            self._wake(ticket)

    def _wake(self, ticket: int) -> None:
        waiter = self._waiting.pop(ticket)
        self._attempting.add(ticket)
        self._woken.add(ticket)
        waiter.woken.set()


@dataclass(frozen=True, slots=True)
class ClaimWaiter:
    """One caller's place in line. `woken` may be set by others, to end its waiting."""

    waiters: ClaimWaiters
    ticket: int
    agent_id: str
    woken: asyncio.Event

    async def next_chance(self) -> None:
        """Wait until a claim may succeed (or fail for good)."""
        await self.waiters.wait(self.ticket, self.agent_id, self.woken)
