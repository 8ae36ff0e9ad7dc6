"""When to try again and when to give up. Pure arithmetic and tables, no I/O."""

from __future__ import annotations

import enum
import random
from typing import Any

import grpc

from agentkeeper import errors
from agentkeeper.client.methods import Method
from agentkeeper.client.transport import Failure

ATTEMPT_TIMEOUT_S = 1.5
MAX_ATTEMPT_TIMEOUT_S = 10.0
MIN_ATTEMPT_TIMEOUT_S = 0.25
FIRST_PAUSE_S = 0.05
MAX_PAUSE_S = 0.5

SESSION_EXPIRED = "session_expired"
STALE_TOKEN = "stale_token"
OVERLOADED = "overloaded"
WITHDRAWN = "withdrawn"

_Code = grpc.StatusCode
_TRANSIENT = frozenset(
    {
        _Code.UNAVAILABLE,
        _Code.CANCELLED,
        _Code.UNKNOWN,
        _Code.INTERNAL,
        _Code.DEADLINE_EXCEEDED,
        _Code.RESOURCE_EXHAUSTED,
    }
)
# Without a word from the daemon, these codes leave open whether something happened.
_AMBIGUOUS = frozenset({_Code.ABORTED, _Code.DATA_LOSS})
_REFUSALS: dict[grpc.StatusCode, type[errors.Refused]] = {
    _Code.INVALID_ARGUMENT: errors.InvalidArgument,
    _Code.NOT_FOUND: errors.NotFound,
    _Code.PERMISSION_DENIED: errors.PermissionDenied,
    _Code.ALREADY_EXISTS: errors.AlreadyExists,
    _Code.RESOURCE_EXHAUSTED: errors.Overloaded,
    _Code.OUT_OF_RANGE: errors.Compacted,
}


class Verdict(enum.Enum):
    """What a failed attempt means for its call."""

    TRY_AGAIN = "nothing happened; another attempt may succeed"
    TRY_AGAIN_SAME_NUMBER = "something may have happened; only a numbered retry is safe"
    NEW_NUMBER = "nothing happened: it was undone when an earlier attempt ended"
    NEW_SESSION = "nothing happened, and the session is gone"
    REFUSED = "nothing happened, nor would it next time"
    UNKNOWN = "something may have happened, and trying again can't tell"


def judge(failure: Failure) -> Verdict:
    """Decide what `failure` means, by its status and what the daemon said about it."""
    if failure.reason == SESSION_EXPIRED:
        # Of this attempt that is definite; of those before it the caller knows.
        return Verdict.NEW_SESSION
    if failure.definite:
        if failure.reason == WITHDRAWN:
            return Verdict.NEW_NUMBER
        if failure.code is _Code.UNAVAILABLE or failure.reason == OVERLOADED:
            return Verdict.TRY_AGAIN
        return Verdict.REFUSED
    if failure.code in _TRANSIENT:
        return Verdict.TRY_AGAIN_SAME_NUMBER
    if failure.definite is None and failure.code not in _AMBIGUOUS:
        return Verdict.REFUSED
    return Verdict.UNKNOWN


def refusal(failure: Failure) -> errors.Refused:
    """Return the exception for a definite refusal."""
    kind = _REFUSALS.get(failure.code, errors.Refused)
    if failure.reason == STALE_TOKEN:
        kind = errors.StaleToken
    error = kind(failure.details, failure.code, reason=failure.reason)
    if isinstance(error, errors.InvalidArgument):
        error.field = failure.field
    elif isinstance(error, errors.Compacted):
        error.oldest = failure.oldest
    return error


def given_up(
    method: Method[Any, Any], failure: Failure | None, maybe_done: bool, why: str
) -> errors.AgentKeeperError:
    """Return the exception for a call that ended without a definite answer."""
    last = f"; last: {failure.code.name}: {failure.details}" if failure else ""
    details = f"{method.name}: {why}{last}"
    if maybe_done and method.mutates:
        code = failure.code if failure else None
        return errors.OutcomeUnknown(details, code, reason=failure.reason if failure else "")
    if failure and failure.reason == OVERLOADED:
        return errors.Overloaded(details, reason=OVERLOADED)
    return errors.Unavailable(details, reason=failure.reason if failure else "")


def pause_s(rounds: int) -> float:
    """How long to wait once every endpoint has been tried `rounds` times: exponential, jittered."""
    return random.uniform(0.5, 1.0) * min(MAX_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(rounds, 10))


def attempt_timeout_s(rounds: int, remaining_s: float, endpoint_count: int) -> float:
    """How long one attempt may take, so that an endpoint that hangs leaves time for the others.

    Attempts get longer with every round, for a cluster that is slow and not dead. With one
    endpoint there is nowhere else to go, so its attempts start long.
    """
    if endpoint_count == 1:
        planned = MAX_ATTEMPT_TIMEOUT_S
    else:
        planned = min(MAX_ATTEMPT_TIMEOUT_S, ATTEMPT_TIMEOUT_S * 2.0 ** min(rounds, 10))
    return min(remaining_s, max(MIN_ATTEMPT_TIMEOUT_S, min(planned, remaining_s / 2)))
