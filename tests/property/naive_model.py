"""The naive model: sessions, due work, and the entrance."""

from typing import NamedTuple

from naive_agents import DEAD as DEAD_AGENT
from naive_agents import AgentRules, ElectionRules
from naive_base import Base, find, full, missing, refuse, swap
from naive_leases import LeaseRules
from naive_tasks import TaskRules

from agentkeeper.core import commands as c
from agentkeeper.core import limits
from agentkeeper.core.records import DONE, Acquired, Replica, Session, Task, TaskStatus, Waiting

ANYTHING = None


class Remembered(NamedTuple):
    """What a session knows of a request: what was asked, by which attempt last, the answer."""

    session_id: str
    number: int
    result: object
    body: object
    attempt: int


def asked(body):
    """A request, its kind included, without the id that each attempt draws anew."""
    if isinstance(body, c.Register):
        body = body._replace(agent_id="")
    elif isinstance(body, c.CreateTask):
        body = body._replace(task_id="")
    return type(body), body


class SessionRules:
    """A request takes effect once; its answer is kept until the client has seen it."""

    def living_session(self, session_id):
        session = find(self.sessions, session_id=session_id)
        if session and self.is_due(session.deadline_ms):
            self.end_session(session)
            return None
        return session

    def end_session(self, session):
        self.sessions.remove(session)
        session_id = session.session_id
        self.waiters = [w for w in self.waiters if w.session_id != session_id]
        for number in range(session.seen + 1, session.seen + session.window + 1):
            self.withdraw_wait(session_id, number)
        self.answers = [a for a in self.answers if a.session_id != session_id]

    def open_session(self, cmd, identity):
        known = self.living_session(cmd.session_id)
        if known:
            return known if known.identity == identity else refuse("PERMISSION_DENIED", "identity")
        if len(self.sessions) >= limits.SESSIONS and not identity.startswith("replica:"):
            return full()
        deadline = self.time + cmd.ttl_ms
        session = Session(cmd.session_id, identity, cmd.ttl_ms, cmd.window, 0, deadline)
        self.sessions.append(session)
        return session

    def close_session(self, cmd, identity):
        session = self.living_session(cmd.session_id)
        if session is None:
            return missing()
        if session.identity != identity:
            return refuse("PERMISSION_DENIED", "identity")
        self.end_session(session)
        return DONE

    def store(self, *remembered):
        new = Remembered(*remembered)
        self.answers = [a for a in self.answers if a[:2] != new[:2]]
        self.answers.append(new)

    def run(self, command):
        body, session_id, number = command.body, command.session_id, command.number
        if isinstance(body, c.OpenSession):
            return self.open_session(body, command.identity)
        if not session_id:
            return self.handle(command)
        session = self.living_session(session_id)
        if session is None:
            return refuse("FAILED_PRECONDITION", "session_expired")
        shared = session.identity.startswith("replica:")
        if session.identity != command.identity and not shared:
            return refuse("PERMISSION_DENIED", "identity")
        seen = command.seen if session.seen < command.seen < number else session.seen
        for gone in range(session.seen + 1, min(seen, session.seen + session.window) + 1):
            self.withdraw_wait(session_id, gone)
        self.answers = [a for a in self.answers if a.session_id != session_id or a.number > seen]
        deadline = max(session.deadline_ms, self.time + session.ttl_ms)
        swap(self.sessions, session, session._replace(seen=seen, deadline_ms=deadline))
        if number <= seen:
            return refuse("ABORTED", "outcome_unknown")
        if number > seen + session.window:
            return full()
        known = find(self.answers, session_id=session_id, number=number)
        if known and known.body not in (ANYTHING, asked(body)):
            return refuse("FAILED_PRECONDITION", "number_reused")
        if known and (shared or not isinstance(known.result, Waiting)):
            if known.attempt != command.attempt:
                swap(self.answers, known, known._replace(attempt=0))
            return known.result
        result = self.handle(command)
        if find(self.sessions, session_id=session_id):
            self.store(session_id, number, result, asked(body), command.attempt)
        return result

    def withdraw(self, cmd):
        session = self.living_session(cmd.session_id)
        if not cmd.attempt or session is None:
            return DONE
        if not 0 < cmd.number - session.seen <= session.window:
            return DONE
        known = find(self.answers, session_id=cmd.session_id, number=cmd.number)
        if known and known.attempt != cmd.attempt:
            return DONE
        self.withdraw_wait(cmd.session_id, cmd.number)
        given = known.result if known else None
        if isinstance(given, Task):
            task = find(self.tasks, task_id=given.task_id, status=TaskStatus.CLAIMED)
            if task and task.claim_token == given.claim_token:
                self.back_in_queue(task, "claim_withdrawn")
        if isinstance(given, Acquired) and given.acquired:
            lease = find(self.leases, token=given.lease.token)
            if lease:
                self.free(lease, "lease.released", "unconfirmed")
        over = refuse("ABORTED", "withdrawn")
        self.store(cmd.session_id, cmd.number, over, ANYTHING, cmd.attempt)
        return DONE


