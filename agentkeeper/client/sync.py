"""The synchronous face of the SDK."""

from __future__ import annotations

import math
import os
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.client import convert
from agentkeeper.client.core import Core
from agentkeeper.client.embedded import EmbeddedDaemon
from agentkeeper.client.endpoints import DEFAULT_PORT, Endpoints
from agentkeeper.client.grpc_transport import GrpcTransport
from agentkeeper.client.handles import AgentHandle, LeaseHandle
from agentkeeper.client.heartbeat import heartbeat_interval_s, keep_alive
from agentkeeper.client.runner import Runner
from agentkeeper.client.subscription import Subscription
from agentkeeper.types import (
    AgentInfo,
    CheckResult,
    ElectionState,
    Lease,
    Policy,
    PolicyEffect,
    Task,
    TaskStatus,
    WatchEvent,
    WatchGap,
)

DEFAULT_TIMEOUT_S = 30.0


class AgentKeeperClient:
    """A client of one daemon or of a cluster of them. Safe to use from any number of threads.

    Every method takes `timeout=`, the seconds after which it gives up; None, the default, means
    the client's own `timeout` (30 unless given otherwise), `math.inf` for ever. Within it a replica
    that is down, hangs or has no leader is left for another one, and a call that is repeated
    takes effect once. All methods raise the errors of `agentkeeper.errors`: Refused and its kinds
    for what the cluster refuses, Unavailable or OutcomeUnknown when time runs out, ClientClosed.
    """

    def __init__(
        self,
        host: str = "localhost",
        port: int = DEFAULT_PORT,
        *,
        endpoints: Sequence[str] | str | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,
    ) -> None:
        """Connect to the daemon at `host` and `port`, or to a cluster's `endpoints`.

        `endpoints` are "host:port", in a sequence or in one string with commas. Connections are
        opened when first needed. Raises ValueError for a malformed endpoint.
        """
        if endpoints is None:
            endpoints = [f"{host}:{port}"]
        elif isinstance(endpoints, str):
            endpoints = [part for part in endpoints.split(",") if part.strip()]
        self._timeout = timeout
        self._daemon: EmbeddedDaemon | None = None
        self._core = Core(GrpcTransport(), Endpoints(endpoints, time.monotonic))
        self._runner = Runner()

    @classmethod
    def embedded(
        cls,
        binary: str | os.PathLike[str] | None = None,
        port: int | None = None,
        data_dir: str | os.PathLike[str] | None = None,
    ) -> Self:
        """Start a daemon of one's own and return a client of it; closing stops the daemon.

        The daemon is `binary`, or what AGENTKEEPER_BIN names, or `agentkeeper` on the PATH, or
        ./daemon/agentkeeper, or the one installed with this package. It listens on a free
        loopback port unless `port` is given, and forgets everything when it stops unless
        `data_dir` is. Raises FileNotFoundError when there is no daemon, RuntimeError, showing the
        end of its log, when it does not start.
        """
        daemon = EmbeddedDaemon(binary, port, data_dir)
        client = cls("127.0.0.1", daemon.port)
        client._daemon = daemon
        # Also when nobody closes the client: when it is collected or the interpreter exits.
        weakref.finalize(client, daemon.stop)
        return client

    def close(self) -> None:
        """End calls and an embedded daemon; agents and leases stay. Harmless when repeated."""
        try:
            self._runner.close(self._core.close())
        finally:
            if self._daemon is not None:
                self._daemon.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # ------------------------------------------------------------ registry

    def register(  # noqa: PLR0917 - as published
        self,
        name: str,
        description: str,
        version: str,
        tools: Sequence[str] | None = None,
        metadata: Mapping[str, str] | None = None,
        ttl: int = 30,
        *,
        timeout: float | None = None,
    ) -> AgentHandle:
        """Register an agent and keep it alive until it is deregistered or this client closes.

        A heartbeat is sent every max(1, ttl // 2) seconds. An agent that is silent for `ttl`
        seconds is UNREACHABLE, after as long again DEAD.
        """
        card = pb.AgentCard(
            name=name, description=description, version=version, tools=tools, metadata=metadata
        )
        agent_id = self._runner.run(self._core.register(card, ttl, self._limit(timeout)))
        heartbeats = keep_alive(self._core, agent_id, heartbeat_interval_s(ttl))
        return AgentHandle(self, agent_id, self._runner.start(heartbeats))

    def get_agent(self, agent_id: str, *, timeout: float | None = None) -> AgentInfo:
        """Return an agent; DEAD ones are remembered for a while. Raises NotFound."""
        return self._runner.run(self._core.get_agent(agent_id, self._limit(timeout)))

    def find(
        self,
        query: str = "",
        tools: Sequence[str] | None = None,
        limit: int = 10,
        *,
        timeout: float | None = None,
    ) -> list[AgentInfo]:
        """Return up to `limit` ALIVE agents that have all of `tools`, best match first.

        The query ranks and never filters: agents that match nothing come last.
        """
        return self._runner.run(self._core.find(query, tools, limit, self._limit(timeout)))

    def _deregister(self, agent_id: str, *, timeout: float | None) -> None:
        self._runner.run(self._core.deregister(agent_id, self._limit(timeout)))

    # ------------------------------------------------------------ leases

    def acquire_lease(
        self,
        task_id: str,
        agent_id: str,
        ttl: int = 60,
        *,
        wait: float = 0.0,
        timeout: float | None = None,
    ) -> LeaseHandle | None:
        """Acquire the exclusive lease on `task_id` for `ttl` seconds; None if it is held.

        With `wait`, stand in line for up to that many seconds, first come first served; the
        default timeout is then longer by as much. The holder acquiring again gets a new, higher
        token, and its former handle is stale. Raises NotFound if the agent is unknown or DEAD.
        """
        limit_s = self._limit(timeout) + (wait if timeout is None else 0.0)
        lease = self._runner.run(self._core.acquire_lease(task_id, agent_id, ttl, wait, limit_s))
        return None if lease is None else LeaseHandle(self, lease)

    def _renew_lease(self, lease: Lease, ttl: int | None, *, timeout: float | None) -> Lease:
        return self._runner.run(self._core.renew_lease(lease, ttl, self._limit(timeout)))

    def _release_lease(self, lease: Lease, *, timeout: float | None) -> None:
        self._runner.run(self._core.release_lease(lease, self._limit(timeout)))

    # ------------------------------------------------------------ elections

    def campaign(self, group: str, agent_id: str, *, timeout: float | None = None) -> ElectionState:
        """Join a group's candidates and return who leads now. Harmless when repeated.

        The first candidate leads until it resigns or dies; then the one that has waited longest.
        """
        return self._runner.run(self._core.campaign(group, agent_id, self._limit(timeout)))

    def resign(self, group: str, agent_id: str, *, timeout: float | None = None) -> None:
        """Leave a group's candidates; if the agent led, the next one leads."""
        self._runner.run(self._core.resign(group, agent_id, self._limit(timeout)))

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
        return self._runner.run(self._core.set_policy(policy, self._limit(timeout)))

    def delete_policy(self, id: str, *, timeout: float | None = None) -> None:
        """Delete a policy. Raises NotFound."""
        self._runner.run(self._core.delete_policy(id, self._limit(timeout)))

    def list_policies(
        self, subject_prefix: str = "", *, timeout: float | None = None
    ) -> list[Policy]:
        """Return the policies whose subject begins with `subject_prefix`, by id."""
        return self._runner.run(self._core.list_policies(subject_prefix, self._limit(timeout)))

    def check_policy(
        self, subject: str, action: str, resource: str, *, timeout: float | None = None
    ) -> CheckResult:
        """Ask whether `subject` may do `action` on `resource`. Without a match it may not."""
        return self._runner.run(
            self._core.check_policy(subject, action, resource, self._limit(timeout))
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
        return self._runner.run(self._core.create_task(request, self._limit(timeout)))

    def claim_task(self, agent_id: str, *, timeout: float | None = None) -> Task:
        """Wait for a task that fits the agent's tools, claim it and return it.

        Waits for ever unless `timeout` is given; then raises an error whose code is
        DEADLINE_EXCEEDED or UNAVAILABLE. A claim that was made just then, its answer lost, is
        requeued after the task's ttl. Raises NotFound if the agent is unknown or DEAD.
        """
        limit_s = math.inf if timeout is None else timeout
        return self._runner.run(self._core.claim_task(agent_id, limit_s))

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
        self._runner.run(
            self._core.complete_task(task_id, agent_id, output, claim_token, self._limit(timeout))
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
        self._runner.run(
            self._core.fail_task(task_id, agent_id, reason, claim_token, self._limit(timeout))
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
        return self._runner.run(
            self._core.extend_task(task_id, agent_id, ttl, claim_token, self._limit(timeout))
        )

    def requeue_task(self, task_id: str, *, timeout: float | None = None) -> Task:
        """Make a DEAD task PENDING again, its counts at zero."""
        return self._runner.run(self._core.requeue_task(task_id, self._limit(timeout)))

    def get_task(self, task_id: str, *, timeout: float | None = None) -> Task:
        """Return a task. Raises NotFound."""
        return self._runner.run(self._core.get_task(task_id, self._limit(timeout)))

    def list_tasks(
        self, status: TaskStatus | str | None = None, *, timeout: float | None = None
    ) -> list[Task]:
        """Return all tasks, or those of one status, by age."""
        return self._runner.run(self._core.list_tasks(status, self._limit(timeout)))

    # ------------------------------------------------------------ events

    def watch(
        self,
        topics: Sequence[str],
        callback: Callable[[WatchEvent], None],
        *,
        after: int | None = None,
        on_gap: Callable[[WatchGap], None] | None = None,
        timeout: float | None = None,
    ) -> Subscription:
        """Call `callback`, on a background thread, for every event of the topics (prefixes).

        No topics means all. The subscription is live on return, and goes on at another replica,
        without gap or repeat, when one is lost. With `after`, it begins after that sequence
        number. Where events are no longer kept, `on_gap` is called on the same thread and the
        watch goes on with what there is; without `on_gap`, an `after` that is too old raises
        Compacted. `timeout` bounds the subscribing only.
        """
        feed = self._runner.run(
            self._core.watch(topics, after, self._limit(timeout), gap_is_error=on_gap is None)
        )
        return Subscription(self._runner, feed, callback, on_gap)

    def watch_election(
        self,
        group: str,
        callback: Callable[[ElectionState], None],
        *,
        after: int | None = None,
        on_gap: Callable[[WatchGap], None] | None = None,
        timeout: float | None = None,
    ) -> Subscription:
        """Call `callback` with the group's present state, if any, and at every change of leader.

        With `after`, only changes after that sequence number; where those are no longer kept,
        the present state. Else as `watch`.
        """

        def deliver(event: WatchEvent) -> None:
            if isinstance(event.payload, ElectionState):
                callback(event.payload)

        feed = self._runner.run(
            self._core.watch_election(
                group, after, self._limit(timeout), gap_is_error=on_gap is None
            )
        )
        return Subscription(self._runner, feed, deliver, on_gap)

    def _limit(self, timeout: float | None) -> float:
        return self._timeout if timeout is None else timeout
