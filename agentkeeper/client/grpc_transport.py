"""The transports over gRPC: calls on one shared stream per endpoint, or each on its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Generic

import grpc
import grpc.aio

from agentkeeper.client.channels import Channels, failure_of, plain
from agentkeeper.client.methods import Method, RequestT, ResponseT
from agentkeeper.client.stream import SharedStream
from agentkeeper.client.transport import EventStream, Failure, Metadata

REFUSAL_GRACE_S = 0.5
METADATA_PREFIX = "agentkeeper-"
UNSERVED_S = 60.0  # after which a server without shared streams may have become one with them


class UnaryTransport:
    """Implements `Transport` with a gRPC call for each call."""

    def __init__(self) -> None:
        # Never called here: of unary answers only refusals name the leader.
        self.on_leader: Callable[[str], None] = _ignore
        self._channels = Channels()
        self._stubs: dict[tuple[str, str], Any] = {}

    async def call(
        self,
        endpoint: str,
        method: Method[RequestT, ResponseT],
        request: RequestT,
        metadata: Metadata,
        timeout_s: float,
    ) -> ResponseT:
        """See `Transport.call`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        await self._channels.connect(endpoint, timeout_s)
        stub = self._stub(endpoint, method, "unary_unary")
        try:
            answer: ResponseT = await stub(
                request, metadata=tuple(metadata.items()), timeout=max(0.0, deadline - loop.time())
            )
        except grpc.aio.AioRpcError as error:
            raise failure_of(error) from None
        return answer

    async def stream(
        self,
        endpoint: str,
        method: Method[RequestT, ResponseT],
        request: RequestT,
        metadata: Metadata,
        timeout_s: float,
    ) -> EventStream[ResponseT]:
        """See `Transport.stream`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        await self._channels.connect(endpoint, timeout_s)
        call = self._stub(endpoint, method, "unary_stream")(
            request, metadata=tuple(metadata.items())
        )
        try:
            async with asyncio.timeout_at(deadline):
                headers = plain(await call.initial_metadata())
                if not any(key.startswith(METADATA_PREFIX) for key in headers):
                    await _raise_if_refused(call)
        except grpc.aio.AioRpcError as error:
            raise failure_of(error) from None
        except TimeoutError:
            call.cancel()
            raise Failure(
                grpc.StatusCode.DEADLINE_EXCEEDED,
                f"{endpoint} did not answer in time",
                unreachable=True,
            ) from None
        except asyncio.CancelledError:
            call.cancel()
            raise
        return _GrpcEventStream(call, headers, method.ends)

    async def close(self) -> None:
        """See `Transport.close`."""
        self._stubs.clear()
        await self._channels.close()

    def _stub(self, endpoint: str, method: Method[Any, Any], arity: str) -> Any:
        key = (endpoint, method.path)
        stub = self._stubs.get(key)
        if stub is None:
            stub = getattr(self._channels.to(endpoint), arity)(
                method.path,
                request_serializer=method.request.SerializeToString,
                response_deserializer=method.response.FromString,
            )
            self._stubs[key] = stub
        return stub


class StreamTransport(UnaryTransport):
    """Implements `Transport` with one shared stream per endpoint for all calls.

    Watches stay streams of their own: each has its own flow control. A server that knows no shared
    stream gets unary calls.
    """

    def __init__(self) -> None:
        super().__init__()
        self._streams: dict[str, SharedStream] = {}
        self._unserved_until: dict[str, float] = {}

    async def call(
        self,
        endpoint: str,
        method: Method[RequestT, ResponseT],
        request: RequestT,
        metadata: Metadata,
        timeout_s: float,
    ) -> ResponseT:
        """See `Transport.call`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        stream = self._streams.get(endpoint)
        if stream is None or stream.ended:
            if self._unserved_until.get(endpoint, 0.0) > loop.time():
                return await super().call(endpoint, method, request, metadata, timeout_s)
            stream = await self._open(endpoint, timeout_s)
            timeout_s = deadline - loop.time()
        try:
            return await stream.call(method, request, metadata, timeout_s)
        except Failure:
            if not stream.unserved:
                raise
        self._unserved_until[endpoint] = loop.time() + UNSERVED_S
        return await super().call(endpoint, method, request, metadata, deadline - loop.time())

    async def close(self) -> None:
        """See `Transport.close`."""
        streams, self._streams = self._streams, {}
        await asyncio.gather(*(stream.close() for stream in streams.values()))
        await super().close()

    async def _open(self, endpoint: str, timeout_s: float) -> SharedStream:
        channel = await self._channels.connect(endpoint, timeout_s)
        stream = self._streams.get(endpoint)
        if stream is None or stream.ended:  # nobody else opened one meanwhile
            stream = SharedStream(channel, endpoint, self.on_leader)
            self._streams[endpoint] = stream
        return stream


GrpcTransport = StreamTransport


class _GrpcEventStream(Generic[ResponseT]):
    """One live stream; see `EventStream`."""

    def __init__(self, call: Any, headers: Metadata, ends: bool) -> None:
        self._call = call
        self._ends = ends
        self.headers = headers

    async def __aiter__(self) -> AsyncIterator[ResponseT]:
        try:
            async for message in self._call:
                yield message
        except grpc.aio.AioRpcError as error:
            raise failure_of(error) from None
        if self._ends:
            return
        # A watch has no end of its own: one that the server ends is to be resumed.
        raise Failure(grpc.StatusCode.UNAVAILABLE, "the server ended the stream", definite=True)

    def cancel(self) -> None:
        self._call.cancel()


async def _raise_if_refused(call: Any) -> None:
    """Tell the refusal of a stream, which may come right after empty headers, from its beginning.

    The daemon's own headers are never empty.
    """
    try:
        async with asyncio.timeout(REFUSAL_GRACE_S):
            code = await call.code()
    except TimeoutError:
        return
    if code is grpc.StatusCode.OK:
        return  # ended with nothing in it: for its reader to judge
    raise Failure.from_status(
        code, await call.details() or "", plain(await call.trailing_metadata())
    )


def _ignore(leader: str) -> None:
    """Stand in until somebody wants to know who leads."""