class Model(Base, AgentRules, ElectionRules, LeaseRules, TaskRules, SessionRules):
    """The whole of it."""

    def apply(self, batch):
        self.fresh = []
        self.time = max(self.time, batch.time_ms)
        self.wall = batch.wall_ms
        for _ in range(limits.DUE_WORK_PER_ENTRY):
            due = [d for d in self.deadlines() if self.is_due(d[0])]
            if not due:
                break
            *_, act, record = min(due, key=lambda d: d[:3])
            act(record)
        return [self.run(command) for command in batch.commands], self.fresh

    def deadlines(self):
        """Every deadline there is: when, the rank of its kind, id, what happens, to what."""
        for agent in self.agents:
            dead = agent.status == DEAD_AGENT
            rank, act = (5, self.agents.remove) if dead else (0, self.miss)
            yield agent.deadline_ms, rank, agent.agent_id, act, agent
        for lease in self.leases:
            yield lease.deadline_ms, 1, lease.task_id, self.lease_expires, lease
        for waiter in self.waiters:
            name = f"{waiter.session_id}/{waiter.number}"
            yield waiter.deadline_ms, 2, name, self.waiters.remove, waiter
        for task in self.tasks:
            if task.status == TaskStatus.CLAIMED:
                yield task.deadline_ms, 3, task.task_id, self.claim_times_out, task
            elif task.status != TaskStatus.PENDING:
                yield task.deadline_ms, 6, task.task_id, self.forget_task, task
        for session in self.sessions:
            yield session.deadline_ms, 4, session.session_id, self.end_session, session
        for group in self.groups:
            if not group.candidates:
                yield group.deadline_ms, 7, group.group, self.forget_group, group

    def claim_times_out(self, task):
        self.claim_lapses(task, "claim_expired")

    def handle(self, command):
        body = command.body
        if isinstance(body, c.AcquireLease):
            return self.acquire(body, command.session_id, command.number)
        if isinstance(body, c.CloseSession):
            return self.close_session(body, command.identity)
        return self.HANDLERS[type(body)](self, body)

    def takeover(self, cmd):
        if self.time >= self.grace_until:
            self.grace_from = self.time
        self.grace_until = max(self.grace_until, self.time + cmd.grace_ms)
        return DONE

    def announce(self, cmd):
        old = find(self.replicas, node_id=cmd.node_id)
        if old is None and len(self.replicas) >= limits.REPLICAS:
            return full()
        if old is not None:
            self.replicas.remove(old)
        self.replicas.append(Replica(cmd.node_id, cmd.endpoint, cmd.build, cmd.encoding))
        return DONE

    def raise_version(self, cmd):
        self.version = max(self.version, cmd.version)
        return DONE

    HANDLERS = {  # noqa: RUF012  # never changed
        c.Register: AgentRules.register,
        c.Heartbeat: AgentRules.heartbeat,
        c.Deregister: AgentRules.deregister,
        c.RenewLease: LeaseRules.renew,
        c.ReleaseLease: LeaseRules.release,
        c.Campaign: ElectionRules.campaign,
        c.Resign: ElectionRules.resign,
        c.SetPolicy: TaskRules.set_policy,
        c.DeletePolicy: TaskRules.delete_policy,
        c.CreateTask: TaskRules.create_task,
        c.ClaimTask: TaskRules.claim_task,
        c.CompleteTask: TaskRules.complete,
        c.FailTask: TaskRules.fail,
        c.ExtendTask: TaskRules.extend,
        c.RequeueTask: TaskRules.requeue,
        c.Withdraw: SessionRules.withdraw,
        c.Takeover: takeover,
        c.Announce: announce,
        c.RaiseVersion: raise_version,
    }
