"""The refusals of the state machine, each in one place. `code` is the name of a gRPC status."""

from __future__ import annotations

from agentkeeper.core.records import Refused

NOT_FOUND = "NOT_FOUND"
PERMISSION_DENIED = "PERMISSION_DENIED"
ALREADY_EXISTS = "ALREADY_EXISTS"
FAILED_PRECONDITION = "FAILED_PRECONDITION"
RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
ABORTED = "ABORTED"

SESSION_EXPIRED = "session_expired"
OUTCOME_UNKNOWN = "outcome_unknown"
WITHDRAWN = "withdrawn"
NUMBER_REUSED = "number_reused"


def not_found(kind: str, name: str) -> Refused:
    """`kind` of that id is unknown, or no more."""
    return Refused(NOT_FOUND, "not_found", f"no such {kind}: {name!r}")


def stale_token(task_id: str) -> Refused:
    """The token is not the present one, or the caller not the holder."""
    return Refused(
        PERMISSION_DENIED, "stale_token", f"not the present holder or token of {task_id!r}"
    )


def limit(what: str, bound: int) -> Refused:
    """A collection is full."""
    return Refused(RESOURCE_EXHAUSTED, "limit", f"too many {what}: the limit is {bound}")


def session_expired(session_id: str) -> Refused:
    """The session is unknown; nothing was done now, but a former attempt may have had effect."""
    return Refused(
        FAILED_PRECONDITION, SESSION_EXPIRED, f"session {session_id!r} is unknown or has expired"
    )


def outcome_unknown(number: int) -> Refused:
    """The request was acknowledged before; its answer is gone."""
    return Refused(ABORTED, OUTCOME_UNKNOWN, f"the answer to request {number} is no longer kept")


def number_reused(number: int) -> Refused:
    """The number belongs to another request of the session."""
    message = f"request number {number} was used before, for another request"
    return Refused(FAILED_PRECONDITION, NUMBER_REUSED, message)


WITHDRAWN_REQUEST = Refused(ABORTED, WITHDRAWN, "the request was withdrawn when its call ended")
