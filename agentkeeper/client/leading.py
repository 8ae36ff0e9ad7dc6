"""Leading a group: campaign, wait for one's turn, know when it is over."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncGenerator

import grpc

from agentkeeper import errors
from agentkeeper.client.core import Core
from agentkeeper.client.presence import KeptAgent
from agentkeeper.client.tenure import Tenure
from agentkeeper.client.watch import EventFeed
from agentkeeper.types import ElectionState, WatchEvent, WatchGap

RETRY_PAUSE_S = 0.5

Items = AsyncGenerator[WatchEvent | WatchGap, None]


class HeldLeadership:
    """The leadership of one agent in one group and term.

    It is lost when the cluster names another leader or term, and when the agent may be DEAD: a
    leader keeps its group only as long as its agent lives.
    """

    def __init__(self, core: Core, life: Tenure, state: ElectionState) -> None:
        self.group = state.group
        self.agent_id = state.leader_agent_id
        self.term = state.term
        self.tenure = Tenure(core.clock)
        self._core = core
        self._following: asyncio.Task[None] | None = None
        self.tenure.depend_on(life)

    def follow(self, feed: EventFeed, items: Items) -> None:
        """Hear of the group's changes from now on."""
        self._following = self._core.background.start(self._follow(feed, items))

    def undo(self) -> None:
        """Resign without waiting, as nobody has use for it. On the loop only."""
        self._core.background.start(self._withdraw())

    async def _withdraw(self) -> None:
        with contextlib.suppress(errors.AgentKeeperError):  # the candidacy ends with the agent
            await self.resign(math.inf)

    async def resign(self, timeout_s: float) -> None:
        """Leave the group's candidates; harmless when the leadership is over. Raises as calls do.

        Not refused when it was lost: the agent may be a candidate still.
        """
        if self._following is not None:
            self._following.cancel()
        self.tenure.give_back()
        with contextlib.suppress(errors.NotFound):  # a dead agent is no candidate
            await self._core.resign(self.group, self.agent_id, timeout_s)

    async def _follow(self, feed: EventFeed, items: Items) -> None:
        try:
            async for state in _states(items):
                if state.term < self.term:
                    continue  # from before the election: what a watch tells first
                if (state.leader_agent_id, state.term) != (self.agent_id, self.term):
                    now = state.leader_agent_id or "nobody"
                    self.tenure.lose(f"{now} leads now, in term {state.term}")
                    return
        except errors.AgentKeeperError as error:
            self.tenure.lose(f"the group can't be watched: {error}")
        finally:
            feed.cancel()
            self.tenure.lose("the group is watched no more")


async def lead(core: Core, group: str, agent: KeptAgent, timeout_s: float) -> HeldLeadership:
    """Campaign until the agent leads.

    Raises AgentLost if it dies for good before, Unavailable (code DEADLINE_EXCEEDED) when the time
    is over, and what calls raise; the candidacy is then withdrawn.
    """
    try:
        async with asyncio.timeout(None if math.isinf(timeout_s) else timeout_s):
            while True:
                agent_id = agent.agent_id
                try:
                    held = await _elected(core, group, agent, timeout_s)
                except errors.AgentLost:
                    raise
                except errors.NotFound:
                    held = None  # the agent is DEAD, which its heartbeats find out too
                if held is not None:
                    return held
                await agent.replaced(agent_id)
    except TimeoutError:
        raise errors.Unavailable(
            f"lead: not elected in group {group!r} in time", grpc.StatusCode.DEADLINE_EXCEEDED
        ) from None


async def _elected(
    core: Core, group: str, agent: KeptAgent, timeout_s: float
) -> HeldLeadership | None:
    """Campaign with the agent's present id; None if the agent got another one meanwhile."""
    agent_id = agent.agent_id
    withdrawal = core.withdrawals.pop((group, agent_id), None)
    if withdrawal is not None:  # of an earlier campaign: it must not end this one
        await asyncio.wait((withdrawal,))
    # Watched before asked for, so that no change between the two is missed.
    feed = await core.watch_election(group, None, timeout_s, gap_is_error=False)
    items = feed.items()
    loop = asyncio.get_running_loop()
    won = loop.create_task(_won(core, group, agent_id, items, timeout_s))
    replaced = loop.create_task(agent.replaced(agent_id))
    held = None
    try:
        await asyncio.wait((won, replaced), return_when=asyncio.FIRST_COMPLETED)
        if won.done():
            state = won.result()
            life = await _certain_life(agent, agent_id)
            if life.held:
                held = HeldLeadership(core, life, state)
                held.follow(feed, items)
        else:
            replaced.result()
        return held
    finally:
        won.cancel()
        replaced.cancel()
        if held is None:
            feed.cancel()
            core.withdrawals[group, agent_id] = core.background.start(
                _withdraw(core, group, agent_id)
            )


async def _certain_life(agent: KeptAgent, agent_id: str) -> Tenure:
    """The agent's life, waited for while nobody can say; lost if it has another id by now."""
    while True:
        life = await agent.certain_life(agent_id)
        if life.held or agent.agent_id != agent_id or not agent.membership.held:
            return life
        await asyncio.sleep(RETRY_PAUSE_S)


async def _won(
    core: Core, group: str, agent_id: str, items: Items, timeout_s: float
) -> ElectionState:
    state = await core.campaign(group, agent_id, timeout_s)
    if state.leader_agent_id == agent_id:
        return state
    term = state.term
    async for state in _states(items):
        if state.term >= term and state.leader_agent_id == agent_id:
            return state
    raise errors.Unavailable(f"lead: the watch of group {group!r} has ended")


async def _withdraw(core: Core, group: str, agent_id: str) -> None:
    with contextlib.suppress(errors.AgentKeeperError):  # the candidacy ends with the agent
        await core.resign(group, agent_id, math.inf)


async def _states(items: Items) -> AsyncGenerator[ElectionState, None]:
    async for item in items:
        if isinstance(item, WatchEvent) and isinstance(item.payload, ElectionState):
            yield item.payload
