"""Many calls on one stream: frames of calls come in, frames of answers go out. No gRPC here.

Every call is a task of its own, so none waits for another. All calls of a frame are begun in one
pass of the event loop, so their commands travel in one batch; answers that are ready at the same
moment leave in one frame. Nothing here waits for time to pass but one timer per stream, for the
calls whose time is up.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

import structlog

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.core import limits
from agentkeeper.server.caller import Caller
from agentkeeper.server.decode import decode, has_more_fields
from agentkeeper.server.dispatch import Dispatcher
from agentkeeper.server.errors import (
    NUMBERS,
    CallError,
    bad_field,
    out_of_time,
    outcome_unknown,
    overloaded,
)

log = structlog.get_logger(__name__)

LATE_S: Final = 0.05
"""After its deadline a call has this long to end by itself: its service knows best what became of
the command. Then it is broken off."""
TIMER_S: Final = 3_600.0
"""The farthest ahead that the timer is set."""
SMALL_FRAME_BYTES: Final = 65_536
"""Parsing as much costs little, whatever it is."""
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
        self._read = read
        self._write = write
        self._loop = asyncio.get_running_loop()
        self._calls: dict[int, Task] = {}
        self._broken_off: set[Task] = set()
        """Cancelled calls that have not ended yet; nobody else may hold them."""
        self._deadlines = _Deadlines(self._live, self._run_out)
        self._ready: deque[_Ready] = deque()
        self._unread_bytes = 0
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
        sides = [self._loop.create_task(side()) for side in (self._take_all, self._give_all)]
        for side in sides:
            side.add_done_callback(self._side_ended)
        try:
            await self._over
        except CallError as error:
            # Of the stream it is definite; but what became of these calls, the client can't know.
            error.definite = error.definite and not self._calls and not self._ready
            raise
        finally:
            self._deadlines.close()
            self._ready.clear()
            calls, self._calls = self._calls, {}
            for task in (*sides, *calls.values()):
                self._break_off(task)

    def leave(self, error: CallError) -> None:
        """Take no more calls, give the answers that are ready, and end with `error`."""
        self._leaving = error
        self._news.set()

    def look(self) -> None:
        """Tell the client who leads, if that has changed."""
        if self._around.leader_endpoint() != self._leader_told:
            self._news.set()

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
                self._take(data)
            del data
            while self._unread_bytes >= limits.STREAM_UNREAD_BYTES:
                self._room.clear()
                await self._room.wait()

    def _take(self, data: bytes) -> None:
        """Begin all calls of a frame, or none: raises `CallError` for a frame that is at fault."""
        frame = _frame(data)
        ids: set[int] = set()
        for i, call in enumerate(frame.calls):
            if call.id == 0:
                raise bad_field(f"calls[{i}].id", "must not be 0")
            if call.id in self._calls or call.id in ids:
                raise bad_field(f"calls[{i}].id", f"{call.id} is in use")
            ids.add(call.id)
        now_s = self._loop.time()
        for call in frame.calls:
            self._begin(call, now_s)
        for call_id in frame.cancelled:
            task = self._calls.pop(call_id, None)
            if task is not None:
                self._break_off(task)
                self._news.set()

    def _begin(self, call: pb.Call, now_s: float) -> None:
        call_id, method = call.id, call.method
        try:
            if len(self._calls) >= limits.STREAM_CALLS:
                raise overloaded(f"{limits.STREAM_CALLS} calls are under way on this stream")
            caller = Caller.from_call(call, now_s)
        except CallError as error:
            self._dispatcher.count(method)
            self._put(call_id, self._failure(error))
            return
        task = self._loop.create_task(self._answer(call_id, method, call.request, caller))
        self._calls[call_id] = task
        if caller.deadline_s is not None:
            self._deadlines.add(caller.deadline_s + LATE_S, call_id, task)

    async def _answer(self, call_id: int, method: str, request: bytes, caller: Caller) -> None:
        answering = self._dispatcher.answer(method, request, caller)
        del request  # it may be large, and the call long
        outcome: bytes | pb.CallFailure
        try:
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

    def _live(self, call_id: int, task: Task | None) -> bool:
        """Whether the call still wants an answer; its id may be another's by now."""
        return task is not None and self._calls.get(call_id) is task

    def _run_out(self, call_id: int) -> None:
        self._break_off(self._calls.pop(call_id))
        self._put(call_id, self._failure(out_of_time()))

    def _break_off(self, task: Task) -> None:
        self._broken_off.add(task)
        task.add_done_callback(self._broken_off.discard)
        task.cancel()

    # ------------------------------------------------------------ answers go out

    async def _give_all(self) -> None:
        while True:
            self._news.clear()
            frame, size = self._next_frame()
            if frame:
                await self._write(frame)
                self._unread_bytes -= size
                if self._unread_bytes < limits.STREAM_UNREAD_BYTES:
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
        size = len(outcome) if isinstance(outcome, bytes) else outcome.ByteSize()
        size += ANSWER_OVERHEAD_BYTES
        self._ready.append(_Ready(call_id, outcome, size))
        self._unread_bytes += size
        self._news.set()
        if self._unread_bytes > limits.STREAM_CUT_BYTES:
            message = f"answers of {limits.STREAM_CUT_BYTES} bytes were not read"
            if not self._over.done():
                log.warning("stream cut", reason=message)
            self._end(CallError("RESOURCE_EXHAUSTED", "slow_reader", message, definite=False))

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


