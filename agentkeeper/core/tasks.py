"""Tasks: a queue in which each task is claimed by one agent at a time, and retried in bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentkeeper.core import limits, refusals, registry
from agentkeeper.core.deadlines import Kind
from agentkeeper.core.records import DONE, WAITING, Refused, Result, Task, TaskStatus

if TYPE_CHECKING:
    from agentkeeper.core.commands import (
        ClaimTask,
        CompleteTask,
        CreateTask,
        ExtendTask,
        FailTask,
        RequeueTask,
    )
    from agentkeeper.core.state import State

CLAIM_EXPIRED = "claim_expired"
CLAIMANT_DIED = "claimant_died"
CLAIMANT_LEFT = "claimant_left"
CLAIM_WITHDRAWN = "claim_withdrawn"
BY_HAND = "requeued"


def create(state: State, command: CreateTask) -> Result:
    """Queue a new task, or return the one created before under the same idempotency key."""
    known = state.task_by_key.get(command.idempotency_key)
    known_task = None if known is None else state.tasks.get(known)
    if known_task is not None:
        return known_task._replace(claim_token=0)  # it belongs to the claimant
    if command.task_id in state.tasks:
        return Refused(refusals.ALREADY_EXISTS, "exists", "task id is taken")
    tools = tuple(sorted(set(command.required_tools)))
    size = len(command.input) + sum(map(len, tools))
    refused = _room(state, tools, size)
    if refused is not None:
        return refused
    task = Task(
        task_id=command.task_id,
        type=command.type,
        status=TaskStatus.PENDING,
        required_tools=tools,
        max_retries=command.max_retries,
        retry_count=0,
        expired_claims=0,
        claimed_by="",
        claim_token=0,
        failure_reason="",
        created_wall_ms=state.wall_ms,
        claimed_wall_ms=0,
        completed_wall_ms=0,
        priority=command.priority,
        idempotency_key=command.idempotency_key,
        ttl_ms=command.ttl_ms,
        deadline_ms=0,
        order=state.next_order(),
    )
    state.tasks.put(task.task_id, task)
    if command.input:
        state.inputs.put(task.task_id, command.input)
    state.task_bytes += size
    state.use_tool_set(tools, 1)
    state.derive_task(task)
    state.emit("task.created", task.task_id, task)
    return task


def claim(state: State, command: ClaimTask) -> Result:
    """Give the best task that fits the agent, or tell that none does."""
    if registry.settled(state, command.agent_id) is None:
        return refusals.not_found("agent", command.agent_id)
    if state.claims_by_agent.count(command.agent_id) >= limits.CLAIMS_EACH:
        return refusals.limit("claims of this agent", limits.CLAIMS_EACH)
    task_id = state.pending.take(state.tool_sets[command.agent_id])
    task = None if task_id is None else state.tasks.get(task_id)
    if task is None:
        return WAITING
    task = task._replace(
        status=TaskStatus.CLAIMED,
        claimed_by=command.agent_id,
        claim_token=state.next_token(),
        claimed_wall_ms=state.wall_ms,
        deadline_ms=state.time_ms + task.ttl_ms,
    )
    state.tasks.put(task.task_id, task)
    state.derive_task(task)
    state.emit("task.claimed", task.task_id, task)
    return task


def complete(state: State, command: CompleteTask) -> Result:
    """End a claimed task with its output."""
    task = _guarded(state, command.task_id, command.agent_id, command.claim_token)
    if isinstance(task, Refused):
        return task
    if command.output and not _make_room(state, len(command.output)):
        return refusals.limit("bytes of inputs and outputs", limits.TASK_BYTES)
    _unclaim(state, task)
    if command.output:
        state.outputs.put(task.task_id, command.output)
        state.task_bytes += len(command.output)
    _finish(state, task._replace(status=TaskStatus.COMPLETED), "task.completed", "")
    return DONE


def fail(state: State, command: FailTask) -> Result:
    """Requeue a claimed task that has retries left; it is DEAD otherwise."""
    task = _guarded(state, command.task_id, command.agent_id, command.claim_token)
    if isinstance(task, Refused):
        return task
    _unclaim(state, task)
    task = task._replace(failure_reason=command.reason)
    if task.retry_count < task.max_retries:
        _requeue(state, task._replace(retry_count=task.retry_count + 1), "failed")
    else:
        _finish(state, task._replace(status=TaskStatus.DEAD), "task.dead", "failed")
    return DONE


def extend(state: State, command: ExtendTask) -> Result:
    """Give a claim a new deadline."""
    task = _guarded(state, command.task_id, command.agent_id, command.claim_token)
    if isinstance(task, Refused):
        return task
    task = task._replace(deadline_ms=state.time_ms + (command.ttl_ms or task.ttl_ms))
    state.tasks.put(task.task_id, task)
    state.deadlines.set(Kind.CLAIM, task.task_id, task.deadline_ms)
    return task


def requeue(state: State, command: RequeueTask) -> Result:
    """Make a DEAD task PENDING again, its counts at zero."""
    task = state.tasks.get(command.task_id)
    if task is None:
        return refusals.not_found("task", command.task_id)
    if task.status != TaskStatus.DEAD:
        status = TaskStatus(task.status).name
        message = f"only a DEAD task can be requeued; {task.task_id!r} is {status}"
        return Refused(refusals.FAILED_PRECONDITION, "not_dead", message)
    refused = _room(state, task.required_tools, 0)
    if refused is not None:
        return refused
    state.deadlines.clear(Kind.FINISHED_TASK, task.task_id)
    state.finished_bytes -= state.bytes_of(task)
    state.dead_tasks -= 1
    state.use_tool_set(task.required_tools, 1)
    fresh = task._replace(retry_count=0, expired_claims=0, failure_reason="", completed_wall_ms=0)
    return _requeue(state, fresh, BY_HAND)


def expire_claim(state: State, task: Task, reason: str = CLAIM_EXPIRED) -> None:
    """End a claim that got no answer: requeue the task, unless that happened too often."""
    _unclaim(state, task)
    task = task._replace(expired_claims=task.expired_claims + 1)
    if task.expired_claims < limits.CLAIM_EXPIRIES:
        _requeue(state, task, reason)
        return
    dead = task._replace(status=TaskStatus.DEAD, failure_reason=unanswered(task.expired_claims))
    _finish(state, dead, "task.dead", reason)


def unanswered(expired_claims: int) -> str:
    """Why a task is DEAD whose claims all ended by themselves."""
    return f"{expired_claims} claims ended without an answer"


def requeue_all(state: State, agent_id: str, *, lost: bool) -> None:
    """Requeue the claims of an agent that has died; only if it was lost do they count."""
    for task_id, _ in state.claims_by_agent.of(agent_id):
        task = state.tasks.get(task_id)
        if task is None:
            continue
        if lost:
            expire_claim(state, task, CLAIMANT_DIED)
        else:
            _unclaim(state, task)
            _requeue(state, task, CLAIMANT_LEFT)


def withdraw(state: State, claimed: Task) -> bool:
    """Give back a claim whose answer could not be delivered, if it is still the present one."""
    task = state.tasks.get(claimed.task_id)
    if task is None or task.status != TaskStatus.CLAIMED or task.claim_token != claimed.claim_token:
        return False
    _unclaim(state, task)
    _requeue(state, task, CLAIM_WITHDRAWN)
    return True


def forget(state: State, task_id: str) -> None:
    """Drop a finished task with its input and output."""
    task = state.tasks.drop(task_id)
    state.deadlines.clear(Kind.FINISHED_TASK, task_id)
    if task is None:
        return
    size = state.bytes_of(task)
    state.task_bytes -= size
    state.finished_bytes -= size
    state.dead_tasks -= task.status == TaskStatus.DEAD
    state.inputs.drop(task_id)
    state.outputs.drop(task_id)
    if task.idempotency_key:
        state.task_by_key.pop(task.idempotency_key, None)


def _guarded(state: State, task_id: str, agent_id: str, token: int) -> Task | Refused:
    """The task, if `agent_id` has claimed it under `token` (0: under whichever)."""
    if registry.settled(state, agent_id) is None:
        return refusals.not_found("agent", agent_id)
    task = state.tasks.get(task_id)
    if task is None:
        return refusals.not_found("task", task_id)
    if task.status == TaskStatus.CLAIMED and state.expired(task.deadline_ms):
        expire_claim(state, task)
        task = state.tasks.get(task_id)
        if task is None:
            return refusals.not_found("task", task_id)
    if task.claimed_by != agent_id or token not in (0, task.claim_token):
        return refusals.stale_token(task_id)
    if task.status != TaskStatus.CLAIMED:
        message = f"task {task_id!r} is already {TaskStatus(task.status).name}"
        return Refused(refusals.FAILED_PRECONDITION, "not_claimed", message)
    return task


def _room(state: State, tools: tuple[str, ...], size: int) -> Refused | None:
    """Make room for one more PENDING task; tell why there is none."""
    unfinished = len(state.tasks) - state.deadlines.count(Kind.FINISHED_TASK)
    if unfinished >= limits.TASKS:
        return refusals.limit("unfinished tasks", limits.TASKS)
    if tools not in state.tool_set_uses and len(state.tool_set_uses) >= limits.TOOL_SETS:
        return refusals.limit("sets of required tools", limits.TOOL_SETS)
    if not _make_room(state, size):
        return refusals.limit("bytes of inputs and outputs", limits.TASK_BYTES)
    return None


def _make_room(state: State, size: int) -> bool:
    """Forget finished tasks, oldest first, until `size` more bytes fit; none if they never will."""
    if state.task_bytes - state.finished_bytes + size > limits.TASK_BYTES:
        return False
    while state.task_bytes + size > limits.TASK_BYTES:
        oldest = state.deadlines.first(Kind.FINISHED_TASK)
        if oldest is None:
            return False
        forget(state, oldest[1])
    return True


def _unclaim(state: State, task: Task) -> None:
    state.deadlines.clear(Kind.CLAIM, task.task_id)
    state.claims_by_agent.discard(task.claimed_by, task.task_id)


def _requeue(state: State, task: Task, reason: str) -> Task:
    task = task._replace(
        status=TaskStatus.PENDING, claimed_by="", claim_token=0, claimed_wall_ms=0, deadline_ms=0
    )
    state.tasks.put(task.task_id, task)
    state.derive_task(task)
    state.emit("task.requeued", task.task_id, task, reason)
    return task


def _finish(state: State, task: Task, topic: str, reason: str) -> None:
    task = task._replace(
        completed_wall_ms=state.wall_ms, deadline_ms=state.time_ms + limits.TASK_RETENTION_MS
    )
    state.tasks.put(task.task_id, task)
    state.use_tool_set(task.required_tools, -1)
    state.derive_task(task)
    state.emit(topic, task.task_id, task, reason)
    if state.deadlines.count(Kind.FINISHED_TASK) > limits.FINISHED_TASKS:
        oldest = state.deadlines.first(Kind.FINISHED_TASK)
        if oldest is not None:
            forget(state, oldest[1])
