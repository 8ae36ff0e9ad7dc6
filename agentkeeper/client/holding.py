"""Leases and claims as their holder has them: with a deadline of its own, renewed on request."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Awaitable, Callable

from agentkeeper import errors
from agentkeeper.client.acquisitions import Acquisition
from agentkeeper.client.core import Core
from agentkeeper.client.presence import KeptAgent
from agentkeeper.client.tenure import Tenure, safe_s
from agentkeeper.types import Lease, Task

DEFAULT_TTL_SECONDS = 60  # of leases and claims: what the daemon takes when asked for 0
RENEWALS_PER_TTL = 3
RETRY_PAUSE_S = 0.5
WAITED = 0.1
"""The part of a ttl after which a grant that was waited for must be renewed to be counted on."""

logger = logging.getLogger("agentkeeper")

Renew = Callable[[float], Awaitable[float]]
"""Renews at the cluster, within some seconds; returns the ttl in seconds."""


class Holding:
    """What a lease and a claim have in common.

    The deadline is counted from the moment at which the request that granted or renewed it was
    first sent: the cluster can't have begun to count earlier. What an agent of this client holds is
    also lost with that agent's life. From the moment at which it is to be given back it is held no
    more, whatever becomes of that request.
    """

    def __init__(self, core: Core, agent_id: str, ttl_s: float, what: str) -> None:
        self.tenure = Tenure(core.clock)
        self._core = core
        self._agent_id = agent_id
        self._ttl_s = ttl_s
        self._what = what
        self._renewing = asyncio.Lock()
        self._renewed = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None

    async def settle(self, sent_s: float, agent: KeptAgent | None, timeout_s: float) -> None:
        """Begin to count: from `sent_s`, when the request that was granted was first sent.

        `agent` is the holder, if it was one of this client's then. A grant that was waited for is
        renewed at once, as nobody here knows when it was made. Raises errors.Lost, or what renewing
        raises, where the grant can't be counted on.
        """
        if agent is not None:
            self.tenure.depend_on(await agent.certain_life(self._agent_id))
        deadline_s = sent_s + safe_s(self._ttl_s)
        if self._core.clock() - sent_s > WAITED * self._ttl_s:
            try:
                await self._renew_in_turn(self._renew_as_granted, timeout_s)
            except (errors.Unavailable, errors.Overloaded, errors.OutcomeUnknown):
                if self._core.clock() >= deadline_s:
                    raise
            else:
                return
        if not self.tenure.extend_to(deadline_s):
            raise self._lost()

    def keep(self) -> None:
        """Renew from now on, until it ends. On the loop only."""
        self._keeping = self._core.background.start(self._keep())

    def stop_keeping(self) -> None:
        """Renew no more. On the loop only."""
        if self._keeping is not None:
            self._keeping.cancel()
            self._keeping = None

    def undo(self) -> None:
        """Give it back without waiting, as nobody has use for it. On the loop only."""
        self.stop_keeping()
        self.tenure.give_back()
        self._core.background.start(self._give_back())

    async def _renew_as_granted(self, timeout_s: float) -> float:
        """Renew at the cluster by the last ttl; see `Renew`."""
        raise NotImplementedError

    async def _give_back(self) -> None:
        """Give it back at the cluster, as far as that is possible."""
        raise NotImplementedError

    def _lost(self, error: errors.AgentKeeperError | None = None) -> errors.Lost:
        """The error for what is not held any more."""
        raise NotImplementedError

    async def _renew_in_turn(
        self, renew: Renew, timeout_s: float, *, shorter_s: float = math.inf
    ) -> None:
        """Renew, one renewal at a time, and move the deadline. If refused, it is lost.

        `shorter_s` is the ttl that is asked for, if it may be shorter than the last one. Raises
        Lost and what `renew` raises.
        """
        loop = asyncio.get_running_loop()
        end_s = loop.time() + timeout_s
        try:
            async with asyncio.timeout_at(end_s if math.isfinite(end_s) else None):
                await self._renewing.acquire()
        except TimeoutError:
            raise errors.Unavailable(f"{self._what}: another renewal is under way") from None
        try:
            await self._renew_now(renew, max(0.0, end_s - loop.time()), shorter_s)
        except errors.NotFound as error:
            self.tenure.lose(error.details())
            raise self._lost(error) from None
        except errors.PermissionDenied as error:
            self.tenure.lose(error.details())
            raise
        finally:
            self._renewing.release()

    async def _renew_now(self, renew: Renew, timeout_s: float, shorter_s: float) -> None:
        sent_s = self._core.clock()
        if shorter_s < self._ttl_s:
            # The cluster may hear of it at once, and its answer be lost.
            self._ttl_s = shorter_s
            self._move_to(min(self.tenure.deadline_s, sent_s + safe_s(shorter_s)))
        self._ttl_s = await renew(timeout_s)
        if not self._move_to(sent_s + safe_s(self._ttl_s)):
            # Whoever was told that it is not held may have acted on it.
            self._core.background.start(self._give_back())
            raise self._lost()

    def _move_to(self, deadline_s: float) -> bool:
        self._renewed.set()
        return self.tenure.extend_to(deadline_s)

    async def _keep(self) -> None:
        while self.tenure.held:
            self._renewed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._ttl_s / RENEWALS_PER_TTL):
                    await self._renewed.wait()
                    continue  # somebody else renewed it, perhaps by another ttl
            await self._renew_somehow()

    async def _renew_somehow(self) -> None:
        """Renew, however often it takes."""
        while self.tenure.held:
            left_s = self.tenure.deadline_s - self._core.clock()
            try:
                await self._renew_in_turn(self._renew_as_granted, max(0.0, left_s))
                break
            except (errors.Lost, errors.PermissionDenied):
                logger.warning("%s is lost: %s", self._what, self.tenure.reason)
            except errors.AgentKeeperError as error:
                logger.warning("%s could not be renewed: %s", self._what, error)
            except Exception:
                # Whatever it is, the next renewal may succeed.
                logger.exception("%s could not be renewed", self._what)
            await asyncio.sleep(min(RETRY_PAUSE_S, self._ttl_s / 10))


class HeldLease(Holding):
    """A lease that this client was granted."""

    def __init__(self, core: Core, lease: Lease, ttl: int, acquisition: Acquisition) -> None:
        """`ttl` is what was asked for, for a daemon that does not say."""
        self._acquisition = acquisition  # lives as long as this
        ttl_s = lease.ttl_seconds or ttl or DEFAULT_TTL_SECONDS
        super().__init__(core, lease.holder_agent_id, ttl_s, f"lease {lease.task_id!r}")
        self.lease = lease
        """As last granted or renewed."""

    async def renew(self, ttl: int | None, timeout_s: float) -> Lease:
        """Extend the lease by `ttl` seconds, or by its last ttl.

        Raises LeaseLost, StaleToken, and what calls raise.
        """

        async def renew(left_s: float) -> float:
            return await self._prolong(ttl, left_s) or ttl or self._ttl_s

        # A ttl that will be refused changes nothing.
        shorter_s = float(ttl) if ttl is not None and ttl > 0 else math.inf
        await self._renew_in_turn(renew, timeout_s, shorter_s=shorter_s)
        return self.lease

    async def release(self, timeout_s: float) -> None:
        """Give the lease back.

        Raises LeaseLost, also if only this client had given it up, StaleToken, and what calls
        raise.
        """
        self.stop_keeping()
        self.tenure.give_back()
        try:
            await self._core.release_lease(*self._key, timeout_s)
        except errors.NotFound as error:
            raise self._lost(error) from None
        if self.tenure.lost:
            raise self._lost()

    async def _renew_as_granted(self, timeout_s: float) -> float:
        return await self._prolong(None, timeout_s) or self._ttl_s

    async def _prolong(self, ttl: int | None, timeout_s: float) -> int:
        """Renew the lease and return its ttl; 0 if the daemon does not say."""
        self.lease = await self._core.renew_lease(*self._key, ttl, timeout_s)
        return self.lease.ttl_seconds

    @property
    def _key(self) -> tuple[str, str, int]:
        return self.lease.task_id, self.lease.holder_agent_id, self.lease.token

    async def _give_back(self) -> None:
        with contextlib.suppress(errors.AgentKeeperError):  # else it ends with its ttl
            await self._core.release_lease(*self._key, self._ttl_s)

    def _lost(self, error: errors.AgentKeeperError | None = None) -> errors.Lost:
        if error is not None:
            return errors.LeaseLost(error.details(), reason=error.reason)
        return errors.LeaseLost(f"{self._what} is lost: {self.tenure.reason or 'released'}")


class HeldClaim(Holding):
    """A task that this client has claimed."""

    def __init__(self, core: Core, task: Task, agent_id: str) -> None:
        ttl_s = task.ttl_seconds or DEFAULT_TTL_SECONDS
        super().__init__(core, agent_id, ttl_s, f"the claim of task {task.id}")
        self.task = task

    async def complete(self, output: bytes, timeout_s: float) -> None:
        """Complete the task. Raises as `Core.complete_task` does."""
        self._done()
        token = self.task.claim_token
        await self._core.complete_task(self.task.id, self._agent_id, output, token, timeout_s)

    async def fail(self, reason: str, timeout_s: float) -> None:
        """Report the task as failed. Raises as `Core.fail_task` does."""
        self._done()
        token = self.task.claim_token
        await self._core.fail_task(self.task.id, self._agent_id, reason, token, timeout_s)

    def _done(self) -> None:
        self.stop_keeping()
        self.tenure.give_back()

    async def _renew_as_granted(self, timeout_s: float) -> float:
        token = self.task.claim_token
        task = await self._core.extend_task(self.task.id, self._agent_id, None, token, timeout_s)
        return task.ttl_seconds or self._ttl_s

    async def _give_back(self) -> None:
        """Nothing gives a claim back but failing it: it is requeued after its ttl."""

    def _lost(self, error: errors.AgentKeeperError | None = None) -> errors.Lost:
        if error is not None:
            return errors.ClaimLost(error.details(), reason=error.reason)
        return errors.ClaimLost(f"{self._what} is lost: {self.tenure.reason or 'done'}")


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

    Raises LeaseLost if it was lost before it could be had, OutcomeUnknown if that can't be told,
    and what calls raise.
    """
    sent_s = core.clock()
    agent = core.agents.get(agent_id)
    key = (task_id, agent_id)
    with core.acquisitions.one_more(key, exclusive=exclusive) as acquisition:
        lease = await core.acquire_lease(
            task_id, agent_id, ttl, wait_s=wait_s, exclusive=exclusive, timeout_s=timeout_s
        )
        if lease is None:
            return None
        held = HeldLease(core, lease, ttl, acquisition)
        core.acquisitions.granted(key, acquisition, lease.token, held.tenure)
    if held.tenure.lost:
        return held  # it was granted; that the handle is stale already, it says itself
    try:
        await held.settle(sent_s, agent, max(0.0, timeout_s - (core.clock() - sent_s)))
    except (errors.Unavailable, errors.Overloaded) as error:
        held.undo()
        details = f"acquire_lease: granted, but it can't be counted on: {error.details()}"
        raise errors.OutcomeUnknown(details, error.code()) from None
    except BaseException:
        held.undo()
        raise
    if keep_alive:
        held.keep()
    return held


def undo(held: HeldLease | None) -> None:
    """Give back what was acquired, if it was, without waiting. On the loop only."""
    if held is not None:
        held.undo()
