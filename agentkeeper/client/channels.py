"""Connections: one lazily opened `grpc.aio` channel per endpoint, and what gRPC says when it fails.

Used from one event loop only.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio

from agentkeeper.client.endpoints import is_loopback
from agentkeeper.client.transport import Failure

CONNECT_TIMEOUT_S = 1.0
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


class Channels:
    """The channels of one client."""

    def __init__(self) -> None:
        self._channels: dict[str, grpc.aio.Channel] = {}

    def to(self, endpoint: str) -> Any:
        """Return the channel to `endpoint`, connected or not."""
        channel = self._channels.get(endpoint)
        if channel is None:
            options = list(CHANNEL_OPTIONS)
            if is_loopback(endpoint):
                options.append(("grpc.enable_http_proxy", 0))
            channel = grpc.aio.insecure_channel(endpoint, options=options)
            self._channels[endpoint] = channel
        return channel

    async def connect(self, endpoint: str, timeout_s: float) -> Any:
        """Return the channel once there is a connection.

        Raises `Failure`, a definite one, as nothing was sent.
        """
        channel = self.to(endpoint)
        state = channel.get_state(try_to_connect=True)
        if state is grpc.ChannelConnectivity.READY:
            return channel
        try:
            async with asyncio.timeout(min(timeout_s, CONNECT_TIMEOUT_S)):
                while state is not grpc.ChannelConnectivity.READY:
                    if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                        raise _unconnected(f"cannot connect to {endpoint}")
                    await channel.wait_for_state_change(state)
                    state = channel.get_state(try_to_connect=True)
        except TimeoutError:
            raise _unconnected(f"cannot connect to {endpoint} in time") from None
        return channel

    async def close(self) -> None:
        """Close all connections; what is under way on them is cancelled."""
        channels, self._channels = self._channels, {}
        await asyncio.gather(*(channel.close() for channel in channels.values()))


def plain(metadata: Any) -> dict[str, str]:
    """Return the textual entries of gRPC metadata."""
    return {key: value for key, value in metadata or () if isinstance(value, str)}


def failure_of(error: grpc.aio.AioRpcError) -> Failure:
    """Return what the end of a gRPC call says."""
    return Failure.from_status(
        error.code(), error.details() or "", plain(error.trailing_metadata())
    )


def _unconnected(details: str) -> Failure:
    return Failure(grpc.StatusCode.UNAVAILABLE, details, definite=True, unreachable=True)
