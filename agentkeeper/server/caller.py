"""Who calls, and how: what travels with a request besides its message."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.core import limits
from agentkeeper.server import validation as v
from agentkeeper.server.errors import bad_field

SESSION: Final = "agentkeeper-session"
REQUEST: Final = "agentkeeper-request"
SEEN: Final = "agentkeeper-seen"
CONSISTENCY: Final = "agentkeeper-consistency"
MIN_INDEX: Final = "agentkeeper-min-index"
KEYS: Final = frozenset({SESSION, REQUEST, SEEN, CONSISTENCY, MIN_INDEX})


@dataclass(frozen=True, slots=True)
class Caller:
    """A caller's identity, session, request number and wishes.

    `deadline_s` is on the event loop's clock. Without a session the replica gives the call a place
    in a session of its own.
    """

    identity: str = ""
    session_id: str = ""
    number: int = 0
    seen: int = 0
    deadline_s: float | None = None
    stale: bool = False
    min_index: int = 0

    @classmethod
    def from_metadata(
        cls, metadata: Iterable[tuple[str, str | bytes]], deadline_s: float | None
    ) -> Caller:
        """Read the metadata of a call; raises `CallError` naming an entry that is malformed."""
        given = {key: str(value) for key, value in metadata if key in KEYS}
        if not given:
            return cls(deadline_s=deadline_s)
        consistency = given.get(CONSISTENCY, "linearizable")
        if consistency not in ("linearizable", "stale"):
            raise bad_field(CONSISTENCY, "must be linearizable or stale")
        session_id = given.get(SESSION, "")
        if len(session_id) > limits.SESSION_ID_BYTES:
            raise bad_field(SESSION, f"longer than {limits.SESSION_ID_BYTES} bytes")
        number = _number(given, REQUEST)
        if session_id and number == 0:
            raise bad_field(REQUEST, "a session needs a request number, from 1")
        return cls(
            session_id=session_id,
            number=number,
            seen=_number(given, SEEN),
            deadline_s=deadline_s,
            stale=consistency == "stale",
            min_index=_number(given, MIN_INDEX),
        )

    @classmethod
    def from_call(cls, call: pb.Call, now_s: float) -> Caller:
        """Read what a call on the shared stream says beside its request.

        `now_s` is the event loop's time. Raises `CallError` naming a field that is out of bounds.
        """
        session_id = v.line(call.session_id, "session_id", limits.SESSION_ID_BYTES, empty=True)
        number = v.number(call.request_number, "request_number", 0, limits.COUNTER_MAX)
        if session_id and number == 0:
            raise bad_field("request_number", "a session needs a request number, from 1")
        timeout_ms = v.number(call.timeout_ms, "timeout_ms", 0, limits.COUNTER_MAX)
        return cls(
            session_id=session_id,
            number=number,
            seen=v.number(call.seen, "seen", 0, limits.COUNTER_MAX),
            deadline_s=now_s + timeout_ms / 1000 if timeout_ms else None,
            stale=call.stale,
            min_index=v.number(call.min_index, "min_index", 0, limits.COUNTER_MAX),
        )


def _number(given: dict[str, str], key: str) -> int:
    text = given.get(key, "0")
    if not (text.isascii() and text.isdigit() and len(text) <= 16):
        raise bad_field(key, "must be a whole number")
    if int(text) > limits.COUNTER_MAX:
        raise bad_field(key, f"beyond {limits.COUNTER_MAX}")
    return int(text)
