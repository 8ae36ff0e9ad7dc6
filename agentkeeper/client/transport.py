"""The seam between the core and the wire: sends one request to one endpoint, once.

A transport knows no retries, no sessions and no other endpoint. What goes wrong is reported as a
`Failure`, which says whether the attempt can have had an effect.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

import grpc

from agentkeeper.client.methods import Method, RequestT, ResponseT

EventT_co = TypeVar("EventT_co", covariant=True)
Metadata = Mapping[str, str]

DEFINITE_KEY = "agentkeeper-definite"
REASON_KEY = "agentkeeper-reason"
FIELD_KEY = "agentkeeper-field"
LEADER_KEY = "agentkeeper-leader"
OLDEST_KEY = "agentkeeper-oldest"

CONSISTENCY_KEY = "agentkeeper-consistency"
STALE = "stale"
MIN_INDEX_KEY = "agentkeeper-min-index"


@dataclass(slots=True)
class Failure(Exception):  # noqa: N818 - a report, never seen by users
    """Why one attempt at one endpoint failed."""

    code: grpc.StatusCode
    details: str
    definite: bool | None = None
    """True: no effect, now or later. False: perhaps one. None: no word of the daemon's."""
    reason: str = ""
    field: str = ""
    leader: str = ""
    """Endpoint of the leader, where the refusing replica knew it."""
    oldest: int = 0
    """For OUT_OF_RANGE: the oldest event still kept."""
    unreachable: bool = False
    """The endpoint itself is at fault: it can't be reached, hangs, or broke the connection."""

    @classmethod
    def from_status(cls, code: grpc.StatusCode, details: str, metadata: Metadata) -> Failure:
        """Read a gRPC status and its trailing metadata (see the header of the proto file)."""
        said = metadata.get(DEFINITE_KEY)
        oldest = metadata.get(OLDEST_KEY, "")
        return cls(
            code=code,
            details=details,
            definite=None if said is None else said == "true",
            reason=metadata.get(REASON_KEY, ""),
            field=metadata.get(FIELD_KEY, ""),
            leader=metadata.get(LEADER_KEY, ""),
            oldest=int(oldest) if oldest.isdigit() else 0,
            # The daemon always says; a status without a word from it is the connection's.
            unreachable=said is None
            and code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED},
        )


class EventStream(Protocol[EventT_co]):
    """A live server stream. Iterating raises `Failure` when it breaks, or ends too early."""

    @property
    def headers(self) -> Metadata:
        """The response headers, which say that the subscription is live."""
        ...

    def __aiter__(self) -> AsyncIterator[EventT_co]: ...

    def cancel(self) -> None:
        """End the stream; harmless when repeated."""
        ...


class Transport(Protocol):
    """Sends requests to endpoints. Used from one event loop only."""

    on_leader: Callable[[str], None]
    """Called with the leader's endpoint as replicas tell it unasked; empty: they know none."""

    async def call(
        self,
        endpoint: str,
        method: Method[RequestT, ResponseT],
        request: RequestT,
        metadata: Metadata,
        timeout_s: float,
    ) -> ResponseT:
        """Send one request and return its answer. Raises `Failure`, by `timeout_s` at the latest.

        Cancelling the call cancels the request at the server.
        """
        ...

    async def stream(
        self,
        endpoint: str,
        method: Method[RequestT, ResponseT],
        request: RequestT,
        metadata: Metadata,
        timeout_s: float,
    ) -> EventStream[ResponseT]:
        """Open a server stream and return it once its headers are there, within `timeout_s`.

        Raises `Failure`.
        """
        ...

    async def close(self) -> None:
        """Close all connections; calls under way are cancelled."""
        ...
