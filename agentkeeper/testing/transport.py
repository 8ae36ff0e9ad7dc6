"""A client's way to a keeper in the same process: encoded requests and answers, no network."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Coroutine
from typing import Any, Final, Generic, TypeVar

import grpc

from agentkeeper.client.endpoints import Endpoints
from agentkeeper.client.methods import CLOSE_SESSION, Method, RequestT, ResponseT
from agentkeeper.client.transport import EventStream, Failure, Metadata
from agentkeeper.server.caller import Caller
from agentkeeper.server.dispatch import Dispatcher, Surroundings
from agentkeeper.server.errors import CallError
from agentkeeper.server.rpc import INDEX, SEQUENCE

T = TypeVar("T")

_STATUS: Final = {status.name: status for status in grpc.StatusCode}
_UNAVAILABLE: Final = grpc.StatusCode.UNAVAILABLE
CONNECT_S: Final = 1.0
AT_ONCE: Final = 10
"""Failures one after the other after which retries pause all the same, lest they never end."""


class Line:
    """The way between one client and the keeper, which can be cut and mended. On the loop only."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.broken: asyncio.Future[None] = self._loop.create_future()
        """Done once the present connection is broken."""
        self._up = asyncio.Event()
        self._up.set()

    def cut(self) -> None:
        """Nothing gets through any more; what is under way ends."""
        self._up.clear()
        if not self.broken.done():
            self.broken.set_result(None)

    def mend(self) -> None:
        """Let calls through again, over another connection."""
        if self.broken.done():
            self.broken = self._loop.create_future()
        self._up.set()

    async def carry(
        self, work: Coroutine[Any, Any, T], timeout_s: float, connect_s: float = CONNECT_S
    ) -> T:
        """Do `work` at the keeper and return what it returns.

        While the line is cut, wait for up to `connect_s` for it to be mended. Raises `Failure` if
        it is not, if the work is not done in time, and if the line is cut meanwhile; the work is
        then cancelled, as it is if this is.
        """
        deadline_s = self._loop.time() + timeout_s
        if self.broken.done():
            try:
                async with asyncio.timeout(min(connect_s, timeout_s)):
                    await self._up.wait()
            except TimeoutError:
                work.close()
                details = "disconnected"
                raise Failure(_UNAVAILABLE, details, definite=True, unreachable=True) from None
            except asyncio.CancelledError:
                work.close()
                raise
        working = self._loop.create_task(work)
        done = await _first(working, self.broken, deadline_s - self._loop.time())
        if done is None:
            raise Failure(_STATUS["DEADLINE_EXCEEDED"], "no answer in time", unreachable=True)
        return done.result()


