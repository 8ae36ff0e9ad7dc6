"""What the services see of this replica: submit a command, read the state, wait for things."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from agentkeeper.core import limits
from agentkeeper.core.commands import Body, CloseSession, Command, OpenSession, Withdraw
from agentkeeper.core.records import Refused, Result
from agentkeeper.core.refusals import SESSION_EXPIRED
from agentkeeper.core.state import State
from agentkeeper.server.agent_index import AgentIndex
from agentkeeper.server.alarms import Alarms
from agentkeeper.server.caller import Caller
from agentkeeper.server.claims import ClaimWaiters
from agentkeeper.server.errors import CallError, refused, unavailable
from agentkeeper.server.machine import Machine
from agentkeeper.server.owed import OwedCommands
from agentkeeper.server.own_session import OwnSession, Place
from agentkeeper.server.proposer import Proposer
from agentkeeper.server.reads import ReadRounds
from agentkeeper.server.turns import Turns
from agentkeeper.server.watch import WatchHub

COMMAND_TIMEOUT_S: Final = 10.0
"""How long a call without a nearer deadline waits for its command, a change of leader included."""
LEADER_WAIT_S: Final = 3.0
"""The same when no leader is known to begin with."""


class Notices:
    """Wakes whoever waits for something to happen to a subject."""

    def __init__(self) -> None:
        self._waiting: dict[str, dict[asyncio.Event, None]] = {}  # in the order of their coming

    @contextlib.contextmanager
    def about(self, *subjects: str) -> Iterator[asyncio.Event]:
        """An event that is set when something happens to any of `subjects`."""
        event = asyncio.Event()
        subjects = tuple(dict.fromkeys(subjects))  # a lease may have its agent's name
        for subject in subjects:
            self._waiting.setdefault(subject, {})[event] = None
        try:
            yield event
        finally:
            for subject in subjects:
                waiting = self._waiting[subject]
                del waiting[event]
                if not waiting:
                    del self._waiting[subject]

    def tell_all(self) -> None:
        """Something may have happened to anything."""
        for subject in self._waiting:
            self.tell(subject)

    def tell(self, subject: str) -> None:
        """Something happened to `subject`."""
        for event in self._waiting.get(subject, ()):
            event.set()


@dataclass(slots=True, eq=False)
class _Alarm:
    event: asyncio.Event
    off: bool = False


@dataclass(slots=True)
class Replica:
    """The parts of a replica that services work with.

    `draw_id` gives 32 fresh hex characters, `draw_attempt` a fresh number, never 0.
    """

    node_id: str
    machine: Machine
    proposer: Proposer
    reads: ReadRounds
    hub: WatchHub
    claims: ClaimWaiters
    own_session: OwnSession
    index: AgentIndex
    notices: Notices
    draw_id: Callable[[], str]
    draw_attempt: Callable[[], int]
    leader_known: Callable[[], bool]
    closing: asyncio.Event
    background: dict[asyncio.Task[Any], None]
    turns: Turns
    owed: OwedCommands = field(init=False)
    _alarms: Alarms[_Alarm] = field(init=False)

    def __post_init__(self) -> None:
        self.owed = OwedCommands(self.submit, self.background)
        self._alarms = Alarms(lambda alarm: not alarm.off, self._ring)

    @property
    def state(self) -> State:
        """The state as of the last applied entry."""
        return self.machine.state

    async def submit(self, body: Body, caller: Caller) -> Result:
        """Get a command applied. Raises `CallError`, also for a refusal of the state machine."""
        return await self._submit(body, caller, attempt=0)

    async def submit_or_withdraw(self, body: Body, caller: Caller, attempt: int) -> Result:
        """As `submit`; if it ends before its outcome is known, undo it in the background.

        `attempt` is one for all tries of a call (`draw_attempt`): the undoing is passed over if
        another call has asked the same since.
        """
        return await self._submit(body, caller, attempt)

    async def _submit(self, body: Body, caller: Caller, attempt: int) -> Result:
        deadline_s = self.deadline_s(caller)
        while True:
            place = None
            if caller.session_id:
                key, seen = (caller.session_id, caller.number), caller.seen
            else:
                place = await self.own_session.place(deadline_s)
                key, seen = place.key, place.seen
            command = Command(caller.identity, *key, seen, body, attempt)
            undoing = False
            try:
                result = await self.proposer.submit(command, deadline_s)
            except (CallError, asyncio.CancelledError) as error:
                undoing = bool(attempt) and not _definite(error)
                if undoing:
                    self.owe_withdrawal(key, attempt, place)
                raise
            finally:
                if place is not None and not undoing:
                    place.release()
            if not isinstance(result, Refused):
                return result
            if place is None or result.reason != SESSION_EXPIRED:
                raise refused(result)
            self.own_session.expired(place)

    async def read(self, caller: Caller) -> State:
        """The state, linearizable as of now unless the caller is content with `stale`."""
        deadline_s = self.deadline_s(caller)
        index = caller.min_index if caller.stale else await self.reads.index(deadline_s)
        try:
            async with asyncio.timeout_at(deadline_s):
                await self.machine.reach(index)
        except TimeoutError:
            raise unavailable(f"this replica has not reached index {index}", "behind") from None
        state = self.machine.state
        if state.epoch_due:  # what the new cluster gives out is not above the former's yet
            raise unavailable("the restored cluster is about to begin", "starting")
        return state

    async def withdraw(self, key: tuple[str, int], attempt: int) -> None:
        """Undo what the request `key` was given or waits for. Raises `CallError`."""
        await self.submit(Withdraw(*key, attempt), Caller())

    def owe_withdrawal(
        self, key: tuple[str, int], attempt: int, place: Place | None = None
    ) -> None:
        """As `withdraw`, in the background and for certain; `place` is released after."""
        settled = _nothing if place is None else place.release
        self.owed.owe(Withdraw(*key, attempt), Caller(), settled)

    def spawn(self, work: Coroutine[Any, Any, object]) -> None:
        """Run `work` in the background; its errors don't matter to anybody."""

        async def run() -> None:
            with contextlib.suppress(CallError):
                await work

        task = asyncio.get_running_loop().create_task(run())
        self.background[task] = None
        task.add_done_callback(lambda ended: self.background.pop(ended, None))

    @contextlib.asynccontextmanager
    async def session_of(self, caller: Caller) -> AsyncIterator[Caller]:
        """The caller with a session: its own, or one for the duration of this call."""
        if caller.session_id:
            yield caller
            return
        session_id = self.draw_id()
        body = OpenSession(session_id, limits.SESSION_TTL_MS_DEFAULT, limits.SESSION_WINDOW)
        command = Command(caller.identity, "", 0, 0, body)
        may_be_open = True
        try:
            try:
                result = await self.proposer.submit(command, self.deadline_s(caller))
                if isinstance(result, Refused):
                    raise refused(result)
            except CallError as error:
                may_be_open = not error.definite
                raise
            yield Caller(caller.identity, session_id, 1, deadline_s=caller.deadline_s)
        finally:
            if may_be_open:
                self.owed.owe(CloseSession(session_id), Caller(caller.identity), _nothing)

    @contextlib.contextmanager
    def alarm(self, deadline_s: float | None, event: asyncio.Event) -> Iterator[None]:
        """Set `event` when the deadline comes (on the loop's clock; None: never), unless this is
        left first.
        """
        if deadline_s is None:
            yield
            return
        alarm = _Alarm(event)
        self._alarms.add(deadline_s, alarm)
        try:
            yield
        finally:
            alarm.off = True

    def refuse_calls(self) -> None:
        """Set `closing`, and wake whoever waits, to see it."""
        self.closing.set()
        self.notices.tell_all()
        self.claims.wake_all()

    def _ring(self, alarm: _Alarm) -> None:
        self.turns.soon(alarm.event.set)

    def deadline_s(self, caller: Caller) -> float:
        """When to give up on a command or read of this caller, on the loop's clock."""
        wait_s = COMMAND_TIMEOUT_S if self.leader_known() else LEADER_WAIT_S
        deadline_s = asyncio.get_running_loop().time() + wait_s
        return deadline_s if caller.deadline_s is None else min(deadline_s, caller.deadline_s)


def _definite(error: BaseException) -> bool:
    return isinstance(error, CallError) and error.definite


def _nothing() -> None:
    pass


def shutting_down() -> CallError:
    """This replica is about to stop."""
    return unavailable("this replica is shutting down", "shutting_down")
