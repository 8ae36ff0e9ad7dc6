# Made from agentkeeper/client/aio/handles.py by tools/make_sync.py: edit that one.
"""What `register`, `acquire_lease` and `lead` return: something held, to be given back."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import TYPE_CHECKING, Self

from agentkeeper import errors
from agentkeeper.client.holding import HeldLease
from agentkeeper.client.leading import HeldLeadership
from agentkeeper.client.presence import KeptAgent
from agentkeeper.client.sync.concurrency import Callback, LossSignal, notifier, run
from agentkeeper.types import Lease

if TYPE_CHECKING:
    from agentkeeper.client.sync.client import AgentKeeperClient

logger = logging.getLogger("agentkeeper")


class AgentHandle:
    """A registered agent, kept ALIVE in the background.

    A context manager: the agent is deregistered on exit.
    """

    def __init__(
        self,
        client: AgentKeeperClient,
        kept: KeptAgent,
        on_lost: Callback[AgentHandle] | None,
    ) -> None:
        self._client = client
        self._kept = kept
        self.lost = LossSignal(kept.membership)
        """Set when the cluster says that the agent is DEAD, as far as it is not registered again.

        Its reason is "timed_out", "superseded", "deregistered" (by another client) or "dead".
        """
        if on_lost is not None:
            kept.membership.on_lost(notifier(on_lost, self))

    @property
    def agent_id(self) -> str:
        """32 lower-case hex characters. Another one after the agent was registered again."""
        return self._kept.agent_id

    def deregister(self, *, timeout: float | None = None) -> None:
        """End the agent: its leases are released, its tasks requeued, it leaves its elections.

        Harmless when repeated. `timeout` in seconds; None means the client's default. Raises
        NotFound if the cluster has declared it dead before.
        """
        limit_s = self._client._limit(timeout)
        run(self._client._runner, self._kept.deregister(limit_s))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.deregister()
        except errors.NotFound:
            logger.warning("agent %s was already dead when it deregistered", self.agent_id)
        except errors.AgentKeeperError as failure:
            if error is None:
                raise
            logger.warning("agent %s could not be deregistered: %s", self.agent_id, failure)

    def __repr__(self) -> str:
        return f"<AgentHandle {self.agent_id}>"


class LeaseHandle:
    """A lease that is held. A context manager: it is released on exit.

    Leaving the context raises LeaseLost or StaleToken if the lease was lost meanwhile: what was
    done under it may then not have been done alone.
    """

    def __init__(
        self,
        client: AgentKeeperClient,
        held: HeldLease,
        on_lost: Callback[LeaseHandle] | None,
    ) -> None:
        self._client = client
        self._held = held
        self._released = False
        self.lost = LossSignal(held.tenure)
        """Set when the lease can't be counted on any more: the cluster says so, or its ttl has
        passed since the last renewal was sent, by this client's own clock."""
        if on_lost is not None:
            held.tenure.on_lost(notifier(on_lost, self))

    @property
    def lease(self) -> Lease:
        """The lease as last granted or renewed."""
        return self._held.lease

    @property
    def token(self) -> int:
        """The fencing token, for outside resources to compare: higher than any before it."""
        return self._held.lease.token

    def check(self) -> None:
        """Raise LeaseLost unless the lease can be counted on at this moment. Asks nobody.

        For right before a side effect. Between the check and the effect this process may still be
        paused: what must never happen twice is fenced by `token` where it happens.
        """
        if not self._held.tenure.held:
            why = self.lost.reason or "released"
            raise errors.LeaseLost(f"lease {self.lease.task_id!r} is not held: {why}")

    def renew(self, ttl: int | None = None, *, timeout: float | None = None) -> Lease:
        """Extend the lease by `ttl` seconds from now, or by its last ttl; return it.

        `timeout` in seconds; None means the client's default. Raises StaleToken (a kind of
        PermissionDenied) if the token is stale, LeaseLost (a kind of NotFound) if it has ended.
        """
        limit_s = self._client._limit(timeout)
        return run(self._client._runner, self._held.renew(ttl, limit_s))

    def release(self, *, timeout: float | None = None) -> None:
        """Give the lease back. Harmless when repeated.

        `timeout` in seconds; None means the client's default. Raises as `renew` does.
        """
        if not self._released:
            limit_s = self._client._limit(timeout)
            run(self._client._runner, self._held.release(limit_s))
            self._released = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.release()
        except errors.AgentKeeperError as failure:
            if error is None:
                raise
            logger.warning("lease %s could not be released: %s", self.lease.task_id, failure)

    def __repr__(self) -> str:
        return f"<LeaseHandle {self.lease.task_id} token={self.token}>"


class Leadership:
    """An agent leads a group. A context manager: it resigns on exit, so that the next one leads."""

    def __init__(
        self,
        client: AgentKeeperClient,
        held: HeldLeadership,
        on_lost: Callback[Leadership] | None,
    ) -> None:
        self._client = client
        self._held = held
        self.group = held.group
        self.agent_id = held.agent_id
        self.term = held.term
        """Higher than that of any leader of the group before: a fencing token for what it does."""
        self.lost = LossSignal(held.tenure)
        """Set when somebody else leads, or when that can't be ruled out any more because the
        agent's heartbeats have gone unanswered for two of its ttl."""
        if on_lost is not None:
            held.tenure.on_lost(notifier(on_lost, self))

    def check(self) -> None:
        """Raise LeadershipLost unless the agent can be sure to lead right now. Asks nobody."""
        if not self._held.tenure.held:
            why = self.lost.reason or "resigned"
            raise errors.LeadershipLost(f"group {self.group!r} is not led any more: {why}")

    def resign(self, *, timeout: float | None = None) -> None:
        """Leave the group's candidates, so that the next one leads. Harmless when repeated.

        `timeout` in seconds; None means the client's default.
        """
        limit_s = self._client._limit(timeout)
        run(self._client._runner, self._held.resign(limit_s))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.resign()
        except errors.AgentKeeperError as failure:
            if error is None:
                raise
            logger.warning("group %s could not be resigned: %s", self.group, failure)

    def __repr__(self) -> str:
        return f"<Leadership {self.group} term={self.term}>"
