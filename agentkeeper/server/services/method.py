"""What a method of a service is, to whoever carries calls to it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from agentkeeper.server.caller import Caller


@dataclass(frozen=True, slots=True)
class Unary:
    """One request, one response."""

    name: str
    request_type: type[Message]
    handle: Callable[[Any, Caller], Awaitable[Message]]


@dataclass(frozen=True, slots=True)
class Stream:
    """One request, then encoded events for as long as the caller listens."""

    name: str
    request_type: type[Message]
    handle: Callable[[Any, Caller], Awaitable[AsyncGenerator[bytes, None]]]


Method = Unary | Stream
