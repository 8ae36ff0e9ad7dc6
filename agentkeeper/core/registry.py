"""Agents: registered, kept ALIVE by heartbeats, UNREACHABLE after a missed deadline, then DEAD."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentkeeper.core import elections, leases, limits, refusals, tasks
from agentkeeper.core.deadlines import Kind
from agentkeeper.core.records import (
    DONE,
    Agent,
    AgentStatus,
    NameConflict,
    Refused,
    Registered,
    Result,
)
from agentkeeper.core.state import card_bytes

if TYPE_CHECKING:
    from agentkeeper.core.commands import Deregister, Heartbeat, Register
    from agentkeeper.core.state import State

DEREGISTERED = "deregistered"
TIMED_OUT = "timed_out"
SUPERSEDED = "superseded"


def register(state: State, command: Register) -> Result:
    """Add a new agent, ALIVE for one ttl."""
    if command.agent_id in state.agents:
        return Refused(refusals.ALREADY_EXISTS, "exists", "agent id is taken")
    namesakes = []
    if command.on_name_conflict != NameConflict.COEXIST:
        same_name = [agent_id for agent_id, _ in state.agents_by_name.of(command.card.name)]
        namesakes = [agent for a in same_name if (agent := settled(state, a)) is not None]
    if namesakes and command.on_name_conflict == NameConflict.REJECT:
        message = f"an agent named {command.card.name!r} is registered: {namesakes[0].agent_id}"
        return Refused(refusals.ALREADY_EXISTS, "name_conflict", message)
    replaced = namesakes if command.on_name_conflict == NameConflict.REPLACE else []
    if state.live_agents() - len(replaced) >= limits.AGENTS:
        return refusals.limit("agents", limits.AGENTS)
    size = card_bytes(command.card)
    if state.cards_bytes - state.dead_cards_bytes + size > limits.CARDS_BYTES:
        return refusals.limit("bytes of cards", limits.CARDS_BYTES)
    while state.cards_bytes + size > limits.CARDS_BYTES:
        _forget_oldest(state)
    state.cards_bytes += size
    for namesake in replaced:
        end(state, namesake, SUPERSEDED)
    agent = Agent(
        agent_id=command.agent_id,
        card=command.card,
        ttl_ms=command.ttl_ms,
        status=AgentStatus.ALIVE,
        registered_wall_ms=state.wall_ms,
        heartbeat_wall_ms=state.wall_ms,
        deadline_ms=state.time_ms + command.ttl_ms,
        reason="",
        order=state.next_order(),
    )
    state.agents.put(agent.agent_id, agent)
    state.derive_agent(agent)
    state.emit("agent.registered", agent.agent_id, agent)
    return Registered(agent.agent_id)


def heartbeat(state: State, command: Heartbeat) -> Result:
    """Give an agent another ttl; an UNREACHABLE one is ALIVE again."""
    agent = settled(state, command.agent_id)
    if agent is None:
        return refusals.not_found("agent", command.agent_id)
    recovered = agent.status == AgentStatus.UNREACHABLE
    agent = agent._replace(
        status=AgentStatus.ALIVE,
        heartbeat_wall_ms=state.wall_ms,
        deadline_ms=state.time_ms + agent.ttl_ms,
    )
    state.agents.put(agent.agent_id, agent)
    state.deadlines.set(Kind.AGENT, agent.agent_id, agent.deadline_ms)
    if recovered:
        state.unreachable_agents -= 1
        state.emit("agent.recovered", agent.agent_id, agent)
    return DONE


def deregister(state: State, command: Deregister) -> Result:
    """End an agent by its own wish."""
    agent = settled(state, command.agent_id)
    if agent is None:
        return refusals.not_found("agent", command.agent_id)
    end(state, agent, DEREGISTERED)
    return DONE


def settled(state: State, agent_id: str) -> Agent | None:
    """The agent, if it is not DEAD, with whatever is due of its life done first."""
    agent = state.agents.get(agent_id)
    while (
        agent is not None and agent.status != AgentStatus.DEAD and state.expired(agent.deadline_ms)
    ):
        agent = miss_deadline(state, agent)
    return None if agent is None or agent.status == AgentStatus.DEAD else agent


def doomed(state: State, agent_id: str) -> bool:
    """Whether an agent's death is due, though not yet worked off. Ends nobody, unlike `settled`."""
    agent = state.agents.get(agent_id)
    return agent is None or (
        agent.status == AgentStatus.UNREACHABLE and state.expired(agent.deadline_ms)
    )


def miss_deadline(state: State, agent: Agent) -> Agent:
    """Take the next step of a silent agent: UNREACHABLE for one more ttl, then DEAD."""
    if agent.status == AgentStatus.ALIVE:
        agent = agent._replace(
            status=AgentStatus.UNREACHABLE, deadline_ms=state.time_ms + agent.ttl_ms
        )
        state.agents.put(agent.agent_id, agent)
        state.deadlines.set(Kind.AGENT, agent.agent_id, agent.deadline_ms)
        state.unreachable_agents += 1
        state.emit("agent.unreachable", agent.agent_id, agent)
        return agent
    return end(state, agent, TIMED_OUT)


def end(state: State, agent: Agent, reason: str) -> Agent:
    """Make an agent DEAD: it loses its leases, claims, candidacies and places in line."""
    agent_id = agent.agent_id
    state.unreachable_agents -= agent.status == AgentStatus.UNREACHABLE
    agent = agent._replace(
        status=AgentStatus.DEAD,
        reason=reason,
        deadline_ms=state.time_ms + limits.AGENT_RETENTION_MS,
    )
    state.agents.put(agent_id, agent)
    state.deadlines.clear(Kind.AGENT, agent_id)
    state.deadlines.set(Kind.DEAD_AGENT, agent_id, agent.deadline_ms)
    state.tool_sets.pop(agent_id, None)
    state.agents_by_name.discard(agent.card.name, agent_id)
    state.emit("agent.died", agent_id, agent, reason)
    leases.drop_waiters(state, state.waiters_by_agent.of(agent_id))
    leases.release_all(state, agent_id)
    tasks.requeue_all(state, agent_id, lost=reason == TIMED_OUT)
    elections.leave_all(state, agent_id)
    state.dead_cards_bytes += card_bytes(agent.card)
    if state.deadlines.count(Kind.DEAD_AGENT) > limits.DEAD_AGENTS:
        _forget_oldest(state)
    return agent


def forget(state: State, agent_id: str) -> None:
    """Drop a DEAD agent whose retention is over."""
    agent = state.agents.drop(agent_id)
    if agent is not None:
        size = card_bytes(agent.card)
        state.cards_bytes -= size
        state.dead_cards_bytes -= size
    state.deadlines.clear(Kind.DEAD_AGENT, agent_id)


def _forget_oldest(state: State) -> None:
    """Make room by dropping the agent that has been DEAD longest."""
    oldest = state.deadlines.first(Kind.DEAD_AGENT)
    if oldest is not None:
        forget(state, oldest[1])
