"""A cluster in a few lines, which answers one call at a time, and histories of its calls.

Each call takes effect at a moment; what the client saw begins before that and ends after it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from chaos.history import History, Operation
from tests.chaos.histories import NEVER, Script

AGENTS = ("a", "b", "c", "d")


@dataclass
class Lease:
    holder: str
    token: int
    end_s: float


@dataclass
class Task:
    status: str = "PENDING"
    agent: str = ""
    token: int = 0
    end_s: float = 0.0
    retries: int = 0
    expired: int = 0


@dataclass
class Cluster:
    """Leases, an election and tasks. Nobody dies."""

    token: int = 0
    leases: dict[str, Lease] = field(default_factory=dict)
    candidates: list[str] = field(default_factory=list)
    term: int = 0
    tasks: dict[str, Task] = field(default_factory=dict)

    def next_token(self) -> int:
        self.token += 1
        return self.token

    def lease(self, key: str, now_s: float) -> Lease | None:
        lease = self.leases.get(key)
        if lease is not None and now_s >= lease.end_s:
            del self.leases[key]
            return None
        return lease

    def task(self, task_id: str, now_s: float) -> Task:
        task = self.tasks[task_id]
        if task.status == "CLAIMED" and now_s >= task.end_s:
            task.status, task.agent, task.token = "PENDING", "", 0
            task.expired += 1
        return task


class Player:
    """Makes calls at random, one every 0.1 s or so, and records them widened."""

    def __init__(self, seed: int, workload: str, *, unsure: float = 0.05) -> None:
        self.rng = random.Random(seed)
        self.unsure = unsure
        """The share of writes that are not answered."""
        self.script = Script(workload)
        self.cluster = Cluster()
        self.now_s = 10.0
        self.known: dict[str, tuple[str, int]] = {}
        """By agent, what it was last given: a key and a token."""
        self.joins: list[Operation] = []
        """Answered campaigns that made a candidate."""
        self.last_end_s: dict[str, float] = dict.fromkeys(AGENTS, 1.0)

    def play(self, calls: int) -> History:
        act = {"leases": self._lease, "elections": self._election, "tasks": self._task}
        for agent in AGENTS:
            self.script.register(agent)
        for _ in range(calls):
            self.now_s += self.rng.uniform(0.01, 0.2)
            # An actor does one call at a time: the next one begins where the last one ended.
            free = [agent for agent in AGENTS if self.last_end_s[agent] < self.now_s]
            if free:
                act[self.script.workload](self.rng.choice(free))
        self.script.alive(self.now_s + 100, *AGENTS)
        return self.script.history

    def _record(self, actor: str, call: str, key: str, value: Any = None, **more: Any) -> Operation:
        start_s = max(self.last_end_s[actor], self.now_s - self.rng.uniform(0, 0.4)) + 1e-6
        end_s = self.now_s + self.rng.uniform(0, 0.4)
        self.last_end_s[actor] = end_s
        if more.pop("unsure", False):
            end_s, value = NEVER, None
            more.pop("error", None)
        return self.script.call(start_s, end_s, call, key, value, client=actor, **more)

    def _lease(self, agent: str) -> None:
        cluster, now_s = self.cluster, self.now_s
        key = f"k{self.rng.randrange(2)}"
        lease = cluster.lease(key, now_s)
        call = self.rng.choice(["acquire", "renew", "release", "get", "verify"])
        if call == "acquire":
            ttl, value = self.rng.choice((1, 2, 3)), None
            if lease is None or lease.holder == agent:
                lease = Lease(agent, cluster.next_token(), now_s + ttl)
                cluster.leases[key], value = lease, {"token": lease.token}
                self.known[agent] = (key, lease.token)
            self._record(agent, call, key, value, agent=agent, ttl=ttl)
            return
        if call == "get":
            value = lease and {"holder": lease.holder, "token": lease.token}
            self._record(agent, call, key, value, error="" if lease else "NotFound")
            return
        if agent not in self.known:
            return
        key, token = self.known[agent]
        lease = cluster.lease(key, now_s)
        mine = lease is not None and (lease.holder, lease.token) == (agent, token)
        if call == "verify":
            self._record(agent, call, key, {"valid": mine}, token=token)
            return
        args: dict[str, Any] = {"agent": agent, "token": token}
        error = "" if mine else "StaleToken" if lease else "NotFound"
        unsure = self.rng.random() < self.unsure
        if call == "release":
            if mine:
                del cluster.leases[key]
            self._record(agent, call, key, error=error, unsure=unsure, **args)
        else:
            ttl = self.rng.choice((1, 2, 3))
            if mine and lease:
                lease.end_s = now_s + ttl
            value = {"token": token}
            self._record(agent, call, key, value, error=error, unsure=unsure, ttl=ttl, **args)

    def _election(self, agent: str) -> None:
        cluster, candidates = self.cluster, self.cluster.candidates
        call = self.rng.choice(["campaign", "resign", "get"])
        unsure = self.rng.random() < self.unsure
        if call == "campaign":
            joins = agent not in candidates
            if joins:
                cluster.term += not candidates
                candidates.append(agent)
            value = {"leader": candidates[0], "term": cluster.term}
            campaign = self._record(agent, call, "g", value, agent=agent, unsure=unsure)
            if joins and not unsure:
                self.joins.append(campaign)
        elif call == "resign":
            if agent in candidates:
                led = candidates[0] == agent
                candidates.remove(agent)
                cluster.term += led and bool(candidates)
            self._record(agent, call, "g", agent=agent, unsure=unsure)
        elif cluster.term:
            leader = candidates[0] if candidates else ""
            value = {"leader": leader, "term": cluster.term, "candidates": list(candidates)}
            self._record(agent, call, "g", value)
        else:
            self._record(agent, call, "g", error="NotFound")

    def _task(self, agent: str) -> None:
        cluster, now_s = self.cluster, self.now_s
        if not cluster.tasks or self.rng.random() < 0.1:
            task_id = f"t{len(cluster.tasks)}"
            cluster.tasks[task_id] = Task()
            args = {"max_retries": 1, "ttl": 2, "idempotency_key": ""}
            self._record(agent, "create", f"of-{task_id}", {"id": task_id}, **args)
            return
        call = self.rng.choice(["claim", "get", "complete", "complete", "fail", "extend"])
        if call == "get":
            task_id = self.rng.choice(list(cluster.tasks))
            task = cluster.task(task_id, now_s)
            value = {"status": task.status, "token": task.token, "retry_count": task.retries}
            self._record(agent, call, task_id, value)
        elif call == "claim":
            for task_id in cluster.tasks:
                task = cluster.task(task_id, now_s)
                if task.status == "PENDING":
                    self._claim(agent, task_id, task)
                    return
        elif agent in self.known:
            self._work(agent, call)

    def _claim(self, agent: str, task_id: str, task: Task) -> None:
        task.status, task.agent, task.token = "CLAIMED", agent, self.cluster.next_token()
        task.end_s = self.now_s + 2
        self.known[agent] = (task_id, task.token)
        value = {"id": task_id, "type": f"of-{task_id}", "token": task.token}
        value |= {"retry_count": task.retries, "expired_claims": task.expired}
        self._record(agent, "claim", "", value, agent=agent)

    def _work(self, agent: str, call: str) -> None:
        task_id, token = self.known[agent]
        task = self.cluster.task(task_id, self.now_s)
        named = (task.agent, task.token) == (agent, token)
        mine = named and task.status == "CLAIMED"
        error = "" if mine else "Refused" if named else "StaleToken"
        args: dict[str, Any] = {"agent": agent, "token": token}
        unsure = self.rng.random() < self.unsure
        if call == "extend":
            args["ttl"] = 2
            if mine:
                task.end_s = self.now_s + 2
        elif mine and call == "complete":
            task.status = "COMPLETED"
        elif mine and task.retries == 1:
            task.status = "DEAD"
        elif mine:
            task.status, task.agent, task.token = "PENDING", "", 0
            task.retries += 1
        self._record(agent, call, task_id, error=error, unsure=unsure, **args)
