"""What a method of a service is, to whoever carries calls to it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from google.protobuf.message import Message

from agentkeeper.server.caller import Caller


class Subscription(NamedTuple):
    """A live watch: its encoded events, and where to resume if none ever comes.

    `after` is None if the watch begins with something that resuming would leave out.
    """

    events: AsyncGenerator[bytes, None]
    after: int | None


@dataclass(frozen=True, slots=True)
class Unary:
    """One request, one response. `waits` tells of a request whether its call may wait for long."""

    name: str
    request_type: type[Message]
    handle: Callable[[Any, Caller], Awaitable[Message]]
    waits: Callable[[Any], bool] | None = None


@dataclass(frozen=True, slots=True)
class Stream:
    """One request, then encoded events for as long as the caller listens.

    One that takes nothing for `stalled_s` is cut; None where what it lacks costs nobody anything.
    """

    name: str
    request_type: type[Message]
    handle: Callable[[Any, Caller], Awaitable[Subscription]]
    stalled_s: float | None = None


Method = Unary | Stream