async def _first(
    working: asyncio.Task[T], broken: asyncio.Future[None], timeout_s: float
) -> asyncio.Task[T] | None:
    """Wait for `working`; None if that takes too long. Raises `Failure` if `broken` is first."""
    limit_s = timeout_s if math.isfinite(timeout_s) else None
    try:
        await asyncio.wait((working, broken), timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        ended = working.done()
        working.cancel()
    if not ended and broken.done():
        raise Failure(_UNAVAILABLE, "the connection was cut", unreachable=True)
    return working if ended else None


class OneEndpoint(Endpoints):
    """The keeper's only endpoint, tried again without a pause.

    A retry after a session has expired, say, would else wait for somebody to move the time, and how
    long is drawn by lot. While the line is cut, connecting takes long enough.
    """

    def __init__(self, address: str, line: Line) -> None:
        super().__init__([address], asyncio.get_running_loop().time)
        self._address = address
        self._line = line
        self._failures = 0

    def pick(self, tried: Collection[str], *, write: bool = False) -> str | None:
        """See `Endpoints.pick`."""
        pauses = self._failures >= AT_ONCE and not self._line.broken.done()
        return super().pick(tried, write=write) if pauses else self._address

    def worked(self, address: str) -> None:
        """See `Endpoints.worked`."""
        self._failures = 0
        super().worked(address)

    def unready(self, address: str) -> None:
        """See `Endpoints.unready`."""
        if not self._line.broken.done():
            self._failures += 1
        super().unready(address)


class InProcessTransport:
    """Implements `agentkeeper.client.transport.Transport`: every endpoint is the one keeper."""

    def __init__(self, dispatcher: Dispatcher, around: Surroundings) -> None:
        self._dispatcher = dispatcher
        self._around = around
        self.line = Line()
        self.on_leader: Callable[[str], None] = lambda leader: None
        """Never called: the leader is known, and never another."""

    async def call(
        self,
        endpoint: str,
        method: Method[RequestT, ResponseT],
        request: RequestT,
        metadata: Metadata,
        timeout_s: float,
    ) -> ResponseT:
        """See `Transport.call`."""
        deadline_s = asyncio.get_running_loop().time() + timeout_s
        answer = self._answer(method, request.SerializeToString(), metadata, deadline_s)
        # A client that closes does not wait for the line, nor for somebody to move the time.
        connect_s = 0.0 if method.name == CLOSE_SESSION.name else CONNECT_S
        return method.response.FromString(await self.line.carry(answer, timeout_s, connect_s))

    async def stream(
        self,
        endpoint: str,
        method: Method[RequestT, ResponseT],
        request: RequestT,
        metadata: Metadata,
        timeout_s: float,
    ) -> EventStream[ResponseT]:
        """See `Transport.stream`."""
        subscribing = self._subscribe(method, request.SerializeToString(), metadata)
        return await self.line.carry(subscribing, timeout_s)

    async def close(self) -> None:
        """See `Transport.close`."""
        self.line.cut()

    async def _answer(
        self, method: Method[Any, Any], data: bytes, metadata: Metadata, deadline_s: float
    ) -> bytes:
        try:
            caller = Caller.from_metadata(metadata.items(), deadline_s)
            return await self._dispatcher.answer(method.name, data, caller)
        except CallError as error:
            raise _failure(error, self._around) from None

    async def _subscribe(
        self, method: Method[Any, ResponseT], data: bytes, metadata: Metadata
    ) -> _Stream[ResponseT]:
        try:
            caller = Caller.from_metadata(metadata.items(), None)
            events, after = await self._dispatcher.subscribe(method.name, data, caller)
        except CallError as error:
            raise _failure(error, self._around) from None
        headers = {INDEX: str(self._around.applied_index())}
        if after is not None:
            headers[SEQUENCE] = str(after)
        return _Stream(events, method, headers, self.line.broken, self._around)


class _Stream(Generic[ResponseT]):
    """One live stream; see `EventStream`."""

    def __init__(
        self,
        events: AsyncGenerator[bytes, None],
        method: Method[Any, ResponseT],
        headers: Metadata,
        broken: asyncio.Future[None],
        around: Surroundings,
    ) -> None:
        self.headers = headers
        self._loop = asyncio.get_running_loop()
        self._events = events
        self._method = method
        self._broken = broken
        self._around = around
        self._pulling: asyncio.Task[bytes | None] | None = None
        self._ending: asyncio.Task[None] | None = None
        broken.add_done_callback(self._cut)

    async def __aiter__(self) -> AsyncIterator[ResponseT]:
        while True:
            if self._broken.done():
                raise Failure(_UNAVAILABLE, "the connection was cut", unreachable=True)
            if self._ending is not None:
                raise asyncio.CancelledError
            self._pulling = self._loop.create_task(self._next())
            pulled = await _first(self._pulling, self._broken, math.inf)
            assert pulled is not None, "without a limit of time"
            data = pulled.result()
            if data is None and self._method.ends:
                return
            if data is None:
                # A watch has no end of its own: one that the server ends is to be resumed.
                raise Failure(_UNAVAILABLE, "the server ended the stream", definite=True)
            yield self._method.response.FromString(data)

    def cancel(self) -> None:
        if self._ending is None:
            self._broken.remove_done_callback(self._cut)
            self._ending = self._loop.create_task(self._end())

    def _cut(self, _: asyncio.Future[None]) -> None:
        self.cancel()

    async def _next(self) -> bytes | None:
        try:
            return await anext(self._events, None)
        except CallError as error:
            raise _failure(error, self._around) from None

    async def _end(self) -> None:
        if self._pulling is not None:
            self._pulling.cancel()
            await asyncio.wait((self._pulling,))
        await self._events.aclose()


def _failure(error: CallError, around: Surroundings) -> Failure:
    return Failure(
        code=_STATUS[error.code],
        details=error.message,
        definite=error.definite,
        reason=error.reason,
        field=error.field,
        leader=around.leader_endpoint(),
        oldest=error.oldest or 0,
    )
