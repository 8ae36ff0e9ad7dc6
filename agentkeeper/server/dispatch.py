"""Calls to the services by method name, whichever way they came: counted, bounded, decoded.

No gRPC here: unary calls, watches, the shared stream and tests go through the same door.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Any

import structlog

from agentkeeper.server.admission import CallsUnderWay, Place, on_replica
from agentkeeper.server.caller import Caller
from agentkeeper.server.decode import decode
from agentkeeper.server.errors import CallError, no_such_method
from agentkeeper.server.replica import shutting_down
from agentkeeper.server.services.method import Method, Stream, Subscription, Unary
from agentkeeper.server.turns import Turns
from agentkeeper.server.unread import UnreadAnswers

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every answer needs to know: asked anew each time."""

    applied_index: Callable[[], int]
    leader_endpoint: Callable[[], str]
    count: Callable[[str], None]
    """Called with the method's name for every call."""
    closing: asyncio.Event
    calls: CallsUnderWay = field(default_factory=on_replica)
    turns: Turns = field(default_factory=Turns)
    unread: UnreadAnswers = field(default_factory=UnreadAnswers)


class Dispatcher:
    """Carries a call to the method of its name, and its error back as a `CallError`.

    `services` are the methods of each service; their names are unique over all services.
    """

    def __init__(self, services: dict[str, list[Method]], around: Surroundings) -> None:
        self.around = around
        self._unary: dict[str, Unary] = {}
        self._streams: dict[str, Stream] = {}
        for method in (method for methods in services.values() for method in methods):
            assert method.name not in self._unary, f"two methods are named {method.name}"
            assert method.name not in self._streams, f"two methods are named {method.name}"
            if isinstance(method, Unary):
                self._unary[method.name] = method
            else:
                self._streams[method.name] = method

    async def answer(
        self, name: str, data: bytes, caller: Caller, share: CallsUnderWay | None = None
    ) -> bytes:
        """Let a unary method handle the request in `data`; returns the encoded response.

        `share` is what the caller's stream may have under way. Raises `CallError`, whatever goes
        wrong.
        """
        method = self._unary.get(name)
        if method is None:
            raise no_such_method(name)
        try:
            with self._admitted(name, len(data), share) as place:
                request = decode(method.request_type, data)
                del data  # it may be large, and the call long
                if method.waits is not None and method.waits(request):
                    place.wait(request.ByteSize())
                return (await method.handle(request, caller)).SerializeToString()
        except CallError:
            raise
        except Exception as error:
            raise _internal(name, error) from None

    async def subscribe(self, name: str, data: bytes, caller: Caller) -> Subscription:
        """Let a streaming method handle the request in `data`; the subscription is live then.

        It counts as a call under way until its events end or are closed, so close them (`aclose`)
        in any case. This and the events raise `CallError`, whatever goes wrong.
        """
        method = self._streams.get(name)
        if method is None:
            raise no_such_method(name)
        life = self._subscription(method, data, caller)
        after = await anext(life)
        return Subscription(life, after)

    def count(self, name: str) -> None:
        """Count a call that is refused before it gets here."""
        if name in self._unary or name in self._streams:
            self.around.count(name)

    def _admitted(self, name: str, size: int, share: CallsUnderWay | None = None) -> Place:
        """A place for a call. Raises `CallError` when there is none, here or on entering it."""
        around = self.around
        around.count(name)
        if around.closing.is_set():
            raise shutting_down()
        return Place((around.calls,) if share is None else (around.calls, share), size)

    async def _subscription(
        self, method: Stream, data: bytes, caller: Caller
    ) -> AsyncGenerator[Any, None]:
        """Give where to resume, once the subscription is live, and then its events.

        All in one generator, which is begun by then: closing it always frees the call's place.
        """
        try:
            with self._admitted(method.name, len(data)):
                request = decode(method.request_type, data)
                del data
                events, after = await method.handle(request, caller)
                async with contextlib.aclosing(events):
                    yield after
                    async for event in events:
                        yield event
        except CallError:
            raise
        except Exception as error:
            raise _internal(method.name, error) from None


def _internal(method: str, error: Exception) -> CallError:
    log.error("call failed", method=method, exc_info=error)
    return CallError("INTERNAL", "internal", "internal error", definite=False)