class _Deadlines:
    """When calls run out of time, with one timer for all: `run_out` is called for each in time.

    Calls that have ended (`live` tells) are dropped when their time comes, or sooner when they are
    most of what is kept here.
    """

    def __init__(
        self, live: Callable[[int, Task | None], bool], run_out: Callable[[int], None]
    ) -> None:
        self._live = live
        self._run_out = run_out
        self._loop = asyncio.get_running_loop()
        self._heap: list[tuple[float, int, int, Task]] = []
        self._tickets = 0
        self._tidy_at = 64
        self._timer: asyncio.TimerHandle | None = None

    def add(self, when_s: float, call_id: int, task: Task) -> None:
        """Let a call run out at `when_s`, on the loop's clock."""
        self._tickets += 1
        heapq.heappush(self._heap, (when_s, self._tickets, call_id, task))
        if len(self._heap) > self._tidy_at:
            self._heap = [entry for entry in self._heap if self._live(entry[2], entry[3])]
            heapq.heapify(self._heap)
            self._tidy_at = 64 + 2 * len(self._heap)
        if self._timer is None or when_s < self._timer.when():
            self._set_timer()

    def close(self) -> None:
        """Let nothing run out any more."""
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        when_s = min(self._heap[0][0], self._loop.time() + TIMER_S)
        self._timer = self._loop.call_at(when_s, self._look)

    def _look(self) -> None:
        self._timer = None
        now_s = self._loop.time()
        while self._heap:
            when_s, _, call_id, task = self._heap[0]
            live = self._live(call_id, task)
            if live and when_s > now_s:
                self._set_timer()
                return
            heapq.heappop(self._heap)
            if live:
                self._run_out(call_id)


def _frame(data: bytes) -> pb.CallFrame:
    """A client's frame. Raises `CallError` naming what is at fault."""
    if len(data) > SMALL_FRAME_BYTES:
        bound = limits.FRAME_CALLS + limits.STREAM_CALLS
        if has_more_fields(data, bound):
            raise bad_field("calls", f"a frame of more than {bound} entries")
    frame = decode(pb.CallFrame, data)
    if len(frame.calls) > limits.FRAME_CALLS:
        raise bad_field("calls", f"{len(frame.calls)} entries, more than {limits.FRAME_CALLS}")
    if len(frame.cancelled) > limits.STREAM_CALLS:
        entries = len(frame.cancelled)
        raise bad_field("cancelled", f"{entries} entries, more than {limits.STREAM_CALLS}")
    return frame
