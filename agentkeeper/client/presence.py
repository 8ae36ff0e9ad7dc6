"""An agent of this client: kept alive, its death noticed, registered again where wished."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from agentkeeper import errors
from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.client.core import Core
from agentkeeper.client.tenure import Tenure, safe_s

DEFAULT_TTL_SECONDS = 30  # what the daemon takes when asked for 0
RETRY_PAUSE_S = 1.0
FINAL = frozenset({"superseded", "deregistered"})

logger = logging.getLogger("agentkeeper")


def heartbeat_interval_s(ttl: int) -> int:
    """How often an agent of this ttl (seconds) heartbeats."""
    return max(1, (ttl or DEFAULT_TTL_SECONDS) // 2)


class KeptAgent:
    """A registered agent. `membership` is lost once it is DEAD for good.

    `life` is what can be known without the cluster: it is lost when the agent may be DEAD because
    no heartbeat has been acknowledged for two ttl, and begins anew when it turns out alive.
    """

    def __init__(self, core: Core, request: pb.RegisterRequest, *, reregister: bool) -> None:
        self.agent_id = ""
        self.membership = Tenure(core.clock)
        self.life = Tenure(core.clock)
        self._core = core
        self._request = request
        self._reregister = reregister
        self._ttl_s = float(request.ttl_seconds or DEFAULT_TTL_SECONDS)
        self._interval_s = heartbeat_interval_s(request.ttl_seconds)
        self._beating: asyncio.Task[None] | None = None
        self._deregistered = False
        self._news = asyncio.Event()

    @classmethod
    async def register(
        cls, core: Core, request: pb.RegisterRequest, timeout_s: float, *, reregister: bool
    ) -> KeptAgent:
        """Register an agent and keep it alive from then on. Raises what calls raise."""
        agent = cls(core, request, reregister=reregister)
        await agent._enter(timeout_s)
        agent._beating = core.background.start(agent._beat())
        return agent

    async def deregister(self, timeout_s: float) -> None:
        """End the agent; harmless when repeated.

        Raises NotFound if the cluster has declared it dead before, and what calls raise.
        """
        if self._beating is not None:
            self._beating.cancel()
        if not self._deregistered:
            await self._core.deregister(self.agent_id, timeout_s)
            self._deregistered = True
            self.membership.give_back()
            self._end("deregistered")

    async def replaced(self, former_id: str) -> None:
        """Wait until the agent has another id than `former_id`. Raises AgentLost if it is over."""
        while self.agent_id == former_id:
            if not self.membership.held:
                why = self.membership.reason or "deregistered"
                raise errors.AgentLost(f"agent {former_id} is dead: {why}")
            news = self._news
            await news.wait()

    async def _enter(self, timeout_s: float) -> None:
        sent_s = self._core.clock()
        self._core.agents.pop(self.agent_id, None)
        self.agent_id = await self._core.register(self._request, timeout_s)
        self._core.agents[self.agent_id] = self
        self.life = Tenure(self._core.clock)
        self._heard(sent_s)
        self._tell()

    async def certain_life(self) -> Tenure:
        """The agent's life, made sure of by a heartbeat if it was in doubt."""
        if not self.life.held:
            with contextlib.suppress(errors.AgentKeeperError):
                await self._heartbeat()
        return self.life

    async def _heartbeat(self) -> None:
        agent_id, sent_s = self.agent_id, self._core.clock()
        await self._core.heartbeat(agent_id, self._interval_s)
        if agent_id == self.agent_id:
            self._heard(sent_s)

    def _end(self, why: str) -> None:
        self._core.agents.pop(self.agent_id, None)
        self.life.lose(f"agent {self.agent_id} is dead: {why}")
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def _heard(self, sent_s: float) -> None:
        """A heartbeat sent then was acknowledged."""
        deadline_s = sent_s + safe_s(2 * self._ttl_s)
        if not self.life.extend_to(deadline_s):
            self.life = Tenure(self._core.clock)  # it lives after all
            self.life.extend_to(deadline_s)

    async def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        due_s = loop.time() + self._interval_s
        while True:
            await asyncio.sleep(due_s - loop.time())
            due_s = max(due_s, loop.time()) + self._interval_s
            try:
                await self._heartbeat()
            except errors.NotFound:
                if not await self._died():
                    return
                due_s = loop.time() + self._interval_s
            except errors.AgentKeeperError as error:
                # The agent lives on if a later one arrives in time.
                logger.warning("heartbeat of agent %s failed: %s", self.agent_id, error)
            except Exception:
                # Whatever it is, the agent must not die of it.
                logger.exception("heartbeat of agent %s failed", self.agent_id)

    async def _died(self) -> bool:
        """The agent is DEAD: register it again if that is wanted; False if it is not."""
        why = await self._why_dead()
        self.life.lose(f"agent {self.agent_id} is dead: {why}")
        logger.warning("agent %s is dead to the cluster: %s", self.agent_id, why)
        while self._reregister and why not in FINAL:
            try:
                await self._enter(self._ttl_s)
            except errors.Refused as error:
                why = f"{why}; could not be registered again: {error}"
                logger.error("agent %s %s", self.agent_id, why)
                break
            except errors.AgentKeeperError as error:
                logger.warning("agent %s is not registered again yet: %s", self.agent_id, error)
                await asyncio.sleep(RETRY_PAUSE_S)
            else:
                return True
        self.membership.lose(why)
        self._end(why)
        return False

    async def _why_dead(self) -> str:
        try:
            return (await self._core.get_agent(self.agent_id, self._interval_s)).reason or "dead"
        except errors.AgentKeeperError:
            return "dead"  # forgotten by now, or nobody can say
