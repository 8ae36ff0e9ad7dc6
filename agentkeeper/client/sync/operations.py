# Made from agentkeeper/client/aio/operations.py by tools/make_sync.py: edit that one.
"""The calls that return plain values."""

from __future__ import annotations

import math
from collections.abc import Sequence

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.client import convert
from agentkeeper.client.sync.concurrency import run
from agentkeeper.client.sync.face import Face
from agentkeeper.types import (
    AgentInfo,
    CheckResult,
    ElectionState,
    FoundAgents,
    Policy,
    PolicyEffect,
    Task,
)


class Operations(Face):
    """Agents looked up, elections, entitlements and tasks: one call, one answer."""

    # ------------------------------------------------------------ registry

    def get_agent(self, agent_id: str, *, timeout: float | None = None) -> AgentInfo:
        """Return an agent; DEAD ones are remembered for a while. Raises NotFound."""
        return run(self._runner, self._core.get_agent(agent_id, self._limit(timeout)))

    def find(
        self,
        query: str = "",
        tools: Sequence[str] | None = None,
        limit: int = 10,
        *,
        timeout: float | None = None,
    ) -> FoundAgents:
        """Return up to `limit` ALIVE agents that have all of `tools`, best match first.

        The query says in plain words what the agent is to do, or names it; it ranks and never
        filters: agents that match nothing come last. Without one they come in order of
        registration. The list says in `mode` how it was ranked, and each agent its `score`.
        """
        return run(self._runner, self._core.queries.find(query, tools, limit, self._limit(timeout)))

    # ------------------------------------------------------------ leases

    def verify_token(self, task_id: str, token: int, *, timeout: float | None = None) -> bool:
        """Ask whether `token` is that of the lease on `task_id` as it is held now.

        Advice, not protection: by the time the answer arrives that may have changed. A resource
        that must be written by one holder only remembers the highest token it has seen, and
        refuses lower ones.
        """
        return run(
            self._runner, self._core.queries.verify_token(task_id, token, self._limit(timeout))
        )

    # ------------------------------------------------------------ elections

    def campaign(self, group: str, agent_id: str, *, timeout: float | None = None) -> ElectionState:
        """Join a group's candidates and return who leads now. Harmless when repeated.

        The first candidate leads until it resigns or dies; then the one that has waited longest.
        """
        return run(self._runner, self._core.campaign(group, agent_id, self._limit(timeout)))

    def resign(self, group: str, agent_id: str, *, timeout: float | None = None) -> None:
        """Leave a group's candidates; if the agent led, the next one leads."""
        run(self._runner, self._core.resign(group, agent_id, self._limit(timeout)))

    # ------------------------------------------------------------ entitlements

    def set_policy(
        self,
        id: str,
        subject: str,
        action: str,
        resource: str,
        effect: PolicyEffect | str,
        *,
        timeout: float | None = None,
    ) -> Policy:
        """Create the policy `id`, or replace it. `*` in the three patterns matches anything.

        Raises ValueError for an effect that is neither ALLOW nor DENY.
        """
        policy = pb.Policy(
            id=id,
            subject=subject,
            action=action,
            resource=resource,
            effect=convert.effect_to(effect),
        )
        return run(self._runner, self._core.set_policy(policy, self._limit(timeout)))

    def delete_policy(self, id: str, *, timeout: float | None = None) -> None:
        """Delete a policy. Raises NotFound."""
        run(self._runner, self._core.delete_policy(id, self._limit(timeout)))

    def check_policy(
        self, subject: str, action: str, resource: str, *, timeout: float | None = None
    ) -> CheckResult:
        """Ask whether `subject` may do `action` on `resource`. Without a match it may not."""
        return run(
            self._runner,
            self._core.queries.check_policy(subject, action, resource, self._limit(timeout)),
        )

    # ------------------------------------------------------------ tasks

    def create_task(
        self,
        type: str,
        input: bytes = b"",
        required_tools: Sequence[str] | None = None,
        max_retries: int = 0,
        ttl: int = 60,
        *,
        priority: int = 0,
        idempotency_key: str = "",
        timeout: float | None = None,
    ) -> Task:
        """Put a task into the queue, for an agent that has all of `required_tools`.

        A claim of it lasts `ttl` seconds unless extended, then the task is requeued. It may be
        failed `max_retries` times before it is DEAD. Higher `priority` is claimed first. With an
        `idempotency_key` that is in use, the task created first is returned.
        """
        request = pb.CreateTaskRequest(
            type=type,
            input=input,
            required_tools=required_tools,
            max_retries=max_retries,
            ttl_seconds=ttl,
            priority=priority,
            idempotency_key=idempotency_key,
        )
        return run(self._runner, self._core.create_task(request, self._limit(timeout)))

    def claim_task(self, agent_id: str, *, timeout: float | None = None) -> Task:
        """Wait for a task that fits the agent's tools, claim it and return it.

        Waits for ever unless `timeout` is given; then raises Unavailable (DEADLINE_EXCEEDED) when
        no task has come, which is certain, or OutcomeUnknown if one may have been claimed and the
        answer was lost: it is requeued after its ttl. Raises NotFound if the agent is unknown or
        DEAD.
        """
        limit_s = math.inf if timeout is None else timeout
        return run(self._runner, self._core.claim_task(agent_id, limit_s))

    def complete_task(
        self,
        task_id: str,
        agent_id: str,
        output: bytes = b"",
        *,
        claim_token: int | None = None,
        timeout: float | None = None,
    ) -> None:
        """Complete a task that the agent has claimed.

        `claim_token` is that of the claim; by default what this client's own claim was given.
        Raises PermissionDenied if the claim is no longer the agent's.
        """
        run(
            self._runner,
            self._core.complete_task(task_id, agent_id, output, claim_token, self._limit(timeout)),
        )

    def fail_task(
        self,
        task_id: str,
        agent_id: str,
        reason: str = "",
        *,
        claim_token: int | None = None,
        timeout: float | None = None,
    ) -> None:
        """Report that a claimed task failed: it is requeued, or DEAD once out of retries.

        `claim_token` and errors as for `complete_task`.
        """
        run(
            self._runner,
            self._core.fail_task(task_id, agent_id, reason, claim_token, self._limit(timeout)),
        )

    def extend_task(
        self,
        task_id: str,
        agent_id: str,
        ttl: int | None = None,
        *,
        claim_token: int | None = None,
        timeout: float | None = None,
    ) -> Task:
        """Make a claim last `ttl` seconds from now; None means the task's ttl.

        `claim_token` and errors as for `complete_task`.
        """
        return run(
            self._runner,
            self._core.extend_task(task_id, agent_id, ttl, claim_token, self._limit(timeout)),
        )

    def requeue_task(self, task_id: str, *, timeout: float | None = None) -> Task:
        """Make a DEAD task PENDING again, its counts at zero."""
        return run(self._runner, self._core.requeue_task(task_id, self._limit(timeout)))

    def get_task(self, task_id: str, *, timeout: float | None = None) -> Task:
        """Return a task. Raises NotFound."""
        return run(self._runner, self._core.queries.get_task(task_id, self._limit(timeout)))
