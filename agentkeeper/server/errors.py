"""The errors of the service layer: every one is refused, unavailable, or of unknown outcome."""

from __future__ import annotations

from typing import Final

from agentkeeper.core import refusals
from agentkeeper.core.records import Refused

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


def unavailable(message: str, reason: str = "no_leader") -> CallError:
    """Nothing happened, and another attempt may succeed, here or at another replica."""
    return CallError("UNAVAILABLE", reason, message)


def overloaded(message: str) -> CallError:
    """Refused before it did anything, because too much is under way."""
    return CallError("RESOURCE_EXHAUSTED", "overloaded", message)


def outcome_unknown(message: str) -> CallError:
    """The command was handed on and may or may not take effect."""
    return CallError("UNAVAILABLE", refusals.OUTCOME_UNKNOWN, message, definite=False)


def refused(refusal: Refused) -> CallError:
    """A refusal of the state machine."""
    definite = refusal.reason not in INDEFINITE_REASONS
    return CallError(refusal.code, refusal.reason, refusal.message, definite=definite)


def too_large(advice: str) -> CallError:
    """The answer does not fit one message."""
    return CallError("RESOURCE_EXHAUSTED", "too_large", f"the answer is too large: {advice}")
