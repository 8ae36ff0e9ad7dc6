"""Many calls on one stream: frames of calls come in, frames of answers go out. No gRPC here.

Every call is a task of its own, so none waits for another. The calls of a frame are begun together,
so their commands travel in one batch; only a frame of many, or of such as take long, is begun in
slices, with turns for others in between. Answers that are ready at the same moment leave in one
frame. Nothing here waits for time to pass but one timer per stream, for the calls whose time is up.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

import structlog

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.core import limits
from agentkeeper.server.admission import is_late, not_begun, on_stream
from agentkeeper.server.alarms import Alarms
from agentkeeper.server.caller import Caller
from agentkeeper.server.dispatch import Dispatcher
from agentkeeper.server.errors import (
    NUMBERS,
    CallError,
    bad_field,
    out_of_time,
    outcome_unknown,
    overloaded,
)
from agentkeeper.server.frames import read_frame

log = structlog.get_logger(__name__)

LATE_S: Final = 0.05
"""After its deadline a call has this long to end by itself: its service knows best what became of
the command. Then it is broken off."""
SLICE_CALLS: Final = 256
"""Calls that come to wait for their turn together: what one batch takes of commands."""
STALLED_S: Final = 30.0
"""A client that takes nothing for so long does not read any more."""
ANSWER_OVERHEAD_BYTES: Final = 24

Task = asyncio.Task[None]


class _Ready(NamedTuple):
    """An answer that waits for its frame."""

    call_id: int
    outcome: bytes | pb.CallFailure
    size: int


class Exchange:
    """One open stream. `run` serves it.

    `read` gives the client's next frame, None when it sends no more; `write` returns when a frame
    is on its way and there is room for another.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        read: Callable[[], Awaitable[bytes | None]],
        write: Callable[[bytes], Awaitable[None]],
    ) -> None:
        self._dispatcher = dispatcher
        self._around = dispatcher.around
        self._turns = dispatcher.around.turns
        self._share = on_stream()
        self._read = read
        self._write = write
        self._loop = asyncio.get_running_loop()
        self._calls: dict[int, Task] = {}
        self._broken_off: set[Task] = set()
        """Cancelled calls that have not ended yet; nobody else may hold them."""
        self._deadlines: Alarms[tuple[int, Task]] = Alarms(
            lambda item: self._live(*item), lambda item: self._run_out(item[0])
        )
        self._ready: deque[_Ready] = deque()
        self.unread_bytes = 0
        """Of answers that the client has not taken."""
        self._writing_since_s: float | None = None
        self._news = asyncio.Event()
        """Something for the writer to look at."""
        self._room = asyncio.Event()
        self._sends_no_more = False
        self._leader_told: str | None = None
        self._leaving: CallError | None = None
        self._over: asyncio.Future[None] = self._loop.create_future()

    async def run(self) -> None:
        """Serve until the client sends no more and has all its answers.

        Raises `CallError` when the stream must end otherwise. Calls that are then under way, or
        when this is cancelled, are cancelled.
        """
        self._around.unread.streams.add(self)
        sides = [self._loop.create_task(side()) for side in (self._take_all, self._give_all)]
        for side in sides:
            side.add_done_callback(self._side_ended)
        try:
            await self._over
        except CallError as error:
            # Of the stream it is definite; but what became of these calls, the client can't know.
            error.definite = error.definite and not self._calls and not self.unread_bytes
            raise
        finally:
            self._around.unread.streams.discard(self)
            self._deadlines.close()
            self._drop_answers()
            calls, self._calls = self._calls, {}
            for side in sides:
                side.cancel()
                self._hold(side)
            self._break_off(list(calls.values()))

    def leave(self, error: CallError) -> None:
        """Take no more calls, give the answers that are ready, and end with `error`."""
        self._leaving = error
        self._news.set()

    def look(self) -> None:
        """Tell the client who leads, if that has changed; cut it if it takes nothing any more."""
        if self._around.leader_endpoint() != self._leader_told:
            self._news.set()
        since_s = self._writing_since_s
        if since_s is not None and self._loop.time() - since_s > STALLED_S:
            self.cut(f"no answers were read for {STALLED_S:.0f} s")

    def cut(self, message: str) -> None:
        """End the stream: its client reads too slowly. Its unread answers are dropped at once."""
        if not self._over.done():
            log.warning("stream cut", reason=message)
        self._end(CallError("RESOURCE_EXHAUSTED", "slow_reader", message, definite=False))
        self._drop_answers()

    def _side_ended(self, side: Task) -> None:
        if side.cancelled():
            return
        error = side.exception()
        if error is not None:
            if isinstance(error, CallError):
                # It must not hold the frames it came through, and the client's bytes in them.
                error.__context__ = None
                error.__traceback__ = None
            self._end(error)

    def _end(self, error: BaseException) -> None:
        if not self._over.done():
            self._over.set_exception(error)
            self._over.exception()  # nobody may be left to ask for it

    # ------------------------------------------------------------ calls come in

    async def _take_all(self) -> None:
        while self._leaving is None:
            data = await self._read()
            if data is None:
                self._sends_no_more = True
                self._news.set()
                return
            if self._leaving is None:
                frame = self._checked(data)
                del data
                await self._begin_all(frame)
                del frame
            while self.unread_bytes >= limits.STREAM_UNREAD_BYTES:
                await self._turn()

    def _checked(self, data: bytes) -> pb.CallFrame:
        """A frame whose calls can all be begun. Raises `CallError` for one that is at fault."""
        frame = read_frame(data)
        ids: set[int] = set()
        for i, call in enumerate(frame.calls):
            if call.id == 0:
                raise bad_field(f"calls[{i}].id", "must not be 0")
            if call.id in self._calls or call.id in ids:
                raise bad_field(f"calls[{i}].id", f"{call.id} is in use")
            ids.add(call.id)
        return frame

    async def _begin_all(self, frame: pb.CallFrame) -> None:
        """Begin the calls of a frame, and break off those that it cancels, in slices."""
        now_s = self._loop.time()
        cancelled = set(frame.cancelled)
        if cancelled:
            self._break_off([self._calls.pop(i) for i in cancelled if i in self._calls])
            self._news.set()
        waited_s = 0.0
        for i, call in enumerate(frame.calls):
            if i % SLICE_CALLS == 0:
                if self._calls:
                    await asyncio.sleep(0)  # those begun come first
                if self._turns.waits(self) or self.unread_bytes >= limits.STREAM_UNREAD_BYTES:
                    waited_s = await self._turn()  # after those before it, and no sooner read
                if self._leaving is not None:
                    return  # the others have not happened
            if call.id not in cancelled:
                self._begin(call, now_s, waited_s)

    def _may_begin(self) -> bool:
        return self.unread_bytes < limits.STREAM_UNREAD_BYTES and self._turns.free

    async def _turn(self) -> float:
        """Wait until a call may be begun; returns how long that took, but for unread answers."""
        waited_s = 0.0
        while not self._may_begin():
            if self.unread_bytes >= limits.STREAM_UNREAD_BYTES:
                self._room.clear()
                await self._room.wait()
            else:
                waited_s += await self._turns.take(self)
                if self.unread_bytes < limits.STREAM_UNREAD_BYTES:
                    break
        return waited_s

    def _begin(self, call: pb.Call, now_s: float, waited_s: float) -> None:
        call_id, method = call.id, call.method
        try:
            if is_late(method, waited_s):
                raise not_begun()
            if len(self._calls) >= limits.STREAM_CALLS:
                raise overloaded(f"{limits.STREAM_CALLS} calls are under way on this stream")
            caller = Caller.from_call(call, now_s)
        except CallError as error:
            self._put(call_id, self._failure(self._refused(method, error)))
            return
        task = self._loop.create_task(self._answer(call_id, method, call.request, caller))
        self._calls[call_id] = task
        if caller.deadline_s is not None:
            self._deadlines.add(caller.deadline_s + LATE_S, (call_id, task))

    async def _answer(self, call_id: int, method: str, request: bytes, caller: Caller) -> None:
        outcome: bytes | pb.CallFailure
        try:
            if not self._may_begin():
                waited_s = await self._turn()
                if self._over.done() or not self._live(call_id, asyncio.current_task()):
                    return
                if is_late(method, waited_s):
                    raise self._refused(method, not_begun())
            answering = self._dispatcher.answer(method, request, caller, self._share)
            del request  # it may be large, and the call long
            outcome = await answering
        except CallError as error:
            outcome = self._failure(error)
        except asyncio.CancelledError:
            if not self._live(call_id, asyncio.current_task()):
                raise
            # By nobody here: a caller that still waits must be told.
            outcome = self._failure(outcome_unknown("broken off; it may have taken effect"))
        if self._live(call_id, asyncio.current_task()):
            del self._calls[call_id]
            self._put(call_id, outcome)

    def _refused(self, method: str, error: CallError) -> CallError:
        """Count a call that is refused before it is begun; returns why."""
        self._dispatcher.count(method, error)
        return error

    def _live(self, call_id: int, task: Task | None) -> bool:
        """Whether the call still wants an answer; its id may be another's by now."""
        return task is not None and self._calls.get(call_id) is task

    def _run_out(self, call_id: int) -> None:
        self._break_off([self._calls.pop(call_id)])
        self._put(call_id, self._failure(out_of_time()))

    def _break_off(self, tasks: list[Task]) -> None:
        for task in tasks:
            self._hold(task)
            self._turns.soon(task.cancel)

    def _hold(self, task: Task) -> None:
        self._broken_off.add(task)
        task.add_done_callback(self._broken_off.discard)

    # ------------------------------------------------------------ answers go out

    async def _give_all(self) -> None:
        while True:
            self._news.clear()
            frame, size = self._next_frame()
            if frame:
                self._writing_since_s = self._loop.time()
                await self._write(frame)
                self._writing_since_s = None
                self._count(-size)
                if self.unread_bytes < limits.STREAM_UNREAD_BYTES:
                    self._room.set()
            elif self._leaving is not None:
                if self._calls:
                    raise outcome_unknown("this replica stops before these calls have ended")
                raise self._leaving
            elif self._sends_no_more and not self._calls:
                if not self._over.done():
                    self._over.set_result(None)
                return
            else:
                await self._news.wait()

    def _next_frame(self) -> tuple[bytes, int]:
        """What is ready now, and the size of the answers in it; empty if there is nothing."""
        leader = self._around.leader_endpoint()
        if not self._ready and leader == self._leader_told:
            return b"", 0
        frame = pb.AnswerFrame(log_index=self._around.applied_index())
        if leader != self._leader_told:
            frame.leader_endpoint = self._leader_told = leader
        size = 0
        while self._ready:
            call_id, outcome, more = self._ready[0]
            if size and size + more > limits.ANSWER_FRAME_BYTES:
                break
            self._ready.popleft()
            size += more
            if isinstance(outcome, bytes):
                frame.answers.add(id=call_id, response=outcome)
            else:
                frame.answers.add(id=call_id, failure=outcome)
        return frame.SerializeToString(), size

    def _put(self, call_id: int, outcome: bytes | pb.CallFailure) -> None:
        if self._over.done():
            return
        size = len(outcome) if isinstance(outcome, bytes) else outcome.ByteSize()
        size += ANSWER_OVERHEAD_BYTES
        self._ready.append(_Ready(call_id, outcome, size))
        self._news.set()
        if self.unread_bytes + size > limits.STREAM_CUT_BYTES:
            self.cut(f"answers of {limits.STREAM_CUT_BYTES} bytes were not read")
        else:
            self._count(size)

    def _count(self, size: int) -> None:
        if not self._over.done():
            self.unread_bytes += size
            self._around.unread.add(size)

    def _drop_answers(self) -> None:
        self._ready.clear()
        size, self.unread_bytes = self.unread_bytes, 0
        self._around.unread.add(-size)

    def _failure(self, error: CallError) -> pb.CallFailure:
        return pb.CallFailure(
            code=NUMBERS[error.code],
            message=error.message,
            definite=error.definite,
            reason=error.reason,
            field=error.field,
            oldest=error.oldest or 0,
            leader_endpoint=self._around.leader_endpoint(),
        )
