"""The way of commands into the log: batched at the leader, forwarded by followers, retried.

Every command has an id (session, number) that the state machine remembers, so handing it on again
after a lost message or a change of leader is always safe; a command stays here until its entry is
applied on this replica or its caller's time is up.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import structlog

from agentkeeper.consensus.port import Outcome
from agentkeeper.core import limits
from agentkeeper.core.codec import (
    fingerprint,
    pack,
    pack_batch,
    pack_commands,
    unpack_commands,
)
from agentkeeper.core.commands import Batch, Body, Command, OpenSession
from agentkeeper.core.records import Result
from agentkeeper.core.refusals import number_reused
from agentkeeper.server.errors import outcome_unknown, overloaded, refused, unavailable
from agentkeeper.server.machine import Applied
from agentkeeper.server.messages import Forward, Forwarded
from agentkeeper.server.room import Room

log = structlog.get_logger(__name__)

ANSWER_S = 1.0
"""Commands that the leader has not confirmed to have taken after this long are sent again,"""
DECISION_S = 5.0
"""those it has taken, if they are not applied after this long,"""
REFUSED_S = 0.1
"""and those it has not, after this long."""
PAUSE_S = 0.02
"""Before the next batch, when the engine did not take the last one."""
MESSAGE_OVERHEAD_BYTES = 64
QUEUE_SLACK = 64
"""Abandoned commands that may stay in the queue until it is tidied."""

Key = tuple[str, int, int]


def key_of(command: Command) -> Key:
    """What identifies a command among those under way.

    Calls that may be withdrawn each have their own, so that the state machine hears of the last.
    """
    if isinstance(command.body, OpenSession):
        return (command.body.session_id, 0, 0)
    return (command.session_id, command.number, command.attempt)


@dataclass(slots=True)
class _Pending:
    command: Command
    size: int
    decided: asyncio.Future[Result]
    copies: int = 0
    """How often it was handed on, to the engine or the leader, and not definitely refused."""
    forward_number: int = 0
    """Of the batch in which it was last sent to the leader, unless that has been refused."""
    late_s: float = math.inf
    """When to hand it on again, unless something else says so before."""
    queued: bool = True
    callers: int = 0


@dataclass(slots=True)
class _Foreign:
    """A batch that a follower forwarded."""

    sender_id: str
    number: int
    commands: tuple[Command, ...]
    size: int


class Proposer:
    """Commands of this replica under way, and, while it leads, those forwarded by others.

    `propose(payload, ended)` puts a batch into the log if this replica leads, and calls `ended`
    with how that went; `send(node_id, message)` reaches another replica, best effort. One batch
    is on its way at a time: what comes meanwhile goes into the next. `first_number` is to be drawn
    at random: an answer meant for this replica before it was restarted must not fit. `encoding`
    tells which one everything is written in now.
    """

    def __init__(
        self,
        propose: Callable[[bytes, Callable[[Outcome], None]], None],
        send: Callable[[str, Forward | Forwarded], bool],
        stamp: Callable[[], tuple[int, int]],
        *,
        encoding: Callable[[], int],
        first_number: int = 0,
        on_room: Callable[[], None] = lambda: None,
    ) -> None:
        self._propose = propose
        self._encoding = encoding
        self._send = send
        self._stamp = stamp
        self._on_room = on_room
        self._pending: dict[Key, _Pending] = {}
        self._queue: deque[_Pending] = deque()
        self._queue_bytes = 0
        self._room = Room()
        self._foreign: dict[str, _Foreign] = {}
        """By sender: one that sends again has given up on its last."""
        self._leading = False
        self._leader_id: str | None = None
        self._busy = False
        """A batch is on its way, into the log or to the leader."""
        self._tick = False
        self._forward_number = first_number
        self._handed_on: list[_Pending] = []
        """This replica's part of the batch that is on its way."""
        self._answer_due_s = math.inf
        self._pump_scheduled = False

    @property
    def pending(self) -> int:
        """Commands of this replica that are not decided yet."""
        return len(self._pending)

    @property
    def busy(self) -> bool:
        """Whether commands are under way, of this replica or of others through it."""
        return self._busy or bool(self._pending)

    @property
    def crowded(self) -> bool:
        """Whether as much waits as the next batch takes in good time, and such are being taken.

        More would only wait longer, where all wait alike. `on_room` is called when it may be over.
        """
        return self._room.full(len(self._queue), asyncio.get_running_loop().time())

    async def submit(self, command: Command, deadline_s: float) -> Result:
        """Get a command applied and return its result.

        Raises `CallError`: overloaded, unavailable if it was never handed on by the deadline
        (on the loop's clock), of unknown outcome otherwise.
        """
        loop = asyncio.get_running_loop()
        key = key_of(command)
        size = len(pack(command.body)) + MESSAGE_OVERHEAD_BYTES
        if key in self._pending:
            # A retry that overtook its first attempt on this replica: both get the one answer.
            pending = self._pending[key]
            if not _same(pending.command.body, command.body):
                raise refused(number_reused(command.number))
        elif len(self._pending) >= limits.PENDING_COMMANDS:
            raise overloaded(f"{limits.PENDING_COMMANDS} commands are under way on this replica")
        elif self._queue_bytes + size > limits.PENDING_BYTES:
            raise overloaded(f"{limits.PENDING_BYTES} bytes of commands wait on this replica")
        else:
            pending = _Pending(command, size, loop.create_future())
            self._pending[key] = pending
            self._enqueue([pending])
        pending.callers += 1
        try:
            async with asyncio.timeout_at(deadline_s):
                return await asyncio.shield(pending.decided)
        except TimeoutError:
            if pending.copies:
                raise outcome_unknown("not decided in time; it may still take effect") from None
            raise unavailable("no leader could be reached") from None
        finally:
            pending.callers -= 1
            if pending.callers == 0 and not pending.decided.done():
                self._abandon(key, pending)

    def applied(self, applied: Applied) -> None:
        """Answer the commands of this replica that an entry decided."""
        for command, result in zip(applied.batch.commands, applied.results, strict=True):
            key = key_of(command)
            pending = self._pending.get(key)
            if pending is None or not _same(pending.command.body, command.body):
                continue  # another request under its number, made elsewhere: its own turn comes
            del self._pending[key]
            if not pending.decided.done():
                pending.decided.set_result(result)

    def lead(self) -> None:
        """This replica's leadership is established: what waits goes into the log."""
        self._change(True, None)

    def follow(self, leader_id: str | None) -> None:
        """Another replica leads, or nobody that is known."""
        for foreign in self._foreign.values():
            self._send(foreign.sender_id, Forwarded(foreign.number, False))
        self._foreign.clear()
        self._change(False, leader_id)

    def tick(self) -> None:
        """Put a batch into the log soon, even an empty one, so that time advances."""
        if self._leading:
            self._tick = True
            self._schedule_pump()

    def take(self, sender_id: str, forward: Forward, *, may_lead: bool) -> None:
        """Accept commands forwarded by a follower, if this replica leads or is about to."""
        if not may_lead:
            self._send(sender_id, Forwarded(forward.number, False))
            return
        try:
            commands = unpack_commands(forward.commands)
        except Exception as error:
            # From a newer build, most likely: dropped, so that its callers are told in time.
            log.warning("forwarded commands can't be read", sender=sender_id, error=str(error))
            self._send(sender_id, Forwarded(forward.number, False))
            return
        size = len(forward.commands)
        self._foreign[sender_id] = _Foreign(sender_id, forward.number, commands, size)
        self._schedule_pump()

    def _proposed(self, batch: list[_Pending], foreign: list[_Foreign], outcome: Outcome) -> None:
        """A batch on its way into the log has ended."""
        if outcome is Outcome.REJECTED:
            for pending in batch:
                pending.copies -= 1
            for refused in foreign:
                self._send(refused.sender_id, Forwarded(refused.number, False))
        if batch is not self._handed_on:
            return  # of a former leadership: what is on its way now is another
        if outcome is Outcome.COMMITTED:
            self._busy = False
            self._schedule_pump()
        else:
            asyncio.get_running_loop().call_later(PAUSE_S, self._propose_again)

    def forwarded(self, answer: Forwarded) -> None:
        """The leader has answered for a batch: it has taken it, or in the end it could not."""
        now_s = asyncio.get_running_loop().time()
        last = not self._leading and answer.number == self._forward_number
        if not answer.taken:
            self._forward_refused(answer.number, now_s + REFUSED_S)
        elif last:
            for pending in self._handed_on:
                pending.late_s = now_s + DECISION_S
        if last:
            self._busy = False
            self._schedule_pump()

    def _forward_refused(self, number: int, late_s: float) -> None:
        for pending in self._pending.values():
            if pending.forward_number == number:
                pending.forward_number = 0
                pending.copies -= 1
                if not pending.queued:
                    pending.late_s = late_s

    def sweep(self) -> None:
        """Hand on again what has been out for too long. Called a few times a second."""
        now_s = asyncio.get_running_loop().time()
        late = [p for p in self._pending.values() if p.late_s < now_s]
        if self._busy and not self._leading and now_s > self._answer_due_s:
            self._busy = False
        self._resend(late)
        self._schedule_pump()
        self._on_room()

    def _abandon(self, key: Key, pending: _Pending) -> None:
        """Nobody waits for a command any longer: it is not handed on again."""
        del self._pending[key]
        pending.decided.cancel()
        if pending.queued:
            self._queue_bytes -= pending.size
            pending.size = 0
        if len(self._queue) > 2 * len(self._pending) + QUEUE_SLACK:
            # No leader for long: what was abandoned meanwhile must not pile up.
            self._queue = deque(p for p in self._queue if not p.decided.done())
            self._queue_bytes = sum(p.size for p in self._queue)

    def _change(self, leading: bool, leader_id: str | None) -> None:
        self._leading, self._leader_id = leading, leader_id
        self._forward_number += 1  # an answer to what was sent before means nothing now
        self._busy = False
        self._resend(self._pending.values())

    def _propose_again(self) -> None:
        if self._leading:
            self._busy = False
            self._resend(self._pending.values())

    def _resend(self, pending: Iterable[_Pending]) -> None:
        self._enqueue([p for p in pending if not p.queued])

    def _enqueue(self, pending: list[_Pending]) -> None:
        for p in pending:
            p.queued = True
            p.late_s = math.inf
            self._queue_bytes += p.size
        self._queue.extend(pending)
        self._schedule_pump()

    def _schedule_pump(self) -> None:
        if not self._pump_scheduled and not self._busy:
            self._pump_scheduled = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        """Send one batch of what waits."""
        self._pump_scheduled = False
        if self._busy:
            return
        if self._leading:
            self._pump_into_log()
        elif self._leader_id is not None:
            self._pump_to_leader(self._leader_id)

    def _pump_to_leader(self, leader_id: str) -> None:
        batch = self._take_own(limits.BATCH_BYTES)
        if not batch:
            return
        self._handed_on = batch
        self._forward_number += 1
        commands = pack_commands([pending.command for pending in batch], self._encoding())
        self._busy = self._send(leader_id, Forward(self._forward_number, commands))
        self._answer_due_s = asyncio.get_running_loop().time() + ANSWER_S
        for pending in batch:
            # If there is no link just now, the sweep hands the command on later.
            pending.late_s = self._answer_due_s
            pending.copies += self._busy
            pending.forward_number = self._forward_number if self._busy else 0

    def _pump_into_log(self) -> None:
        """Propose one batch: of each follower what it has sent, and of this replica's own."""
        commands: list[Command] = []
        taken: list[_Foreign] = []
        size = limits.BATCH_BYTES
        for sender_id, foreign in tuple(self._foreign.items()):
            if commands and foreign.size > size:
                break
            del self._foreign[sender_id]
            taken.append(foreign)
            commands.extend(foreign.commands)
            size -= foreign.size
            self._send(sender_id, Forwarded(foreign.number, True))
        self._handed_on = self._take_own(size)
        commands.extend([pending.command for pending in self._handed_on])
        if not commands and not self._tick:
            return
        for pending in self._handed_on:
            pending.copies += 1
        self._tick = False
        self._busy = True
        time_ms, wall_ms = self._stamp()
        payload = pack_batch(Batch(time_ms, wall_ms, tuple(commands)), self._encoding())
        self._propose(payload, partial(self._proposed, self._handed_on, taken))

    def _take_own(self, size: int) -> list[_Pending]:
        """Commands from the queue, within bounds; the first is taken however large it is."""
        batch: list[_Pending] = []
        while self._queue and len(batch) < limits.BATCH_COMMANDS:
            pending = self._queue[0]
            if batch and pending.size > size:
                break
            self._queue.popleft()
            self._queue_bytes -= pending.size
            pending.queued = False
            if not pending.decided.done():
                size -= pending.size
                batch.append(pending)
        if batch:
            self._room.taken(len(batch), asyncio.get_running_loop().time())
            self._on_room()
        return batch


def _same(one: Body, other: Body) -> bool:
    return one == other or fingerprint(one) == fingerprint(other)
