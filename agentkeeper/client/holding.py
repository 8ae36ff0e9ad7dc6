"""Leases and claims as their holder has them: with a deadline of its own, renewed on request."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from agentkeeper import errors
from agentkeeper.client.core import Core
from agentkeeper.client.tenure import Tenure, safe_s
from agentkeeper.types import Lease, Task

DEFAULT_TTL_SECONDS = 60  # of leases and claims: what the daemon takes when asked for 0
RENEWALS_PER_TTL = 3
RETRY_PAUSE_S = 0.5
WAITED = 0.1
"""The part of a ttl after which a grant that was waited for must be renewed to be counted on."""

logger = logging.getLogger("agentkeeper")

_Lost = (errors.NotFound, errors.PermissionDenied)


class Holding:
    """What a lease and a claim have in common.

    The deadline is counted from the moment at which the request that granted or renewed it was
    first sent: the cluster can't have begun to count earlier. What an agent of this client holds is
    also lost with that agent's life.
    """

    def __init__(self, core: Core, agent_id: str, ttl_s: float, what: str) -> None:
        self.tenure = Tenure(core.clock)
        self._core = core
        self._agent_id = agent_id
        self._ttl_s = ttl_s
        self._what = what
        self._renewing = asyncio.Lock()
        self._keeping: asyncio.Task[None] | None = None

    async def settle(self, sent_s: float) -> None:
        """Begin to count: from `sent_s`, when the request that was granted was first sent.

        A grant that was waited for is renewed at once, as nobody here knows when it was made.
        Raises what renewing raises where the grant can't be counted on without.
        """
        agent = self._core.agents.get(self._agent_id)
        if agent is not None:
            self.tenure.depend_on(await agent.certain_life())
        deadline_s = sent_s + safe_s(self._ttl_s)
        if self._core.clock() - sent_s <= WAITED * self._ttl_s:
            self.tenure.extend_to(deadline_s)
            return
        try:
            await self._renew_in_turn(self._renew_as_granted, self._ttl_s)
        except errors.AgentKeeperError:
            if self.tenure.lost or self._core.clock() >= deadline_s:
                raise
            self.tenure.extend_to(deadline_s)

    def keep(self) -> None:
        """Renew from now on, until it ends."""
        self._keeping = self._core.background.start(self._keep())

    def stop_keeping(self) -> None:
        """Renew no more. On the loop only."""
        if self._keeping is not None:
            self._keeping.cancel()
            self._keeping = None

    async def _renew_as_granted(self, timeout_s: float) -> float:
        """Renew at the cluster by the last ttl; returns the ttl in seconds."""
        raise NotImplementedError

    async def _undo_renewal(self) -> None:
        """Give back what was renewed too late to be counted on."""
        raise NotImplementedError

    async def _renew_in_turn(
        self, renew: Callable[[float], Awaitable[float]], timeout_s: float
    ) -> None:
        """Renew, one renewal at a time, and move the deadline. Ends the tenure if refused."""
        async with self._renewing:
            sent_s = self._core.clock()
            try:
                self._ttl_s = await renew(timeout_s)
            except _Lost as error:
                self.tenure.lose(error.details())
                raise
            if not self.tenure.extend_to(sent_s + safe_s(self._ttl_s)):
                # Whoever was told that it is lost may have acted on it.
                self._core.background.start(self._undo_renewal())
                raise errors.NotFound(f"{self._what} is lost: {self.tenure.reason}")

    async def _keep(self) -> None:
        while self.tenure.held:
            await asyncio.sleep(self._ttl_s / RENEWALS_PER_TTL)
            while self.tenure.held:
                try:
                    left_s = self.tenure.deadline_s - self._core.clock()
                    await self._renew_in_turn(self._renew_as_granted, max(0.0, left_s))
                    break
                except _Lost:
                    logger.warning("%s is lost: %s", self._what, self.tenure.reason)
                except errors.AgentKeeperError as error:
                    logger.warning("%s could not be renewed: %s", self._what, error)
                    await asyncio.sleep(min(RETRY_PAUSE_S, self._ttl_s / 10))
                except Exception:
                    # Whatever it is, the next renewal may succeed.
                    logger.exception("%s could not be renewed", self._what)
                    await asyncio.sleep(min(RETRY_PAUSE_S, self._ttl_s / 10))


class HeldLease(Holding):
    """A lease that this client was granted."""

    def __init__(self, core: Core, lease: Lease, ttl: int) -> None:
        """`ttl` is what was asked for, for a daemon that does not say."""
        ttl_s = lease.ttl_seconds or ttl or DEFAULT_TTL_SECONDS
        super().__init__(core, lease.holder_agent_id, ttl_s, f"lease {lease.task_id!r}")
        self.lease = lease
        """As last granted or renewed."""

    async def renew(self, ttl: int | None, timeout_s: float) -> Lease:
        """Extend the lease by `ttl` seconds, or by its last ttl.

        Raises LeaseLost, StaleToken, and what calls raise.
        """

        async def renew(left_s: float) -> float:
            self.lease = await self._core.renew_lease(self.lease, ttl, left_s)
            return self.lease.ttl_seconds or ttl or self._ttl_s

        if ttl is not None and ttl < self._ttl_s:
            # It counts from when the cluster hears of it, which may be now.
            deadline_s = self._core.clock() + safe_s(ttl)
            self.tenure.extend_to(min(self.tenure.deadline_s, deadline_s))
        try:
            await self._renew_in_turn(renew, timeout_s)
        except errors.NotFound as error:
            raise errors.LeaseLost(error.details(), reason=error.reason) from None
        return self.lease

    async def release(self, timeout_s: float) -> None:
        """Give the lease back. Raises LeaseLost, StaleToken, and what calls raise."""
        self.stop_keeping()
        try:
            await self._core.release_lease(self.lease, timeout_s)
        except errors.NotFound as error:
            self.tenure.lose(error.details())
            raise errors.LeaseLost(error.details(), reason=error.reason) from None
        except errors.PermissionDenied as error:
            self.tenure.lose(error.details())
            raise
        self.tenure.give_back()

    async def _renew_as_granted(self, timeout_s: float) -> float:
        self.lease = await self._core.renew_lease(self.lease, None, timeout_s)
        return self.lease.ttl_seconds or self._ttl_s

    async def _undo_renewal(self) -> None:
        with contextlib.suppress(errors.AgentKeeperError):  # else it ends with its ttl
            await self._core.release_lease(self.lease, self._ttl_s)


class HeldClaim(Holding):
    """A task that this client has claimed."""

    def __init__(self, core: Core, task: Task, agent_id: str) -> None:
        ttl_s = task.ttl_seconds or DEFAULT_TTL_SECONDS
        super().__init__(core, agent_id, ttl_s, f"the claim of task {task.id}")
        self.task = task

    async def complete(self, output: bytes, timeout_s: float) -> None:
        """Complete the task. Raises as `Core.complete_task` does."""
        self.stop_keeping()
        token = self.task.claim_token
        await self._core.complete_task(self.task.id, self._agent_id, output, token, timeout_s)
        self.tenure.give_back()

    async def fail(self, reason: str, timeout_s: float) -> None:
        """Report the task as failed. Raises as `Core.fail_task` does."""
        self.stop_keeping()
        token = self.task.claim_token
        await self._core.fail_task(self.task.id, self._agent_id, reason, token, timeout_s)
        self.tenure.give_back()

    async def _renew_as_granted(self, timeout_s: float) -> float:
        token = self.task.claim_token
        task = await self._core.extend_task(self.task.id, self._agent_id, None, token, timeout_s)
        return task.ttl_seconds or self._ttl_s

    async def _undo_renewal(self) -> None:
        """Nothing gives a claim back but failing it: it is requeued after its ttl."""


async def acquire(
    core: Core,
    task_id: str,
    agent_id: str,
    ttl: int,
    *,
    wait_s: float,
    exclusive: bool,
    keep_alive: bool,
    timeout_s: float,
) -> HeldLease | None:
    """Acquire a lease; None if somebody else holds it for longer than `wait_s`.

    Raises LeaseLost if it was lost before it could be had, and what calls raise.
    """
    sent_s = core.clock()
    lease = await core.acquire_lease(
        task_id, agent_id, ttl, wait_s=wait_s, exclusive=exclusive, timeout_s=timeout_s
    )
    if lease is None:
        return None
    held = HeldLease(core, lease, ttl)
    try:
        await held.settle(sent_s)
    except errors.NotFound as error:
        raise errors.LeaseLost(error.details(), reason=error.reason) from None
    if keep_alive:
        held.keep()
    return held
