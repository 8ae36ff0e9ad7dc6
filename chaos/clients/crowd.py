"""What the processes that only crowd a cluster have in common: raw gRPC, and an end by SIGTERM.

They take no part in the history. Each prints one line of JSON at its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import signal
import time
from collections.abc import Coroutine
from typing import Any, Protocol

import grpc
import grpc.aio
import uvloop

from agentkeeper._pb import agentkeeper_pb2 as pb

SERVICE = "/agentkeeper.v1"
OPTIONS = [
    # Each channel is a connection of its own.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
]


class Crowd(Protocol):
    """Something that goes on until it is cancelled, and can tell what it came to."""

    async def run(self) -> None:
        """Go on for ever, or until there is nothing more to do."""

    def report(self) -> dict[str, Any]:
        """What it came to."""


def connect(endpoint: str) -> grpc.aio.Channel:
    """Return a channel of its own connection, which is opened when it is first used."""
    return grpc.aio.insecure_channel(endpoint, options=OPTIONS)


def method(channel: grpc.aio.Channel, path: str, request: Any, response: Any) -> Any:
    """Return a unary method of a channel, e.g. of "LeaseService/GetLease"."""
    return channel.unary_unary(
        f"{SERVICE}.{path}",
        request_serializer=request.SerializeToString,
        response_deserializer=response.FromString,
    )


def check_method(channel: grpc.aio.Channel) -> Any:
    """Return the cheapest question that needs the cluster: whether nobody may do nothing."""
    path = "EntitlementsService/CheckPolicy"
    return method(channel, path, pb.CheckPolicyRequest, pb.CheckPolicyResponse)


CHECK = pb.CheckPolicyRequest(subject="nobody", action="does", resource="nothing")


def crowd(of: Crowd, seconds: float) -> None:
    """Let it go on until SIGTERM, or for so many seconds if not 0; print its report."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    begun_ns, ended_ns = uvloop.run(_until_told(of.run(), seconds))
    print(json.dumps({"begun_ns": begun_ns, "ended_ns": ended_ns, **of.report()}), flush=True)


async def _until_told(work: Coroutine[Any, Any, None], seconds: float) -> tuple[int, int]:
    """Returns when the work began and when it was told to end."""
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, told.set)
    if seconds:
        loop.call_later(seconds, told.set)
    begun_ns = time.monotonic_ns()
    working = loop.create_task(work)
    waiting = loop.create_task(told.wait())
    await asyncio.wait((working, waiting), return_when=asyncio.FIRST_COMPLETED)
    ended_ns = time.monotonic_ns()
    for task in (working, waiting):
        task.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    with contextlib.suppress(asyncio.CancelledError):
        await working
    return begun_ns, ended_ns
