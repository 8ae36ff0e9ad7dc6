"""Naive rules of the registry and of elections."""

from naive_base import find, full, missing, refuse, swap

from agentkeeper.core import limits
from agentkeeper.core.codec import pack
from agentkeeper.core.records import DONE, Agent, AgentStatus, Election, NameConflict, Registered

ALIVE, UNREACHABLE, DEAD = AgentStatus


class AgentRules:
    """ALIVE, UNREACHABLE after a missed deadline, DEAD after one more ttl; DEAD is final."""

    def living(self, agent_id):
        """The agent unless it is DEAD, after it has missed every deadline that is due."""
        while True:
            agent = find(self.agents, agent_id=agent_id)
            if agent is None or agent.status == DEAD:
                return None
            if not self.is_due(agent.deadline_ms):
                return agent
            self.miss(agent)

    def death_is_due(self, agent_id):
        agent = find(self.agents, agent_id=agent_id)
        return agent.status == UNREACHABLE and self.is_due(agent.deadline_ms)

    def miss(self, agent):
        if agent.status == UNREACHABLE:
            self.die(agent, "timed_out")
            return
        deadline = self.time + agent.ttl_ms
        silent = swap(self.agents, agent, agent._replace(status=UNREACHABLE, deadline_ms=deadline))
        self.emit("agent.unreachable", agent.agent_id, silent)

    def die(self, agent, reason):
        agent_id = agent.agent_id
        deadline = self.time + limits.AGENT_RETENTION_MS
        dead = agent._replace(status=DEAD, reason=reason, deadline_ms=deadline)
        swap(self.agents, agent, dead)
        self.emit("agent.died", agent_id, dead, reason)
        self.waiters = [w for w in self.waiters if w.agent_id != agent_id]
        for lease in sorted(x for x in self.leases if x.holder == agent_id):
            self.free(lease, "lease.released", "holder_died")
        claimed = (x for x in self.tasks if x.claimed_by == agent_id and self.is_claimed(x))
        for task in sorted(claimed):
            if reason == "timed_out":
                self.claim_lapses(task, "claimant_died")
            else:
                self.back_in_queue(task, "claimant_left")
        for group in sorted(g.group for g in self.groups if agent_id in g.candidates):
            self.leave(group, agent_id)
        remembered = [a for a in self.agents if a.status == DEAD]
        if len(remembered) > limits.DEAD_AGENTS:
            self.agents.remove(min(remembered, key=lambda a: (a.deadline_ms, a.agent_id)))

    def register(self, cmd):
        if find(self.agents, agent_id=cmd.agent_id):
            return refuse("ALREADY_EXISTS", "exists")
        same = sorted(
            a.agent_id
            for a in self.agents
            if a.status != DEAD and a.card.name == cmd.card.name and cmd.on_name_conflict
        )
        same = [agent_id for agent_id in same if self.living(agent_id)]
        if same and cmd.on_name_conflict == NameConflict.REJECT:
            return refuse("ALREADY_EXISTS", "name_conflict")
        if cmd.on_name_conflict != NameConflict.REPLACE:
            same = []
        living = [a for a in self.agents if a.status != DEAD]
        if len(living) - len(same) >= limits.AGENTS:
            return full()
        new = len(pack(cmd.card))
        if sum(len(pack(a.card)) for a in living) + new > limits.CARDS_BYTES:
            return full()
        while sum(len(pack(a.card)) for a in self.agents) + new > limits.CARDS_BYTES:
            dead = [a for a in self.agents if a.status == DEAD]
            self.agents.remove(min(dead, key=lambda a: (a.deadline_ms, a.agent_id)))
        for agent_id in same:
            self.die(find(self.agents, agent_id=agent_id), "superseded")
        deadline = self.time + cmd.ttl_ms
        agent = Agent(
            cmd.agent_id, cmd.card, cmd.ttl_ms, ALIVE, self.wall, self.wall, deadline, "",
            self.order(),
        )  # fmt: skip
        self.agents.append(agent)
        self.emit("agent.registered", agent.agent_id, agent)
        return Registered(agent.agent_id)

    def heartbeat(self, cmd):
        agent = self.living(cmd.agent_id)
        if agent is None:
            return missing()
        fresh = agent._replace(
            status=ALIVE, heartbeat_wall_ms=self.wall, deadline_ms=self.time + agent.ttl_ms
        )
        swap(self.agents, agent, fresh)
        if agent.status == UNREACHABLE:
            self.emit("agent.recovered", agent.agent_id, fresh)
        return DONE

    def deregister(self, cmd):
        agent = self.living(cmd.agent_id)
        if agent is None:
            return missing()
        self.die(agent, "deregistered")
        return DONE


def brief(election):
    return election._replace(candidates=election.candidates[:1])


class ElectionRules:
    """The candidate that has waited longest leads; every new leader opens a new term."""

    def campaign(self, cmd):
        if self.living(cmd.agent_id) is None:
            return missing()
        old = find(self.groups, group=cmd.group)
        while old and old.candidates and self.living(old.candidates[0]) is None:
            old = find(self.groups, group=cmd.group)
        if old and cmd.agent_id in old.candidates:
            return brief(old)
        if sum(cmd.agent_id in g.candidates for g in self.groups) >= limits.GROUPS_EACH:
            return full()
        if old is None:
            empty = [g for g in self.groups if not g.candidates]
            if len(self.groups) >= limits.GROUPS and empty:
                self.forget_group(min(empty, key=lambda g: (g.deadline_ms, g.group)))
            if len(self.groups) >= limits.GROUPS:
                return full()
            old = Election(cmd.group, self.term_floor, 0, 0, (), 0)
            self.groups.append(old)
        if len(old.candidates) >= limits.CANDIDATES_EACH:
            return full()
        joined = old._replace(candidates=(*old.candidates, cmd.agent_id), deadline_ms=0)
        swap(self.groups, old, joined)
        return brief(joined if old.candidates else self.new_leader(joined))

    def resign(self, cmd):
        if self.living(cmd.agent_id) is None:
            return missing()
        self.leave(cmd.group, cmd.agent_id)
        return DONE

    def leave(self, group, agent_id):
        old = find(self.groups, group=group)
        if old is None or agent_id not in old.candidates:
            return
        rest = [c for c in old.candidates if c != agent_id]
        if old.candidates[0] != agent_id:
            swap(self.groups, old, old._replace(candidates=tuple(rest)))
            return
        while rest and self.death_is_due(rest[0]):
            rest.pop(0)
        deadline = 0 if rest else self.time + limits.GROUP_RETENTION_MS
        changed = old._replace(candidates=tuple(rest), deadline_ms=deadline)
        self.new_leader(swap(self.groups, old, changed))

    def new_leader(self, election):
        changed = election._replace(
            term=election.term + (1 if election.candidates else 0),
            elected_wall_ms=self.wall,
            changed_sequence=len(self.history) + 1,
        )
        swap(self.groups, election, changed)
        self.emit("leader.changed", changed.group, brief(changed))
        return changed

    def forget_group(self, election):
        self.groups.remove(election)
        self.term_floor = max(self.term_floor, election.term)
