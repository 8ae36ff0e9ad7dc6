"""Naive rules of tasks, and of policies."""

from naive_base import find, full, missing, refuse, swap

from agentkeeper.core import limits
from agentkeeper.core.records import DONE, WAITING, Effect, Refused, Task, TaskStatus

PENDING, CLAIMED, COMPLETED, FAILED, DEAD = TaskStatus


def fits(pattern, text):
    """Whether `text` fits, by trying everything that a star may stand for."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(fits(pattern[1:], text[i:]) for i in range(len(text) + 1))
    return text[:1] == pattern[0] and fits(pattern[1:], text[1:])


class TaskRules:
    """PENDING, CLAIMED by one agent at a time, in the end COMPLETED or DEAD."""

    def is_claimed(self, task):
        return task.status == CLAIMED

    def finished(self):
        """Finished tasks, the first to be forgotten in front."""
        done = [t for t in self.tasks if t.status in (COMPLETED, DEAD)]
        return sorted(done, key=lambda t: (t.deadline_ms, t.task_id))

    def bytes_of(self, tasks):
        ids = {t.task_id for t in tasks}
        blobs = sum(len(data) for key, data in self.inputs + self.outputs if key in ids)
        return blobs + sum(len(tool) for t in tasks for tool in t.required_tools)

    def make_room(self, size):
        """Forget as many finished tasks as it takes, or none if all of them wouldn't do."""
        unfinished = [t for t in self.tasks if t.status in (PENDING, CLAIMED)]
        if self.bytes_of(unfinished) + size > limits.TASK_BYTES:
            return False
        while self.bytes_of(self.tasks) + size > limits.TASK_BYTES:
            self.forget_task(self.finished()[0])
        return True

    def forget_task(self, task):
        self.tasks.remove(task)
        self.inputs = [(key, data) for key, data in self.inputs if key != task.task_id]
        self.outputs = [(key, data) for key, data in self.outputs if key != task.task_id]

    def room(self, tools, size):
        if len(self.tasks) - len(self.finished()) >= limits.TASKS:
            return False
        sets = {t.required_tools for t in self.tasks if t.status in (PENDING, CLAIMED)}
        if tools not in sets and len(sets) >= limits.TOOL_SETS:
            return False
        return self.make_room(size)

    def create_task(self, cmd):
        if cmd.idempotency_key:
            known = find(self.tasks, idempotency_key=cmd.idempotency_key)
            if known:
                return known._replace(claim_token=0)
        if find(self.tasks, task_id=cmd.task_id):
            return refuse("ALREADY_EXISTS", "exists")
        tools = tuple(sorted(set(cmd.required_tools)))
        if not self.room(tools, len(cmd.input) + sum(map(len, tools))):
            return full()
        task = Task(
            cmd.task_id, cmd.type, PENDING, tools, cmd.max_retries, 0, 0, "", 0, "", self.wall,
            0, 0, cmd.priority, cmd.idempotency_key, cmd.ttl_ms, 0, self.order(),
        )  # fmt: skip
        self.tasks.append(task)
        if cmd.input:
            self.inputs.append((cmd.task_id, cmd.input))
        self.emit("task.created", task.task_id, task)
        return task

    def claim_task(self, cmd):
        agent = self.living(cmd.agent_id)
        if agent is None:
            return missing()
        mine = [t for t in self.tasks if t.status == CLAIMED and t.claimed_by == cmd.agent_id]
        if len(mine) >= limits.CLAIMS_EACH:
            return full()
        fitting = [
            t
            for t in self.tasks
            if t.status == PENDING and all(tool in agent.card.tools for tool in t.required_tools)
        ]
        if not fitting:
            return WAITING
        task = min(fitting, key=lambda t: (-t.priority, t.order))
        claimed = task._replace(
            status=CLAIMED,
            claimed_by=cmd.agent_id,
            claim_token=self.token(),
            claimed_wall_ms=self.wall,
            deadline_ms=self.time + task.ttl_ms,
        )
        swap(self.tasks, task, claimed)
        self.emit("task.claimed", task.task_id, claimed)
        return claimed

    def guarded_task(self, cmd):
        if self.living(cmd.agent_id) is None:
            return missing()
        task = find(self.tasks, task_id=cmd.task_id)
        if task and task.status == CLAIMED and self.is_due(task.deadline_ms):
            self.claim_lapses(task, "claim_expired")
            task = find(self.tasks, task_id=cmd.task_id)
        if task is None:
            return missing()
        if task.claimed_by != cmd.agent_id or cmd.claim_token not in (0, task.claim_token):
            return refuse("PERMISSION_DENIED", "stale_token")
        if task.status != CLAIMED:
            return refuse("FAILED_PRECONDITION", "not_claimed")
        return task

    def complete(self, cmd):
        task = self.guarded_task(cmd)
        if isinstance(task, Refused):
            return task
        if cmd.output:
            if not self.make_room(len(cmd.output)):
                return full()
            self.outputs.append((task.task_id, cmd.output))
        self.finish(task, task._replace(status=COMPLETED), "task.completed", "")
        return DONE

    def fail(self, cmd):
        task = self.guarded_task(cmd)
        if isinstance(task, Refused):
            return task
        failed = task._replace(failure_reason=cmd.reason)
        swap(self.tasks, task, failed)
        if task.retry_count < task.max_retries:
            self.back_in_queue(failed, "failed", retry_count=task.retry_count + 1)
        else:
            self.finish(failed, failed._replace(status=DEAD), "task.dead", "failed")
        return DONE

    def extend(self, cmd):
        task = self.guarded_task(cmd)
        if isinstance(task, Refused):
            return task
        deadline = self.time + (cmd.ttl_ms or task.ttl_ms)
        return swap(self.tasks, task, task._replace(deadline_ms=deadline))

    def requeue(self, cmd):
        task = find(self.tasks, task_id=cmd.task_id)
        if task is None:
            return missing()
        if task.status != DEAD:
            return refuse("FAILED_PRECONDITION", "not_dead")
        if not self.room(task.required_tools, 0):
            return full()
        clean = {"retry_count": 0, "expired_claims": 0, "failure_reason": ""}
        return self.back_in_queue(task, "requeued", completed_wall_ms=0, **clean)

    def back_in_queue(self, task, reason, **changes):
        queued = task._replace(
            status=PENDING, claimed_by="", claim_token=0, claimed_wall_ms=0, deadline_ms=0,
            **changes,
        )  # fmt: skip
        swap(self.tasks, task, queued)
        self.emit("task.requeued", task.task_id, queued, reason)
        return queued

    def claim_lapses(self, task, reason):
        """A claim got no answer; that may happen to a task only so often."""
        lapses = task.expired_claims + 1
        if lapses < limits.CLAIM_EXPIRIES:
            self.back_in_queue(task, reason, expired_claims=lapses)
            return
        why = f"{lapses} claims ended without an answer"
        dead = task._replace(status=DEAD, expired_claims=lapses, failure_reason=why)
        self.finish(task, dead, "task.dead", reason)

    def finish(self, old, new, topic, reason):
        new = new._replace(
            completed_wall_ms=self.wall, deadline_ms=self.time + limits.TASK_RETENTION_MS
        )
        swap(self.tasks, old, new)
        self.emit(topic, new.task_id, new, reason)
        if len(self.finished()) > limits.FINISHED_TASKS:
            self.forget_task(self.finished()[0])

    def verdict(self, *asked):
        """DENY over ALLOW; among those of one effect the lowest id decides."""
        hits = [
            p for p in self.policies if all(map(fits, (p.subject, p.action, p.resource), asked))
        ]
        for effect in (Effect.DENY, Effect.ALLOW):
            ids = [p.policy_id for p in hits if p.effect == effect]
            if ids:
                return effect == Effect.ALLOW, min(ids)
        return False, ""

    def set_policy(self, cmd):
        old = find(self.policies, policy_id=cmd.policy.policy_id)
        others = [p for p in self.policies if p is not old]
        wild = sum("*" in p.subject for p in others)
        if old is None and len(others) >= limits.POLICIES:
            return full()
        if "*" in cmd.policy.subject and wild >= limits.PATTERN_SUBJECTS:
            return full()
        self.policies = [*others, cmd.policy]
        self.emit("policy.set", cmd.policy.policy_id, cmd.policy)
        return cmd.policy

    def delete_policy(self, cmd):
        policy = find(self.policies, policy_id=cmd.policy_id)
        if policy is None:
            return missing()
        self.policies.remove(policy)
        self.emit("policy.deleted", cmd.policy_id, policy)
        return DONE
