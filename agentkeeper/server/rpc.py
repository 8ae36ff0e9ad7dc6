"""The gRPC side: carries calls to the service methods and their errors back as statuses."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
import grpc.aio
import structlog

from agentkeeper.core import limits
from agentkeeper.server.caller import Caller
from agentkeeper.server.decode import decode
from agentkeeper.server.errors import CallError, overloaded
from agentkeeper.server.replica import shutting_down
from agentkeeper.server.services.method import Method, Stream, Unary

log = structlog.get_logger(__name__)

PACKAGE: Final = "agentkeeper.v1"
DEFINITE: Final = "agentkeeper-definite"
REASON: Final = "agentkeeper-reason"
FIELD: Final = "agentkeeper-field"
LEADER: Final = "agentkeeper-leader"
INDEX: Final = "agentkeeper-index"
OLDEST: Final = "agentkeeper-oldest"
SEQUENCE: Final = "agentkeeper-sequence"
"""In a watch's headers: the last event before it, to resume after if none comes."""

STOP_S: Final = 0.2
"""For answers that are ready to get out."""

_STATUS: Final = {status.name: status for status in grpc.StatusCode}
_OPTIONS: Final = (
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", limits.REQUEST_BYTES),
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 0),
)


class BindError(Exception):
    """The gRPC address can't be listened on."""


@dataclass(slots=True)
class CallsUnderWay:
    """Bounds how many calls there are at a time."""

    count: int = 0
    none: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while there is no call."""

    def __post_init__(self) -> None:
        self.none.set()

    @contextlib.contextmanager
    def one_more(self) -> Iterator[None]:
        """Count a call for as long as it lasts. Raises `CallError` when there are too many."""
        if self.count >= limits.CONCURRENT_CALLS:
            raise overloaded(f"{limits.CONCURRENT_CALLS} calls are under way on this replica")
        self.count += 1
        self.none.clear()
        try:
            yield
        finally:
            self.count -= 1
            if self.count == 0:
                self.none.set()


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every answer needs to know: asked anew each time."""

    applied_index: Callable[[], int]
    leader_endpoint: Callable[[], str]
    count: Callable[[str], None]
    """Called with the method's name for every call."""
    closing: asyncio.Event
    calls: CallsUnderWay = field(default_factory=CallsUnderWay)


class RpcServer:
    """Listens for gRPC calls."""

    def __init__(self, services: dict[str, list[Method]], surroundings: Surroundings) -> None:
        self._around = surroundings
        self._server = grpc.aio.server(options=_OPTIONS)
        for name, methods in services.items():
            handlers = {method.name: self._handler(method) for method in methods}
            self._server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler(f"{PACKAGE}.{name}", handlers),)
            )

    async def start(self, address: str) -> int:
        """Listen on `host:port`; returns the port. Raises `BindError`."""
        try:
            port: int = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise BindError(f"can't listen for gRPC on {address}: {error}") from error
        if port == 0:
            raise BindError(f"can't listen for gRPC on {address}: is it in use?")
        await self._server.start()
        return port

    async def drain(self, grace_s: float) -> None:
        """Wait until no call is under way, for `grace_s` at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self._around.calls.none.wait()

    async def stop(self) -> None:
        """Break off whatever is left, and stop listening."""
        await self._server.stop(STOP_S)

    def _handler(self, method: Method) -> grpc.RpcMethodHandler:
        if isinstance(method, Unary):
            return grpc.unary_unary_rpc_method_handler(_unary(method, self._around))
        return grpc.unary_stream_rpc_method_handler(_stream(method, self._around))


def _unary(method: Unary, around: Surroundings) -> Callable[..., Any]:
    async def call(data: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        around.count(method.name)
        try:
            with around.calls.one_more():
                caller = _admit(around, context)
                response = await method.handle(decode(method.request_type, data), caller)
        except Exception as error:
            failure = _failure(around, method.name, error)
        else:
            context.set_trailing_metadata(((INDEX, str(around.applied_index())),))
            return response.SerializeToString()
        # gRPC keeps what `abort` raises, and all frames that it passes, until the garbage
        # collector comes by. It is not to hold the request meanwhile, nor the error that does.
        del data
        await context.abort(*failure)
        raise AssertionError("abort raises")

    return call


def _stream(method: Stream, around: Surroundings) -> Callable[..., Any]:
    async def call(
        data: bytes, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[bytes]:
        around.count(method.name)
        try:
            with around.calls.one_more():
                caller = _admit(around, context)
                events, after = await method.handle(decode(method.request_type, data), caller)
                # The subscription is live: a client that waits for these misses nothing after.
                headers = [(INDEX, str(around.applied_index()))]
                if after is not None:
                    headers.append((SEQUENCE, str(after)))
                await context.send_initial_metadata(tuple(headers))
                async with contextlib.aclosing(events):
                    async for event in events:
                        yield event
        except Exception as error:
            failure = _failure(around, method.name, error)
        else:
            return
        del data  # as above
        await context.abort(*failure)

    return call


def _admit(around: Surroundings, context: grpc.aio.ServicerContext[Any, Any]) -> Caller:
    if around.closing.is_set():
        raise shutting_down()
    remaining_s = context.time_remaining()
    deadline_s = None
    if remaining_s is not None:
        deadline_s = asyncio.get_running_loop().time() + remaining_s
    metadata: Iterable[tuple[str, str | bytes]] = context.invocation_metadata() or ()
    return Caller.from_metadata(metadata, deadline_s)


def _failure(around: Surroundings, method: str, error: Exception) -> tuple[Any, str, Any]:
    """The status, message and metadata that `error` stands for, as `abort` takes them."""
    if not isinstance(error, CallError):
        log.error("call failed", method=method, exc_info=error)
        error = CallError("INTERNAL", "internal", "internal error", definite=False)
    trailing = [
        (DEFINITE, "true" if error.definite else "false"),
        (REASON, error.reason),
        (INDEX, str(around.applied_index())),
    ]
    if error.oldest is not None:
        trailing.append((OLDEST, str(error.oldest)))
    if error.field:
        trailing.append((FIELD, _ascii(error.field)))
    leader = around.leader_endpoint()
    if leader:
        trailing.append((LEADER, _ascii(leader)))
    return _STATUS[error.code], error.message, tuple(trailing)


def _ascii(text: str) -> str:
    """`text` as metadata can carry it."""
    return text.encode("ascii", "backslashreplace").decode()
