"""Calls to the services by method name, whichever way they came: counted, bounded, decoded.

No gRPC here: unary calls, watches, the shared stream and tests go through the same door.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from google.protobuf.message import Message

from agentkeeper.server.admission import (
    CallsUnderWay,
    Place,
    is_late,
    not_begun,
    on_replica,
)
from agentkeeper.server.caller import Caller
from agentkeeper.server.decode import decode
from agentkeeper.server.errors import CallError, no_such_method
from agentkeeper.server.replica import shutting_down
from agentkeeper.server.services.method import Method, Stream, Subscription, Unary
from agentkeeper.server.turns import Turns
from agentkeeper.server.unread import UnreadAnswers

log = structlog.get_logger(__name__)

ROUNDED_PART: Final = 0.02
"""gRPC rounds up the time that a client gives a call, by 1 % at most, and the client does not: it
breaks the call off that much before the deadline known here."""


def _unseen(
    method: str, code: str, reason: str, took_s: float | None, answer: Message | None
) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every answer needs to know: asked anew each time."""

    applied_index: Callable[[], int]
    leader_endpoint: Callable[[], str]
    count: Callable[[str], None]
    """Called with the method's name for every call."""
    closing: asyncio.Event
    ended: Callable[[str, str, str, float | None, Message | None], None] = _unseen
    """Called for every call that ends: the method's name, the name of the status, the reason if it
    was an error and not cancelled, how many seconds it took (None if that says nothing: it waited,
    or was a watch), and the answer if there was one."""
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
        ended, began_s = self.around.ended, time.perf_counter()
        waited = False
        try:
            with self._admitted(name, len(data), share) as place:
                request = decode(method.request_type, data)
                del data  # it may be large, and the call long
                if method.waits is not None and method.waits(request):
                    waited = True
                    place.wait(request.ByteSize())
                response = await method.handle(request, caller)
                encoded = response.SerializeToString()
        except CallError as error:
            ended(name, error.code, error.reason, _since(began_s, waited), None)
            raise
        except asyncio.CancelledError:
            if _ran_out(caller, began_s):
                ended(name, "DEADLINE_EXCEEDED", "deadline_exceeded", _since(began_s, waited), None)
            else:
                ended(name, "CANCELLED", "", _since(began_s, waited), None)
            raise
        except Exception as error:
            ended(name, "INTERNAL", "internal", _since(began_s, waited), None)
            raise _internal(name, error) from None
        ended(name, "OK", "", _since(began_s, waited), response)
        return encoded

    async def turn(self, name: str, owner: Hashable) -> None:
        """Wait until a call of this owner's may begin: they have turns.

        Raises `CallError` if that took too long.
        """
        if not self.around.turns.free and is_late(name, await self.around.turns.take(owner)):
            error = not_begun()
            self.count(name, error)
            raise error

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

    def count(self, name: str, error: CallError) -> None:
        """Count a call that is refused, with `error`, before it gets here."""
        if name in self._unary or name in self._streams:
            self.around.count(name)
            self.around.ended(name, error.code, error.reason, None, None)

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
        ended = self.around.ended
        try:
            with self._admitted(method.name, len(data)):
                request = decode(method.request_type, data)
                del data
                events, after = await method.handle(request, caller)
                async with contextlib.aclosing(events):
                    yield after
                    async for event in events:
                        yield event
        except CallError as error:
            ended(method.name, error.code, error.reason, None, None)
            raise
        except (GeneratorExit, asyncio.CancelledError):
            ended(method.name, "CANCELLED", "", None, None)
            raise
        except Exception as error:
            ended(method.name, "INTERNAL", "internal", None, None)
            raise _internal(method.name, error) from None
        ended(method.name, "OK", "", None, None)


def _since(began_s: float, waited: bool) -> float | None:
    return None if waited else time.perf_counter() - began_s


def _ran_out(caller: Caller, began_s: float) -> bool:
    """Whether a call that is broken off now ends as its time is up."""
    if caller.deadline_s is None:
        return False
    left_s = caller.deadline_s - asyncio.get_running_loop().time()
    return left_s <= ROUNDED_PART * (time.perf_counter() - began_s)


def _internal(method: str, error: Exception) -> CallError:
    log.error("call failed", method=method, exc_info=error)
    return CallError("INTERNAL", "internal", "internal error", definite=False)
