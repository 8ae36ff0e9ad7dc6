"""TaskService: create, claim, complete, fail, look up."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.core import commands as c
from agentkeeper.core import limits, present
from agentkeeper.core.records import Done, Task, TaskStatus, Waiting
from agentkeeper.core.refusals import not_found
from agentkeeper.server import convert
from agentkeeper.server import validation as v
from agentkeeper.server.caller import Caller
from agentkeeper.server.errors import CallError, outcome_unknown, refused
from agentkeeper.server.replica import Replica, shutting_down
from agentkeeper.server.services import pages
from agentkeeper.server.services.fields import agent_id_of, answer, task_id_of
from agentkeeper.server.services.method import Method, Unary


@dataclass(frozen=True, slots=True)
class TaskService:
    """Handlers of agentkeeper.v1.TaskService."""

    replica: Replica
    _copying: asyncio.Semaphore = field(default_factory=pages.copying)

    def methods(self) -> list[Method]:
        """All methods of the service."""
        return [
            Unary("CreateTask", pb.CreateTaskRequest, self.create_task),
            Unary("ClaimTask", pb.ClaimTaskRequest, self.claim_task, lambda request: True),
            Unary("CompleteTask", pb.CompleteTaskRequest, self.complete_task),
            Unary("FailTask", pb.FailTaskRequest, self.fail_task),
            Unary("ExtendTask", pb.ExtendTaskRequest, self.extend_task),
            Unary("RequeueTask", pb.RequeueTaskRequest, self.requeue_task),
            Unary("GetTask", pb.GetTaskRequest, self.get_task),
            Unary("ListTasks", pb.ListTasksRequest, self.list_tasks),
        ]

    async def create_task(
        self, request: pb.CreateTaskRequest, caller: Caller
    ) -> pb.CreateTaskResponse:
        """Queue a new task."""
        body = c.CreateTask(
            task_id=self.replica.draw_id(),
            type=v.line(request.type, "type", limits.NAME_BYTES),
            input=v.blob(request.input, "input"),
            required_tools=v.lines(
                request.required_tools, "required_tools", limits.TOOLS, limits.NAME_BYTES
            ),
            max_retries=v.number(request.max_retries, "max_retries", 0, limits.RETRIES_MAX),
            ttl_ms=v.ttl_ms(request.ttl_seconds, limits.TASK_TTL_MS_DEFAULT),
            priority=v.number(
                request.priority, "priority", -limits.PRIORITY_MAX, limits.PRIORITY_MAX
            ),
            idempotency_key=v.line(
                request.idempotency_key, "idempotency_key", limits.NAME_BYTES, empty=True
            ),
        )
        task = answer(Task, await self.replica.submit(body, caller))
        return pb.CreateTaskResponse(task=convert.task(task, self.replica.state))

    async def claim_task(
        self, request: pb.ClaimTaskRequest, caller: Caller
    ) -> pb.ClaimTaskResponse:
        """Wait until a task fits the agent, and claim it."""
        body = c.ClaimTask(agent_id_of(request))
        wait_ms = v.number(request.wait_ms, "wait_ms", 0, limits.WAIT_MS_MAX)
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + wait_ms / 1000 if wait_ms else None
        attempt = self.replica.draw_attempt()
        with (
            self.replica.claims.waiting(body.agent_id) as place,
            self.replica.alarm(deadline_s, place.woken),
        ):
            while True:
                result = await self.replica.submit_or_withdraw(body, caller, attempt)
                if not isinstance(result, Waiting):
                    task = answer(Task, result)
                    return pb.ClaimTaskResponse(task=convert.task(task, self.replica.state))
                late = deadline_s is not None and loop.time() >= deadline_s
                if not late and not self.replica.closing.is_set():
                    await place.next_chance()
                if self.replica.closing.is_set():
                    raise shutting_down()
                if deadline_s is not None and loop.time() >= deadline_s:
                    break
        await self._withdraw_claim(caller, attempt)
        return pb.ClaimTaskResponse()

    async def _withdraw_claim(self, caller: Caller, attempt: int) -> None:
        """See to it that no copy of a claim that came away empty-handed is given a task later.

        Without a session of the caller's own each try had a number that is not used again.
        """
        if not caller.session_id:
            return
        try:
            await self.replica.withdraw((caller.session_id, caller.number), attempt)
        except CallError:
            raise outcome_unknown("the claim may not be withdrawn yet") from None

    async def complete_task(
        self, request: pb.CompleteTaskRequest, caller: Caller
    ) -> pb.CompleteTaskResponse:
        """End a claimed task with its output."""
        output = v.blob(request.output, "output")
        body = c.CompleteTask(*_claim_of(request), output)
        answer(Done, await self.replica.submit(body, caller))
        return pb.CompleteTaskResponse()

    async def fail_task(self, request: pb.FailTaskRequest, caller: Caller) -> pb.FailTaskResponse:
        """Report a claimed task as failed."""
        reason = v.prose(request.reason, "reason", limits.REASON_BYTES)
        body = c.FailTask(*_claim_of(request), reason)
        answer(Done, await self.replica.submit(body, caller))
        return pb.FailTaskResponse()

    async def extend_task(
        self, request: pb.ExtendTaskRequest, caller: Caller
    ) -> pb.ExtendTaskResponse:
        """Give a claim more time."""
        ttl_ms = v.ttl_ms(request.ttl_seconds, 0)
        body = c.ExtendTask(*_claim_of(request), ttl_ms)
        task = answer(Task, await self.replica.submit(body, caller))
        return pb.ExtendTaskResponse(task=convert.task(task))

    async def requeue_task(
        self, request: pb.RequeueTaskRequest, caller: Caller
    ) -> pb.RequeueTaskResponse:
        """Make a DEAD task PENDING again."""
        body = c.RequeueTask(task_id_of(request))
        task = answer(Task, await self.replica.submit(body, caller))
        return pb.RequeueTaskResponse(task=convert.task(task))

    async def get_task(self, request: pb.GetTaskRequest, caller: Caller) -> pb.GetTaskResponse:
        """Look one task up."""
        task_id = task_id_of(request)
        state = await self.replica.read(caller)
        stored = state.tasks.get(task_id)
        task = None if stored is None else present.task(state, stored)
        if task is None:
            raise refused(not_found("task", task_id))
        return pb.GetTaskResponse(task=convert.task(task, state))

    async def list_tasks(
        self, request: pb.ListTasksRequest, caller: Caller
    ) -> pb.ListTasksResponse:
        """All tasks of a status by age, or a page of them."""
        status = v.choice(request.status, "status", (0, *TaskStatus))
        type_ = v.line(request.type, "type", limits.NAME_BYTES, empty=True)
        claimant = v.line(
            request.claimed_by_agent_id, "claimed_by_agent_id", limits.AGENT_ID_BYTES, empty=True
        )
        limit = v.number(request.limit, "limit", 0, limits.LIST_LIMIT_MAX)
        after = pages.order_in(request.page_token)
        state = await self.replica.read(caller)

        def show(copied: Task) -> pb.Task | None:
            # As it is by now: time has gone on since the copy was made.
            stored = state.tasks.get(copied.task_id)
            task = None if stored is None else present.task(state, stored)
            if task is None or status not in (0, task.status):
                return None
            if type_ not in ("", task.type) or claimant not in ("", task.claimed_by):
                return None
            return convert.task(task, state)

        response = pb.ListTasksResponse()
        async with self._copying:
            await self.replica.turns.take()
            found = pages.arrived_after(tuple(state.tasks.values()), after)
            last = await pages.fill(response.tasks, found, show, limit, self.replica.turns)
        if last is not None:
            response.next_page_token = str(last.order)
        return response


def _claim_of(
    request: pb.CompleteTaskRequest | pb.FailTaskRequest | pb.ExtendTaskRequest,
) -> tuple[str, str, int]:
    """Task, agent and claim token of a request about a claim."""
    claim_token = v.number(request.claim_token, "claim_token", 0, limits.COUNTER_MAX)
    return task_id_of(request), agent_id_of(request), claim_token
