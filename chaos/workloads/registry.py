"""Agents come and go, and are looked up by all."""

from __future__ import annotations

from agentkeeper import AsyncAgentHandle
from chaos.clients.site import AGENT_TTLS_S, Site

AGENTS = 2
"""That one actor has at most, at a time."""
FOUND = 100
"""Asked for at most: more than there can be of one tool."""


async def come_and_go(site: Site) -> None:
    """Register agents, look them up, and deregister them."""
    mine: list[AsyncAgentHandle] = []
    known: list[str] = []
    while True:
        await site.pace()
        step = site.rng.random()
        if step < 0.25:
            if len(mine) == AGENTS:
                await _deregister(site, mine.pop(0))
            await site.pace()
            mine += await _register(site)
        elif step < 0.6:
            known = await _find(site, site.shared_name()) or known
        elif known:
            await _look_at(site, site.rng.choice(known))


async def _register(site: Site) -> list[AsyncAgentHandle]:
    name, tool, ttl = site.own_name(), site.shared_name(), site.rng.choice(AGENT_TTLS_S)
    with site.call("register", name, tools=[tool], ttl=ttl) as registered:
        agent = await site.client.register(name, "It comes and goes", "1", tools=[tool], ttl=ttl)
        registered.value = {"agent": agent.agent_id}
        return [agent]
    return []


async def _deregister(site: Site, agent: AsyncAgentHandle) -> None:
    with site.call("deregister", agent.agent_id):
        await agent.deregister()


async def _find(site: Site, tool: str) -> list[str]:
    agents: list[str] = []
    with site.call("find", tool, limit=FOUND) as found:
        agents = [agent.agent_id for agent in await site.client.find(tools=[tool], limit=FOUND)]
        found.value = {"agents": agents}
    return agents


async def _look_at(site: Site, agent: str) -> None:
    """Any agent, of any process: look it up, keep it alive, or end it."""
    step = site.rng.random()
    if step < 0.7:
        with site.call("get", agent) as got:
            info = await site.client.get_agent(agent)
            got.value = {"status": info.status.value, "reason": info.reason}
    elif step < 0.9:
        with site.call("heartbeat", agent):
            await site.client.heartbeat(agent)
    else:
        with site.call("deregister", agent):
            await site.client.deregister(agent)
