"""What `register` and `acquire_lease` return: an agent or a lease to be held and given back."""

from __future__ import annotations

import concurrent.futures
import logging
from types import TracebackType
from typing import TYPE_CHECKING, Self

from agentkeeper import errors
from agentkeeper.types import Lease

if TYPE_CHECKING:
    from agentkeeper.client.sync import AgentKeeperClient

logger = logging.getLogger("agentkeeper")


class AgentHandle:
    """A registered agent, kept ALIVE in the background.

    A context manager: the agent is deregistered on exit.
    """

    def __init__(
        self, client: AgentKeeperClient, agent_id: str, heartbeats: concurrent.futures.Future[None]
    ) -> None:
        self._client = client
        self._heartbeats = heartbeats
        self._ended = False
        self.agent_id = agent_id
        """32 lower-case hex characters."""

    def deregister(self, *, timeout: float | None = None) -> None:
        """End the agent: its leases are released, its tasks requeued, it leaves its elections.

        Harmless when repeated. `timeout` in seconds; None means the client's default. Raises
        NotFound if the cluster has declared it dead before.
        """
        self._heartbeats.cancel()
        if not self._ended:
            self._client._deregister(self.agent_id, timeout=timeout)
            self._ended = True

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

    Leaving the context raises NotFound or PermissionDenied if the lease was lost meanwhile: what
    was done under it may then not have been done alone.
    """

    def __init__(self, client: AgentKeeperClient, lease: Lease) -> None:
        self._client = client
        self._released = False
        self.lease = lease
        """The lease as last granted or renewed."""

    def renew(self, ttl: int | None = None, *, timeout: float | None = None) -> Lease:
        """Extend the lease by `ttl` seconds from now, or by its last ttl; return it.

        `timeout` in seconds; None means the client's default. Raises PermissionDenied if the
        token is stale, NotFound if the lease has ended.
        """
        self.lease = self._client._renew_lease(self.lease, ttl, timeout=timeout)
        return self.lease

    def release(self, *, timeout: float | None = None) -> None:
        """Give the lease back. Harmless when repeated.

        `timeout` in seconds; None means the client's default. Raises as `renew` does.
        """
        if not self._released:
            self._client._release_lease(self.lease, timeout=timeout)
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
        return f"<LeaseHandle {self.lease.task_id} token={self.lease.token}>"
