"""The gRPC side: carries calls to the services and their errors back as statuses."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias

import grpc
import grpc.aio
import structlog

from agentkeeper.core import limits
from agentkeeper.server.caller import Caller
from agentkeeper.server.dispatch import Dispatcher, Surroundings
from agentkeeper.server.errors import CallError, overloaded
from agentkeeper.server.exchange import Exchange
from agentkeeper.server.replica import shutting_down
from agentkeeper.server.sending import Sending
from agentkeeper.server.services.method import Method, Stream, Unary

__all__ = ["PACKAGE", "STOP_S", "BindError", "RpcServer", "Surroundings"]

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
LOOK_S: Final = 0.25
"""How often to look whether clients with open streams are to be told of another leader, and
whether they still take their answers."""

_STATUS: Final = {status.name: status for status in grpc.StatusCode}
_OPTIONS: Final = (
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", limits.REQUEST_BYTES),
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 0),
)

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]


class BindError(Exception):
    """The gRPC address can't be listened on."""


class RpcServer:
    """Listens for gRPC calls."""

    def __init__(self, services: dict[str, list[Method]], surroundings: Surroundings) -> None:
        self._around = surroundings
        self._dispatcher = Dispatcher(services, surroundings)
        self._exchanges: set[Exchange] = set()
        self._sendings: set[Sending] = set()
        self._looking: asyncio.Task[None] | None = None
        self._server = grpc.aio.server(options=_OPTIONS)
        for name, methods in services.items():
            self._add(name, {method.name: self._handler(method) for method in methods})
        exchange = grpc.stream_stream_rpc_method_handler(self._exchange)
        self._add("ExchangeService", {"Exchange": exchange})

    async def start(self, address: str) -> int:
        """Listen on `host:port`; returns the port. Raises `BindError`."""
        try:
            port: int = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise BindError(f"can't listen for gRPC on {address}: {error}") from error
        if port == 0:
            raise BindError(f"can't listen for gRPC on {address}: is it in use?")
        await self._server.start()
        self._looking = asyncio.get_running_loop().create_task(self._look_after())
        return port

    async def drain(self, grace_s: float) -> None:
        """Wait until no call is under way, for `grace_s` at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self._around.calls.none.wait()

    async def stop(self) -> None:
        """Break off whatever is left, and stop listening."""
        if self._looking is not None:
            self._looking.cancel()
        for exchange in self._exchanges:
            exchange.leave(shutting_down())
        await self._server.stop(STOP_S)

    def _add(self, service: str, handlers: dict[str, grpc.RpcMethodHandler]) -> None:
        handler = grpc.method_handlers_generic_handler(f"{PACKAGE}.{service}", handlers)
        self._server.add_generic_rpc_handlers((handler,))

    def _handler(self, method: Method) -> grpc.RpcMethodHandler:
        if isinstance(method, Unary):
            return grpc.unary_unary_rpc_method_handler(_unary(method.name, self._dispatcher))
        return grpc.unary_stream_rpc_method_handler(self._stream(method))

    async def _exchange(self, _: object, context: Context) -> None:
        """Serve a shared stream, which is no call itself."""
        try:
            await self._serve(context)
        except CallError as error:
            failure = _failure(self._around, error)
        else:
            return
        await context.abort(*failure)

    async def _serve(self, context: Context) -> None:
        async def read() -> bytes | None:
            data = await context.read()
            return None if data is grpc.aio.EOF else data

        if self._around.closing.is_set():
            raise shutting_down()
        if len(self._exchanges) >= limits.STREAMS:
            raise overloaded(f"{limits.STREAMS} streams are open on this replica")
        exchange = Exchange(self._dispatcher, read, context.write)
        self._exchanges.add(exchange)
        try:
            # Not with the first frame: if writing that were broken off, `abort` would send the
            # headers once more, and gRPC would refuse to send anything, the status included.
            await context.send_initial_metadata(())
            await exchange.run()
        finally:
            self._exchanges.discard(exchange)

    def _stream(self, method: Stream) -> Callable[..., Any]:
        async def call(data: bytes, context: Context) -> None:
            try:
                await self._send(method, data, context)
            except CallError as error:
                failure = _failure(self._around, error)
            else:
                return
            del data  # as in `_unary`
            await context.abort(*failure)

        return call

    async def _send(self, method: Stream, data: bytes, context: Context) -> None:
        around, dispatcher = self._around, self._dispatcher
        caller = _caller(method.name, dispatcher, context)
        events, after = await dispatcher.subscribe(method.name, data, caller)
        async with contextlib.aclosing(events):
            # The subscription is live: a client that waits for these misses nothing after.
            headers = [(INDEX, str(around.applied_index()))]
            if after is not None:
                headers.append((SEQUENCE, str(after)))
            await context.send_initial_metadata(tuple(headers))
            sending = Sending(context.write, around.closing, method.stalled_s)
            self._sendings.add(sending)
            try:
                async for event in events:
                    await sending.send(event)
            finally:
                self._sendings.discard(sending)

    async def _look_after(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                for exchange in self._exchanges:
                    exchange.look()
                for sending in self._sendings:
                    sending.look()
            except Exception as error:  # or nobody would be told any more
                log.error("can't tell who leads", exc_info=error)


def _unary(name: str, dispatcher: Dispatcher) -> Callable[..., Any]:
    around = dispatcher.around

    async def call(data: bytes, context: Context) -> bytes:
        try:
            caller = _caller(name, dispatcher, context)
            await dispatcher.turn(name, context.peer())
            response = await dispatcher.answer(name, data, caller)
            await around.turns.step()  # a batch of the log decides hundreds at once
        except CallError as error:
            failure = _failure(around, error)
        else:
            context.set_trailing_metadata(((INDEX, str(around.applied_index())),))
            return response
        # gRPC keeps what `abort` raises, and all frames that it passes, until the garbage
        # collector comes by. It is not to hold the request meanwhile, nor the error that does.
        del data
        await context.abort(*failure)
        raise AssertionError("abort raises")

    return call


def _caller(name: str, dispatcher: Dispatcher, context: Context) -> Caller:
    """Who calls, by the metadata. Raises `CallError`."""
    remaining_s = context.time_remaining()
    deadline_s = None
    if remaining_s is not None:
        deadline_s = asyncio.get_running_loop().time() + remaining_s
    metadata: Iterable[tuple[str, str | bytes]] = context.invocation_metadata() or ()
    try:
        return Caller.from_metadata(metadata, deadline_s)
    except CallError as error:
        dispatcher.count(name, error)
        raise


def _failure(around: Surroundings, error: CallError) -> tuple[Any, str, Any]:
    """The status, message and metadata that `error` stands for, as `abort` takes them."""
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
