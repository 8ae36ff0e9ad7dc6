"""The transport of unary calls and server streams over `grpc.aio` channels, one per endpoint."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Generic

import grpc
import grpc.aio

from agentkeeper.client.endpoints import is_loopback
from agentkeeper.client.methods import Method, RequestT, ResponseT
from agentkeeper.client.transport import EventStream, Failure, Metadata

CONNECT_TIMEOUT_S = 1.0
REFUSAL_GRACE_S = 0.5
METADATA_PREFIX = "agentkeeper-"
MESSAGE_BYTES = 64 * 1024 * 1024  # the daemon's own bounds are far tighter

CHANNEL_OPTIONS: list[tuple[str, int]] = [
    # Notice a dead or frozen server within 5 s, also in watches and waits that are silent.
    ("grpc.keepalive_time_ms", 3_000),
    ("grpc.keepalive_timeout_ms", 2_000),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.http2.max_pings_without_data", 0),
    # Also when a ping of gRPC's own was under way: one at a time, it would wait 60 s for its end.
    ("grpc.http2.ping_timeout_ms", 2_000),
    ("grpc.http2.bdp_probe", 0),
    # A server that comes back is found again quickly.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # Failures stay within one client, and retrying is the core's business alone.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
]


class GrpcTransport:
    """Implements `Transport` with one lazily opened channel per endpoint."""

    def __init__(self) -> None:
        self._channels: dict[str, grpc.aio.Channel] = {}
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
        await self._connected(endpoint, timeout_s)
        stub = self._stub(endpoint, method, "unary_unary")
        try:
            answer: ResponseT = await stub(
                request, metadata=tuple(metadata.items()), timeout=max(0.0, deadline - loop.time())
            )
        except grpc.aio.AioRpcError as error:
            raise _failure(error) from None
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
        await self._connected(endpoint, timeout_s)
        call = self._stub(endpoint, method, "unary_stream")(
            request, metadata=tuple(metadata.items())
        )
        try:
            async with asyncio.timeout_at(deadline):
                headers = _plain(await call.initial_metadata())
                if not any(key.startswith(METADATA_PREFIX) for key in headers):
                    await _raise_if_refused(call)
        except grpc.aio.AioRpcError as error:
            raise _failure(error) from None
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
        return _GrpcEventStream(call, headers)

    async def close(self) -> None:
        """See `Transport.close`."""
        channels, self._channels = self._channels, {}
        self._stubs.clear()
        await asyncio.gather(*(channel.close() for channel in channels.values()))

    def _channel(self, endpoint: str) -> grpc.aio.Channel:
        channel = self._channels.get(endpoint)
        if channel is None:
            options = list(CHANNEL_OPTIONS)
            if is_loopback(endpoint):
                options.append(("grpc.enable_http_proxy", 0))
            channel = grpc.aio.insecure_channel(endpoint, options=options)
            self._channels[endpoint] = channel
        return channel

    def _stub(self, endpoint: str, method: Method[Any, Any], arity: str) -> Any:
        key = (endpoint, method.path)
        stub = self._stubs.get(key)
        if stub is None:
            stub = getattr(self._channel(endpoint), arity)(
                method.path,
                request_serializer=method.request.SerializeToString,
                response_deserializer=method.response.FromString,
            )
            self._stubs[key] = stub
        return stub

    async def _connected(self, endpoint: str, timeout_s: float) -> None:
        """Return once there is a connection; its failure is definite, as nothing was sent."""
        channel = self._channel(endpoint)
        state = channel.get_state(try_to_connect=True)
        if state is grpc.ChannelConnectivity.READY:
            return
        try:
            async with asyncio.timeout(min(timeout_s, CONNECT_TIMEOUT_S)):
                while state is not grpc.ChannelConnectivity.READY:
                    if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                        raise _unconnected(f"cannot connect to {endpoint}")
                    await channel.wait_for_state_change(state)
                    state = channel.get_state(try_to_connect=True)
        except TimeoutError:
            raise _unconnected(f"cannot connect to {endpoint} in time") from None


class _GrpcEventStream(Generic[ResponseT]):
    """One live stream; see `EventStream`."""

    def __init__(self, call: Any, headers: Metadata) -> None:
        self._call = call
        self.headers = headers

    async def __aiter__(self) -> AsyncIterator[ResponseT]:
        try:
            async for message in self._call:
                yield message
        except grpc.aio.AioRpcError as error:
            raise _failure(error) from None
        # A watch has no end of its own: one that the server ends is to be resumed.
        raise Failure(grpc.StatusCode.UNAVAILABLE, "the server ended the stream", definite=True)

    def cancel(self) -> None:
        self._call.cancel()


def _unconnected(details: str) -> Failure:
    return Failure(grpc.StatusCode.UNAVAILABLE, details, definite=True, unreachable=True)


def _plain(metadata: Any) -> dict[str, str]:
    return {key: value for key, value in metadata or () if isinstance(value, str)}


def _failure(error: grpc.aio.AioRpcError) -> Failure:
    return Failure.from_status(
        error.code(), error.details() or "", _plain(error.trailing_metadata())
    )


async def _raise_if_refused(call: Any) -> None:
    """Tell the refusal of a stream, which may come right after empty headers, from its beginning.

    The daemon's own headers are never empty.
    """
    try:
        async with asyncio.timeout(REFUSAL_GRACE_S):
            code = await call.code()
    except TimeoutError:
        return
    raise Failure.from_status(
        code, await call.details() or "", _plain(await call.trailing_metadata())
    )
