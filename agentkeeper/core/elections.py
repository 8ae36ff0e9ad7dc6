"""Elections: in each group the candidate that has waited longest leads, under a rising term."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentkeeper.core import limits, refusals, registry
from agentkeeper.core.deadlines import Kind
from agentkeeper.core.records import DONE, Election, Result

if TYPE_CHECKING:
    from agentkeeper.core.commands import Campaign, Resign
    from agentkeeper.core.state import State


def campaign(state: State, command: Campaign) -> Result:
    """Join the candidates, if not among them yet, and tell who leads."""
    if registry.settled(state, command.agent_id) is None:
        return refusals.not_found("agent", command.agent_id)
    election = _settled(state, command.group)
    if election is not None and command.agent_id in election.candidates:
        return _brief(election)
    if state.groups_by_agent.count(command.agent_id) >= limits.GROUPS_EACH:
        return refusals.limit("groups of this agent", limits.GROUPS_EACH)
    if election is None:
        if len(state.elections) >= limits.GROUPS:
            empty = state.deadlines.first(Kind.EMPTY_GROUP)
            if empty is not None:
                forget(state, empty[1])
        if len(state.elections) >= limits.GROUPS:
            return refusals.limit("election groups", limits.GROUPS)
        election = Election(command.group, state.term_floor, 0, 0, (), 0)
    if len(election.candidates) >= limits.CANDIDATES_EACH:
        return refusals.limit("candidates in this group", limits.CANDIDATES_EACH)
    joined = election._replace(candidates=(*election.candidates, command.agent_id), deadline_ms=0)
    state.groups_by_agent.add(command.agent_id, command.group)
    state.deadlines.clear(Kind.EMPTY_GROUP, command.group)
    if election.candidates:
        state.elections.put(joined.group, joined)
        return _brief(joined)
    return _brief(_change_leader(state, joined))


def resign(state: State, command: Resign) -> Result:
    """Leave the candidates; nothing happens if the agent is not among them."""
    if registry.settled(state, command.agent_id) is None:
        return refusals.not_found("agent", command.agent_id)
    _leave(state, command.group, command.agent_id)
    return DONE


def leave_all(state: State, agent_id: str) -> None:
    """Take an agent that has died out of all its groups."""
    for group, _ in state.groups_by_agent.of(agent_id):
        _leave(state, group, agent_id)


def forget(state: State, group: str) -> None:
    """Drop a group that has been empty for long; no later group starts below its term."""
    election = state.elections.drop(group)
    state.deadlines.clear(Kind.EMPTY_GROUP, group)
    if election is not None:
        state.term_floor = max(state.term_floor, election.term)


def _settled(state: State, group: str) -> Election | None:
    """The election as it stands now, with a leader whose death was due replaced first."""
    election = state.elections.get(group)
    while election is not None and election.candidates:
        if registry.settled(state, election.leader) is not None:
            break
        election = state.elections.get(group)
    return election


def _leave(state: State, group: str, agent_id: str) -> None:
    election = state.elections.get(group)
    if election is None or agent_id not in election.candidates:
        return
    state.groups_by_agent.discard(agent_id, group)
    led = election.leader == agent_id
    remaining = tuple(c for c in election.candidates if c != agent_id)
    # One that is about to die is passed over, not ended here: see `leases`.
    while led and remaining and registry.doomed(state, remaining[0]):
        state.groups_by_agent.discard(remaining[0], group)
        remaining = remaining[1:]
    election = election._replace(candidates=remaining)
    if not led:
        state.elections.put(group, election)
        return
    if not remaining:
        deadline_ms = state.time_ms + limits.GROUP_RETENTION_MS
        election = election._replace(deadline_ms=deadline_ms)
        state.deadlines.set(Kind.EMPTY_GROUP, group, deadline_ms)
    _change_leader(state, election)


def _change_leader(state: State, election: Election) -> Election:
    """Store the election with its new leader, or none, and tell. A leader opens a new term."""
    if election.candidates:
        election = election._replace(term=election.term + 1)
    election = election._replace(
        elected_wall_ms=state.wall_ms, changed_sequence=state.last_sequence + 1
    )
    state.elections.put(election.group, election)
    state.emit("leader.changed", election.group, _brief(election))
    return election


def _brief(election: Election) -> Election:
    """The election without the candidates behind its leader, as answers and events carry it."""
    return election._replace(candidates=election.candidates[:1])
