"""An agent of this client: kept alive, its death noticed, registered again where wished."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import zlib

from agentkeeper import errors
from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.client.core import Core
from agentkeeper.client.tenure import Tenure, safe_s

DEFAULT_TTL_SECONDS = 30  # what the daemon takes when asked for 0
RETRY_PAUSE_S = 1.0
FINAL = frozenset({"superseded", "deregistered"})

logger = logging.getLogger("agentkeeper")


def heartbeat_interval_s(ttl: int) -> float:
    """How often an agent of this ttl (seconds) heartbeats."""
    return max(1, (ttl or DEFAULT_TTL_SECONDS) // 2) if ttl != 1 else 0.5


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
        agent._start_beating()
        return agent

    async def deregister(self, timeout_s: float) -> None:
        """End the agent; harmless when repeated.

        From now on nothing that it holds is counted on. Raises NotFound if the cluster has declared
        it dead before, and what calls raise: it then lives on until it is asked again.
        """
        if self._deregistered:
            return
        self._stop_beating()
        self.life.lose("the agent is being deregistered")
        try:
            await self._core.deregister(self.agent_id, timeout_s)
        except errors.NotFound:
            self._end("declared dead before it deregistered")
            raise
        except BaseException:
            self._start_beating()
            raise
        self._deregistered = True
        self.membership.give_back()
        self._end("deregistered")

    def undo(self) -> None:
        """End the agent without waiting, as nobody has use for it. On the loop only."""
        self._stop_beating()
        self._core.background.start(self._leave())

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

    async def certain_life(self, agent_id: str) -> Tenure:
        """The life of the agent under that id, made sure of by a heartbeat if it was in doubt."""
        if not self.life.held and not self._deregistered:
            with contextlib.suppress(errors.AgentKeeperError):
                await self._heartbeat()
        if self.agent_id == agent_id:
            return self.life
        over = Tenure(self._core.clock)
        over.lose(f"agent {agent_id} is dead")
        return over

    async def _heartbeat(self) -> None:
        agent_id, sent_s = self.agent_id, self._core.clock()
        await self._core.heartbeat(agent_id, self._interval_s)
        if agent_id == self.agent_id:
            self._heard(sent_s)

    async def _leave(self) -> None:
        with contextlib.suppress(errors.AgentKeeperError):  # it ends without its heartbeats too
            await self.deregister(self._ttl_s)

    def _start_beating(self) -> None:
        self._beating = self._core.background.start(self._beat())

    def _stop_beating(self) -> None:
        if self._beating is not None:
            self._beating.cancel()

    def _end(self, why: str) -> None:
        self.membership.lose(why)
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
        due_s = loop.time() + self._first_s()
        while True:
            await asyncio.sleep(due_s - loop.time())
            due_s = max(due_s, loop.time()) + self._interval_s
            try:
                await self._heartbeat()
            except errors.NotFound:
                if not await self._died():
                    return
                due_s = loop.time() + self._first_s()
            except errors.AgentKeeperError as error:
                # The agent lives on if a later one arrives in time.
                logger.warning("heartbeat of agent %s failed: %s", self.agent_id, error)
                if isinstance(error, errors.Overloaded):
                    due_s = loop.time() + min(RETRY_PAUSE_S, self._interval_s)
            except Exception:
                # Whatever it is, the agent must not die of it.
                logger.exception("heartbeat of agent %s failed", self.agent_id)

    def _first_s(self) -> float:
        """When to begin, so that agents registered together don't all beat together."""
        share = zlib.crc32(self.agent_id.encode()) / 2**32
        return self._interval_s * (1.0 + share) / 2

    async def _died(self) -> bool:
        """The agent is DEAD: register it again if that is wanted; False if it is not."""
        self.life.lose(f"agent {self.agent_id} is dead")
        why = await self._why_dead()
        logger.warning("agent %s is dead to the cluster: %s", self.agent_id, why)
        while self._reregister and why not in FINAL:
            try:
                # For as long as it takes: given up and begun anew, it might meet its own ghost.
                await self._enter(math.inf)
            except (errors.Overloaded, errors.OutcomeUnknown, errors.Unavailable) as error:
                logger.warning("agent %s is not registered again yet: %s", self.agent_id, error)
                await asyncio.sleep(RETRY_PAUSE_S)
            except errors.AgentKeeperError as error:
                why = f"{why}; could not be registered again: {error}"
                logger.error("agent %s %s", self.agent_id, why)
                break
            else:
                return True
        self._end(why)
        return False

    async def _why_dead(self) -> str:
        while True:
            try:
                return (await self._core.get_agent(self.agent_id, math.inf)).reason or "dead"
            except errors.Refused:
                return "dead"  # forgotten by now
            except errors.AgentKeeperError:
                # Without knowing, a superseded agent might be registered again.
                await asyncio.sleep(RETRY_PAUSE_S)
