"""The errors of the service layer: every one is refused, unavailable, or of unknown outcome."""

from __future__ import annotations

from typing import Final

from agentkeeper.core import refusals
from agentkeeper.core.records import Refused

NUMBERS: Final = {
    "CANCELLED": 1,
    "UNKNOWN": 2,
    "INVALID_ARGUMENT": 3,
    "DEADLINE_EXCEEDED": 4,
    "NOT_FOUND": 5,
    "ALREADY_EXISTS": 6,
    "PERMISSION_DENIED": 7,
    "RESOURCE_EXHAUSTED": 8,
    "FAILED_PRECONDITION": 9,
    "ABORTED": 10,
    "OUT_OF_RANGE": 11,
    "UNIMPLEMENTED": 12,
    "INTERNAL": 13,
    "UNAVAILABLE": 14,
    "DATA_LOSS": 15,
    "UNAUTHENTICATED": 16,
}
"""gRPC's number of each code, for answers that travel as data."""

OVERLOADED: Final = "overloaded"
"""The reason of what is refused because a replica has too much to do."""
INDEFINITE_REASONS: Final = frozenset({refusals.OUTCOME_UNKNOWN, refusals.SESSION_EXPIRED})


class CallError(Exception):
    """A call that ends without an answer.

    `code` is the name of a gRPC status; `definite` says whether the call certainly had no effect;
    `reason` is a stable word for programs, `field` the request field at fault, if one is, and
    `oldest` the oldest event still kept, where one that is gone was asked for.
    """

    def __init__(
        self,
        code: str,
        reason: str,
        message: str,
        *,
        definite: bool = True,
        field: str = "",
        oldest: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.definite = definite
        self.field = field
        self.oldest = oldest


def bad_field(field: str, message: str) -> CallError:
    """A request field is missing, malformed or beyond its bound."""
    return CallError("INVALID_ARGUMENT", "bad_field", f"{field}: {message}", field=field)


def no_such_method(name: str) -> CallError:
    """No service has a method of this name and kind."""
    message = f"there is no method {name[:64]!r}"
    return CallError("UNIMPLEMENTED", "no_such_method", message, field="method")


def unavailable(message: str, reason: str = "no_leader") -> CallError:
    """Nothing happened, and another attempt may succeed, here or at another replica."""
    return CallError("UNAVAILABLE", reason, message)


def overloaded(message: str) -> CallError:
    """Refused before it did anything, because too much is under way on this replica.

    Another replica may have room, and this one soon: that is what the reason tells, unlike that of
    a bound of the state, which is everybody's.
    """
    return CallError("RESOURCE_EXHAUSTED", OVERLOADED, message)


def outcome_unknown(message: str) -> CallError:
    """The command was handed on and may or may not take effect."""
    return CallError("UNAVAILABLE", refusals.OUTCOME_UNKNOWN, message, definite=False)


def out_of_time() -> CallError:
    """The caller's time is up, and the call was broken off wherever it was."""
    message = "not answered in time; it may have taken effect"
    return CallError("DEADLINE_EXCEEDED", "deadline_exceeded", message, definite=False)


def refused(refusal: Refused) -> CallError:
    """A refusal of the state machine."""
    definite = refusal.reason not in INDEFINITE_REASONS
    return CallError(refusal.code, refusal.reason, refusal.message, definite=definite)


def too_large(advice: str) -> CallError:
    """The answer does not fit one message."""
    return CallError("RESOURCE_EXHAUSTED", "too_large", f"the answer is too large: {advice}")
