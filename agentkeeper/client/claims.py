"""A worker's claims: waiting for tasks, and keeping those that it has until they are done."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Coroutine
from typing import Any, TypeVar

from agentkeeper import errors
from agentkeeper.client.core import Core
from agentkeeper.client.holding import HeldClaim
from agentkeeper.client.presence import KeptAgent

RETRY_PAUSE_S = 0.5

T = TypeVar("T")

logger = logging.getLogger("agentkeeper")


class Claims:
    """Claims tasks for one agent until it is told to stop. On the loop only."""

    def __init__(self, core: Core, agent: KeptAgent) -> None:
        self._core = core
        self._agent = agent
        self._stopping = asyncio.Event()
        self._held: set[HeldClaim] = set()

    async def next(self) -> HeldClaim | None:
        """Wait for a task, claim it and keep the claim; None once stopped.

        Rides over refusals that may pass. Raises AgentLost once the agent is dead for good, and
        the refusals that stay.
        """
        while not self._stopping.is_set():
            agent_id = self._agent.agent_id
            try:
                claim = await self._claim(agent_id)
                if claim is not None:
                    return claim
            except errors.Lost:
                raise
            except errors.NotFound:
                # The agent is DEAD. Its heartbeats find that out too, and register it again if
                # that is wanted.
                await self._unless_stopping(self._agent.replaced(agent_id))
            except (errors.Unavailable, errors.OutcomeUnknown, errors.Overloaded) as error:
                logger.warning("no task could be claimed: %s", error)
                await self._unless_stopping(asyncio.sleep(RETRY_PAUSE_S))
        return None

    def done_with(self, claim: HeldClaim) -> None:
        """Forget a claim that was completed, failed or lost."""
        claim.stop_keeping()
        self._held.discard(claim)

    def stop(self) -> None:
        """Claim no more; whoever waits for a task gets None."""
        self._stopping.set()

    async def abandon(self) -> None:
        """Claim no more, and leave what is claimed still to others, after its ttl."""
        self._stopping.set()
        for claim in list(self._held):
            self.done_with(claim)
            claim.tenure.lose("the worker was told to stop and could not wait")

    async def _claim(self, agent_id: str) -> HeldClaim | None:
        """Claim a task and make sure of it; None if stopped, or if it was lost at once."""
        sent_s = self._core.clock()
        agent = self._core.agents.get(agent_id)
        task = await self._unless_stopping(self._core.claim_task(agent_id, math.inf))
        if task is None:
            return None
        claim = HeldClaim(self._core, task, agent_id)
        try:
            await claim.settle(sent_s, agent, task.ttl_seconds)
        except errors.AgentKeeperError as error:
            # It is requeued, if it is not somebody else's already.
            logger.warning("a claim was lost before it began: %s", error)
            return None
        self._held.add(claim)
        claim.keep()
        return claim

    async def _unless_stopping(self, work: Coroutine[Any, Any, T]) -> T | None:
        """What `work` returns; None, and `work` is cancelled, if told to stop before."""
        loop = asyncio.get_running_loop()
        working = loop.create_task(work)
        stopping = loop.create_task(self._stopping.wait())
        try:
            await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
            return working.result() if working.done() else None
        finally:
            working.cancel()
            stopping.cancel()
