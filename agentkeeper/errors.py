"""What the SDK raises, by what the caller may conclude from it.

    grpc.RpcError
    └── AgentKeeperError            code(), details(), reason
        ├── Refused                 definite: the call had no effect, and would be refused again
        │   ├── InvalidArgument     bad input; `field` names it
        │   ├── NotFound            no such agent, lease, policy or task (any more)
        │   │   └── Lost            what a handle stood for is no longer held
        │   │       ├── LeaseLost
        │   │       ├── LeadershipLost
        │   │       ├── ClaimLost
        │   │       └── AgentLost
        │   ├── PermissionDenied    somebody else's lease or claim
        │   │   └── StaleToken      the fencing token has been superseded
        │   ├── AlreadyExists       the name is taken
        │   ├── Overloaded          a bound of the cluster is reached, or its replicas have too
        │   │                       much to do (reason "overloaded"); try again later
        │   └── Compacted           events asked for are no longer kept; `oldest` is the first kept
        ├── Unavailable             definite: nobody could be asked in time, or nothing came in the
        │                           time given to wait; nothing happened
        ├── OutcomeUnknown          the call may or may not have taken effect
        └── ClientClosed            the client was closed before or during the call

Reads raise Unavailable, never OutcomeUnknown. `code()` is the gRPC status code, so code that
compares codes need not know these classes.
"""

from __future__ import annotations

from typing import Any

import grpc


class AgentKeeperError(grpc.RpcError):  # type: ignore[misc]  # grpc has no types
    """Base of all errors of the SDK."""

    default_code = grpc.StatusCode.UNKNOWN

    def __init__(
        self, details: str = "", code: grpc.StatusCode | None = None, *, reason: str = ""
    ) -> None:
        super().__init__(details)
        self._details = details
        self._code = self.default_code if code is None else code
        self.reason = reason
        """A stable word for the cause, such as "bad_field"; empty where there is none."""

    def code(self) -> Any:
        """Return the `grpc.StatusCode`."""
        return self._code

    def details(self) -> str:
        """Return what went wrong, for people."""
        return self._details

    def __str__(self) -> str:
        return f"{self._code.name}: {self._details}"


class Refused(AgentKeeperError):  # noqa: N818
    """The cluster refused the call; it had no effect."""

    default_code = grpc.StatusCode.FAILED_PRECONDITION


class InvalidArgument(Refused):
    """A field is missing, malformed or beyond its bound; `field` names it where known."""

    default_code = grpc.StatusCode.INVALID_ARGUMENT
    field: str = ""


class NotFound(Refused):
    """No such agent, lease, policy or task, or it has ended."""

    default_code = grpc.StatusCode.NOT_FOUND


class Lost(NotFound):
    """What a handle stood for is no longer held, for good."""


class LeaseLost(Lost):
    """The lease is not held any more, or can't be counted on any more."""


class LeadershipLost(Lost):
    """The agent does not lead the group any more, or can't be sure to."""


class ClaimLost(Lost):
    """The task is not claimed any more, or that can't be counted on any more."""


class AgentLost(Lost):
    """The agent is DEAD and was not registered again."""


class PermissionDenied(Refused):
    """The lease or claim is somebody else's."""

    default_code = grpc.StatusCode.PERMISSION_DENIED


class StaleToken(PermissionDenied):
    """The fencing token is not that of the present lease or claim: it has been superseded."""


class AlreadyExists(Refused):
    """The name is in use."""

    default_code = grpc.StatusCode.ALREADY_EXISTS


class Overloaded(Refused):
    """A bound of the cluster is reached; the same call may succeed later.

    With the reason "overloaded": no replica had room for the call within its timeout.
    """

    default_code = grpc.StatusCode.RESOURCE_EXHAUSTED


class Compacted(Refused):
    """The events asked for are no longer kept; the first one still kept is `oldest`."""

    default_code = grpc.StatusCode.OUT_OF_RANGE
    oldest: int = 0
    """The first event that is still kept."""


class Unavailable(AgentKeeperError):  # noqa: N818
    """No replica could serve the call within its timeout; it had and will have no effect.

    With the code DEADLINE_EXCEEDED: what was waited for did not come in time.
    """

    default_code = grpc.StatusCode.UNAVAILABLE


class OutcomeUnknown(AgentKeeperError):  # noqa: N818
    """The answer was lost: the call may have taken effect, or still may, or may never."""

    default_code = grpc.StatusCode.UNKNOWN


class ClientClosed(AgentKeeperError):  # noqa: N818
    """The client is closed. A write that was under way may have taken effect."""

    default_code = grpc.StatusCode.CANCELLED
