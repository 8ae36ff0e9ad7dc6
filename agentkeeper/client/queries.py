"""What is asked without changing anything, as coroutines: lookups, and lists page by page.

Beside `core`, for the faces of the SDK. Runs on the I/O thread's loop only.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.client import convert, methods
from agentkeeper.client.caller import Caller
from agentkeeper.client.methods import Method
from agentkeeper.types import (
    AgentInfo,
    AgentStatus,
    CheckResult,
    Election,
    Explanation,
    FoundAgents,
    LeaseInfo,
    Policy,
    Summary,
    Task,
    TaskStatus,
)

PAGE = 500


class Queries:
    """Questions to the cluster. `timeout_s` bounds each, over all of its pages.

    `limit` is at most how many are wanted; None means all.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    # ------------------------------------------------------------ registry

    async def list_agents(
        self,
        statuses: Sequence[AgentStatus | str] | None,
        name_prefix: str,
        tools: Sequence[str] | None,
        limit: int | None,
        timeout_s: float,
    ) -> list[AgentInfo]:
        """Return agents in order of registration."""
        if isinstance(statuses, str):
            raise TypeError("statuses must be a sequence, not one of them")
        request = pb.ListAgentsRequest(
            statuses=[convert.agent_status_to(status) for status in statuses or ()],
            name_prefix=name_prefix,
            tools=tools or (),
        )
        pages = self._pages(methods.LIST_AGENTS, request, "agents", limit, timeout_s)
        return [convert.agent_from(agent) async for agent in pages]

    async def find(
        self, query: str, tools: Sequence[str] | None, limit: int, timeout_s: float
    ) -> FoundAgents:
        """Return ALIVE agents, best first."""
        request = pb.FindRequest(query=query, tools=tools or (), limit=limit)
        answer = await self._caller.call(methods.FIND, request, timeout_s)
        return convert.found_from(answer)

    # ------------------------------------------------------------ leases

    async def verify_token(self, task_id: str, token: int, timeout_s: float) -> bool:
        """Ask whether a token is that of the lease as it is held now."""
        request = pb.VerifyTokenRequest(task_id=task_id, token=pb.FencingToken(value=token))
        return (await self._caller.call(methods.VERIFY_TOKEN, request, timeout_s)).valid

    async def get_lease(self, task_id: str, timeout_s: float) -> LeaseInfo:
        """Return a held lease."""
        request = pb.GetLeaseRequest(task_id=task_id)
        answer = await self._caller.call(methods.GET_LEASE, request, timeout_s)
        return convert.lease_info_from(answer.lease)

    async def list_leases(
        self, prefix: str, holder_agent_id: str, limit: int | None, timeout_s: float
    ) -> list[LeaseInfo]:
        """Return held leases by task id."""
        request = pb.ListLeasesRequest(task_id_prefix=prefix, holder_agent_id=holder_agent_id)
        pages = self._pages(methods.LIST_LEASES, request, "leases", limit, timeout_s)
        return [convert.lease_info_from(lease) async for lease in pages]

    # ------------------------------------------------------------ elections

    async def get_election(self, group: str, timeout_s: float) -> Election:
        """Return a group with its candidates."""
        request = pb.GetElectionRequest(group=group)
        answer = await self._caller.call(methods.GET_ELECTION, request, timeout_s)
        return convert.candidates_from(answer.election)

    async def list_elections(
        self, prefix: str, limit: int | None, timeout_s: float
    ) -> list[Election]:
        """Return groups by name."""
        request = pb.ListElectionsRequest(group_prefix=prefix)
        pages = self._pages(methods.LIST_ELECTIONS, request, "elections", limit, timeout_s)
        return [convert.candidates_from(election) async for election in pages]

    # ------------------------------------------------------------ entitlements

    async def list_policies(self, subject_prefix: str, timeout_s: float) -> list[Policy]:
        """Return policies by id."""
        request = pb.ListPoliciesRequest(subject_prefix=subject_prefix)
        found: list[Policy] = []
        async for policy in self._pages(
            methods.LIST_POLICIES, request, "policies", None, timeout_s
        ):
            # A daemon of 0.1 has no pages of these: asked for the next, it gives all of them again.
            if not found or policy.id > found[-1].id:
                found.append(convert.policy_from(policy))
        return found

    async def check_policy(
        self, subject: str, action: str, resource: str, timeout_s: float
    ) -> CheckResult:
        """Ask whether the policies allow something."""
        request = pb.CheckPolicyRequest(subject=subject, action=action, resource=resource)
        answer = await self._caller.call(methods.CHECK_POLICY, request, timeout_s)
        return CheckResult(answer.allowed, answer.reason)

    async def explain_policy(
        self, subject: str, action: str, resource: str, timeout_s: float
    ) -> Explanation:
        """Ask whether the policies allow something, and which of them say so."""
        request = pb.ExplainPolicyRequest(subject=subject, action=action, resource=resource)
        answer = await self._caller.call(methods.EXPLAIN_POLICY, request, timeout_s)
        return convert.explanation_from(answer)

    # ------------------------------------------------------------ tasks

    async def get_task(self, task_id: str, timeout_s: float) -> Task:
        """Return one task."""
        request = pb.GetTaskRequest(task_id=task_id)
        answer = await self._caller.call(methods.GET_TASK, request, timeout_s)
        return convert.task_from(answer.task)

    async def list_tasks(
        self,
        status: TaskStatus | str | None,
        type_: str,
        claimed_by: str,
        limit: int | None,
        timeout_s: float,
    ) -> list[Task]:
        """Return tasks by age."""
        request = pb.ListTasksRequest(type=type_, claimed_by_agent_id=claimed_by)
        if status is not None:
            request.status = convert.task_status_to(status)

        def fits(task: pb.Task) -> bool:
            # Earlier daemons do not know these filters, and give the others too.
            return type_ in {"", task.type} and claimed_by in {"", task.claimed_by_agent_id}

        pages = self._pages(methods.LIST_TASKS, request, "tasks", limit, timeout_s, fits=fits)
        return [convert.task_from(task) async for task in pages]

    # ------------------------------------------------------------ all of it

    async def summary(self, timeout_s: float) -> Summary:
        """Return how much of everything there is."""
        answer = await self._caller.call(methods.SUMMARY, pb.SummaryRequest(), timeout_s)
        return convert.summary_from(answer)

    async def _pages(
        self,
        method: Method[Any, Any],
        request: Any,
        field: str,
        limit: int | None,
        timeout_s: float,
        *,
        fits: Callable[[Any], bool] = lambda entry: True,
    ) -> AsyncIterator[Any]:
        """The entries of `field` in all the pages of an answer, asked for as they are needed.

        What does not fit is left out, and does not count.
        """
        if limit is not None and limit < 1:
            raise ValueError(f"limit must be at least 1, or None for all, not {limit}")
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + timeout_s
        given, fitting = 0, True
        while True:
            request.limit = PAGE if limit is None or not fitting else min(PAGE, limit - given)
            answer = await self._caller.call(method, request, deadline_s - loop.time())
            entries = getattr(answer, field)
            found = [entry for entry in entries if fits(entry)]
            fitting = len(found) == len(entries)
            # A daemon of an earlier version may give more than it was asked for.
            for entry in found[: None if limit is None else limit - given]:
                given += 1
                yield entry
            request.page_token = answer.next_page_token
            if not request.page_token or given == limit:
                return
