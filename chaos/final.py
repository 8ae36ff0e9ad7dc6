"""What is there in the end, once everything was healed and all clients have ended."""

from __future__ import annotations

import time

from agentkeeper import AgentKeeperClient
from agentkeeper.types import AgentStatus
from chaos.faults import World
from chaos.history import Final

TIMEOUT_S = 60.0


def read_final(world: World) -> Final:
    """Read everything, once all replicas are ready and at one index. Raises NotRecovered."""
    world.await_ready()
    final = _converged(world)
    with AgentKeeperClient(endpoints=world.backend.endpoints, timeout=TIMEOUT_S) as client:
        final.leases = [
            {"key": i.lease.task_id, "holder": i.lease.holder_agent_id, "token": i.lease.token}
            for i in client.list_leases()
        ]
        final.elections = [
            {
                "group": election.state.group,
                "leader": election.state.leader_agent_id,
                "term": election.state.term,
                "candidates": election.candidate_agent_ids,
            }
            for election in client.list_elections()
        ]
        statuses = (AgentStatus.ALIVE, AgentStatus.UNREACHABLE, AgentStatus.DEAD)
        final.agents = [
            {
                "agent": agent.agent_id,
                "name": agent.card.name,
                "status": agent.status.value,
                "reason": agent.reason,
            }
            for agent in client.list_agents(statuses)
        ]
        final.policies = [
            {"id": policy.id, "subject": policy.subject, "effect": policy.effect.value}
            for policy in client.list_policies()
        ]
        final.tasks = [
            {
                "id": task.id,
                "type": task.type,
                "status": task.status.value,
                "token": task.claim_token,
                "retry_count": task.retry_count,
            }
            for task in client.list_tasks()
        ]
        final.last_sequence = client.summary().last_sequence
    final.at_ns = time.monotonic_ns()
    return final


def _converged(world: World) -> Final:
    """The digests of all replicas, at one index: where something may still expire, they move."""
    final = Final({}, 0)

    def at_one_index() -> bool:
        statuses = {n: s for n, s in world.backend.statuses().items() if s is not None}
        if len(statuses) < len(world.backend.replicas):
            return False
        final.digests = {name: status.digest for name, status in statuses.items()}
        indexes = {status.applied_index for status in statuses.values()}
        final.applied_index = max(indexes)
        return len(indexes) == 1

    world.await_(at_one_index, "all replicas at one index")
    return final
