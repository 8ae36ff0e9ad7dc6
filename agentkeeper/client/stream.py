"""Many calls on one stream to one endpoint, which costs a fraction of as many gRPC calls.

A call waits in the outbox until the writer, one task per stream, puts all that wait at that moment
into one frame; the reader, another task, hands out the answers. Nothing on the way of a call waits
for a timer, and no call has a task of its own. What is kept is bounded by the calls under way: each
is somebody's `await`, and leaves outbox and table when that ends.

A stream that is silent is given up when a call on it runs out of its time, unless anything was
heard since that call was made. Its other calls then fail at once and try elsewhere, instead of
waiting for their own ends one after the other. A time shorter than `SILENCE_S` proves nothing.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.client.channels import failure_of
from agentkeeper.client.methods import PACKAGE, Method, RequestT, ResponseT
from agentkeeper.client.sessions import REQUEST_KEY, SEEN_KEY, SESSION_KEY
from agentkeeper.client.transport import CONSISTENCY_KEY, MIN_INDEX_KEY, STALE, Failure, Metadata

PATH = f"/{PACKAGE}.ExchangeService/Exchange"
FRAME_CALLS = 1024
FRAME_BYTES = 1024 * 1024
CALL_OVERHEAD_BYTES = 128
FOR_EVER_S = 1e8
SILENCE_S = 1.0

_CODES = {code.value[0]: code for code in grpc.StatusCode}


class _Waiting:
    """One call that has no answer yet."""

    __slots__ = (
        "answer",
        "deadline",
        "id",
        "made_at",
        "metadata",
        "name",
        "request",
        "timer",
        "written",
    )

    def __init__(
        self,
        call_id: int,
        method: Method[Any, Any],
        request: bytes,
        metadata: Metadata,
        answer: asyncio.Future[bytes],
    ) -> None:
        self.id = call_id
        self.name = method.name
        self.request = request
        self.metadata = metadata
        self.answer = answer
        self.made_at = 0.0
        self.deadline = math.inf
        self.timer: asyncio.TimerHandle | None = None
        self.written = False


class SharedStream:
    """The stream of one client to one endpoint. Once `ended` it takes no more calls."""

    def __init__(self, channel: Any, endpoint: str, on_leader: Callable[[str], None]) -> None:
        """Open the stream; `on_leader` gets the leader's endpoint whenever the replica tells it."""
        self._endpoint = endpoint
        self._on_leader = on_leader
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[int, _Waiting] = {}
        self._outbox: dict[int, _Waiting] = {}
        self._cancelled: list[int] = []
        self._last_id = 0
        self._heard_at = -math.inf
        self._welcome: asyncio.Future[None] = self._loop.create_future()
        self._idle: asyncio.Future[None] | None = None
        self.ended = False
        self.unserved = False
        """The server knows no such stream, so no call on it was looked at."""
        self._rpc = channel.stream_stream(
            PATH,
            request_serializer=pb.CallFrame.SerializeToString,
            response_deserializer=pb.AnswerFrame.FromString,
        )()
        self._reader = self._loop.create_task(self._read())
        self._writer = self._loop.create_task(self._write())

    async def call(
        self,
        method: Method[RequestT, ResponseT],
        request: RequestT,
        metadata: Metadata,
        timeout_s: float,
    ) -> ResponseT:
        """Send one request and return its answer; see `Transport.call`. Raises `Failure`."""
        loop = self._loop
        self._last_id += 1
        call = _Waiting(
            self._last_id, method, request.SerializeToString(), metadata, loop.create_future()
        )
        call.made_at = loop.time()
        if timeout_s < FOR_EVER_S:
            call.deadline = call.made_at + timeout_s
            call.timer = loop.call_at(call.deadline, self._expire, call)
        self._waiting[call.id] = self._outbox[call.id] = call
        self._wake()
        try:
            answer = await call.answer
        except asyncio.CancelledError:
            self._forget(call)
            raise
        finally:
            if call.timer is not None:
                call.timer.cancel()
        try:
            return method.response.FromString(answer)
        except DecodeError:
            code = grpc.StatusCode.INTERNAL
            raise Failure(code, f"{self._endpoint} sent an answer that can't be read") from None

    async def close(self) -> None:
        """End the stream and all calls on it."""
        self._end(self._failure("the client closed the stream"))
        for task in (self._reader, self._writer):
            task.cancel()
        await asyncio.gather(self._reader, self._writer, return_exceptions=True)

    # ------------------------------------------------------------ writing

    def _wake(self) -> None:
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    async def _write(self) -> None:
        try:
            # The first frame tells that the daemon serves this stream. Where it refuses or hangs,
            # nothing will have been sent.
            await self._welcome
            while True:
                if not self._outbox and not self._cancelled:
                    self._idle = self._loop.create_future()
                    await self._idle
                if self._rpc.done():
                    return
                await self._rpc.write(self._next_frame())
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return  # the reader learns why

    def _next_frame(self) -> pb.CallFrame:
        """Take what waits, as much as fits; a call larger than a frame goes alone."""
        frame = pb.CallFrame(cancelled=self._cancelled[:FRAME_CALLS])
        del self._cancelled[:FRAME_CALLS]
        now = self._loop.time()
        count = size = 0
        for call in self._outbox.values():
            size += len(call.request) + CALL_OVERHEAD_BYTES
            if count == FRAME_CALLS or (count and size > FRAME_BYTES):
                break
            count += 1
            call.written = True
            _add(frame, call, now)
        if count == len(self._outbox):
            self._outbox.clear()
        else:
            for call_id in list(itertools.islice(self._outbox, count)):
                del self._outbox[call_id]
        return frame

    # ------------------------------------------------------------ reading

    async def _read(self) -> None:
        failure = self._failure("the connection was closed")
        try:
            async for frame in self._rpc:
                self._hear(frame)
            failure = self._failure("the server ended the stream")
        except grpc.aio.AioRpcError as error:
            failure = failure_of(error)
            # Without a word of the daemon's it is the connection that broke: the status may be
            # that of a frame that could not be written any more.
            failure.unreachable = failure.definite is None
        except DecodeError:
            failure = self._failure("the server sent a frame that can't be read")
        finally:
            self._end(failure)

    def _hear(self, frame: pb.AnswerFrame) -> None:
        self._heard_at = self._loop.time()
        if not self._welcome.done():
            self._welcome.set_result(None)
        if frame.HasField("leader_endpoint"):
            self._on_leader(frame.leader_endpoint)
        for answer in frame.answers:
            call = self._waiting.pop(answer.id, None)
            if call is None or call.answer.done():  # nobody waits any longer
                continue
            outcome = answer.WhichOneof("outcome")
            if outcome == "response":
                call.answer.set_result(answer.response)
            elif outcome == "failure":
                call.answer.set_exception(_failure_from(answer.failure))
            else:
                details = f"{self._endpoint} sent an answer without an outcome"
                call.answer.set_exception(Failure(grpc.StatusCode.INTERNAL, details))

    # ------------------------------------------------------------ ends

    def _expire(self, call: _Waiting) -> None:
        if call.answer.done():
            return
        self._forget(call)
        unheard_s = self._loop.time() - call.made_at if self._heard_at < call.made_at else 0.0
        silent = unheard_s >= SILENCE_S
        if call.written:
            details = f"{self._endpoint} did not answer in time"
            failure = Failure(grpc.StatusCode.DEADLINE_EXCEEDED, details, unreachable=silent)
        else:
            failure = self._failure("the request could not be sent in time", unreachable=silent)
            failure.definite = True
        call.answer.set_exception(failure)
        if silent:
            self._end(self._failure("the stream is silent", unreachable=True))

    def _forget(self, call: _Waiting) -> None:
        """Nobody waits for `call` any longer."""
        if self._waiting.pop(call.id, None) is None:
            return
        if call.written:
            self._cancelled.append(call.id)
            self._wake()
        else:
            del self._outbox[call.id]

    def _end(self, failure: Failure) -> None:
        """End the stream and fail its calls.

        Calls never written fail definitely. So do the others if the daemon ended the stream with
        that word: then it has begun none of them. Else what ended the stream is no verdict on them.
        """
        if self.ended:
            return
        self.ended = True
        self.unserved = (
            failure.code is grpc.StatusCode.UNIMPLEMENTED
            and failure.definite is None
            and not self._welcome.done()
        )
        if not failure.definite:
            failure = dataclasses.replace(failure, code=grpc.StatusCode.UNAVAILABLE)
        for call in self._waiting.values():
            if not call.answer.done():
                definite = failure.definite if call.written else True
                call.answer.set_exception(dataclasses.replace(failure, definite=definite))
        self._waiting.clear()
        self._outbox.clear()
        self._cancelled.clear()
        self._rpc.cancel()
        self._wake()  # lest the writer waits for ever
        self._welcome.cancel()

    def _failure(self, details: str, *, unreachable: bool = False) -> Failure:
        details = f"{self._endpoint}: {details}"
        return Failure(grpc.StatusCode.UNAVAILABLE, details, unreachable=unreachable)


def _add(frame: pb.CallFrame, call: _Waiting, now: float) -> None:
    left_s = call.deadline - now
    timeout_ms = 0 if left_s == math.inf else max(1, math.ceil(left_s * 1000))
    metadata = call.metadata
    if not metadata:
        frame.calls.add(id=call.id, method=call.name, request=call.request, timeout_ms=timeout_ms)
        return
    frame.calls.add(
        id=call.id,
        method=call.name,
        request=call.request,
        timeout_ms=timeout_ms,
        session_id=metadata.get(SESSION_KEY, ""),
        request_number=int(metadata.get(REQUEST_KEY, 0)),
        seen=int(metadata.get(SEEN_KEY, 0)),
        stale=metadata.get(CONSISTENCY_KEY) == STALE,
        min_index=int(metadata.get(MIN_INDEX_KEY, 0)),
    )


def _failure_from(said: pb.CallFailure) -> Failure:
    return Failure(
        _CODES.get(said.code, grpc.StatusCode.UNKNOWN),
        said.message,
        said.definite,
        said.reason,
        said.field,
        said.leader_endpoint,
        said.oldest,
    )
