"""Agents campaign in few groups, look who leads, and resign."""

from __future__ import annotations

from agentkeeper import errors
from chaos.clients.site import Site

STEPS = 5
"""How often a candidate looks before it resigns, at most."""


async def elect(site: Site) -> None:
    """Be a candidate of one group after another."""
    while True:
        await site.pace()
        agent = (await site.agent()).agent_id
        group = site.shared_name()
        if site.rng.random() < 0.1:
            await _get(site, group)
            continue
        if not await _campaign(site, group, agent):
            continue
        for _ in range(site.rng.randrange(STEPS)):
            await site.pace()
            if site.rng.random() < 0.2:
                await _campaign(site, group, agent)
            else:
                await _get(site, group)
        await site.pace()
        with site.call("resign", group, agent=agent):
            await site.client.resign(group, agent)


async def _campaign(site: Site, group: str, agent: str) -> bool:
    with site.call("campaign", group, agent=agent) as campaigned:
        state = await site.client.campaign(group, agent)
        campaigned.value = {"leader": state.leader_agent_id, "term": state.term}
    if isinstance(campaigned.error, errors.NotFound):
        site.forget_agent()
    return campaigned.ok


async def _get(site: Site, group: str) -> None:
    with site.call("get", group) as got:
        election = await site.client.get_election(group)
        got.value = {
            "leader": election.state.leader_agent_id,
            "term": election.state.term,
            "candidates": election.candidate_agent_ids,
        }
