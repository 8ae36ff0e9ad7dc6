"""What the SDK does, as coroutines: one for each method, in terms of `agentkeeper.types`.

Every face of the SDK is a thin layer over this, `queries` and `cluster`. Runs on the I/O thread's
loop only.
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import grpc

from agentkeeper import errors
from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.client import convert, methods
from agentkeeper.client.acquisitions import Acquisitions
from agentkeeper.client.background import Background
from agentkeeper.client.caller import Caller, WaitOver
from agentkeeper.client.cluster import Cluster
from agentkeeper.client.endpoints import Endpoints
from agentkeeper.client.queries import Queries
from agentkeeper.client.transport import Transport
from agentkeeper.client.watch import EventFeed
from agentkeeper.types import AgentInfo, ElectionState, Lease, Policy, Task

if TYPE_CHECKING:
    from agentkeeper.client.presence import KeptAgent

CLAIM_WAIT_S = 20.0  # after which a claim is asked for anew, lest it waits at a cut-off replica
ANSWER_SHARE = 0.2  # of what is left of a call's time, and
ANSWER_S = 2.0  # at most, is for the answer that nothing came, so that the caller knows for certain
LONGEST_WAIT_S = 3_600.0  # the daemon's bound
ASK_AGAIN_S = 1.0  # with less time left, too little of it would be for the answer
PASSES_ON_S = 6.0  # after which the daemon has taken back a grant that nobody confirmed
CLAIMS_REMEMBERED = 10_000


class Core:
    """The operations of the SDK. `timeout_s` bounds each; `math.inf` means for ever."""

    def __init__(
        self,
        transport: Transport,
        endpoints: Endpoints,
        clock: Callable[[], float],
    ) -> None:
        """`clock` is what deadlines of leases and the like are measured on, in seconds."""
        self.clock = clock
        self.background = Background()
        self.agents: dict[str, KeptAgent] = {}
        """The live agents that this client has registered, by id."""
        self.acquisitions = Acquisitions()
        self.withdrawals: dict[tuple[str, str], asyncio.Task[None]] = {}
        """Candidacies that are being withdrawn, by group and agent id."""
        self._caller = Caller(transport, endpoints)
        self.queries = Queries(self._caller)
        self.cluster = Cluster(self._caller)
        self._claim_tokens: OrderedDict[tuple[str, str], int] = OrderedDict()

    async def close(self) -> None:
        """End what goes on in the background, then close sessions and connections."""
        await self.background.close()
        await self._caller.close()

    # ------------------------------------------------------------ registry

    async def register(self, request: pb.RegisterRequest, timeout_s: float) -> str:
        """Register an agent and return its id."""
        return (await self._caller.call(methods.REGISTER, request, timeout_s)).agent_id

    async def heartbeat(self, agent_id: str, timeout_s: float) -> None:
        """Keep an agent ALIVE."""
        request = pb.HeartbeatRequest(agent_id=agent_id)
        await self._caller.call(methods.HEARTBEAT, request, timeout_s)

    async def deregister(self, agent_id: str, timeout_s: float) -> None:
        """End an agent."""
        request = pb.DeregisterRequest(agent_id=agent_id)
        await self._caller.call(methods.DEREGISTER, request, timeout_s)

    async def get_agent(self, agent_id: str, timeout_s: float) -> AgentInfo:
        """Return one agent."""
        request = pb.GetAgentRequest(agent_id=agent_id)
        answer = await self._caller.call(methods.GET_AGENT, request, timeout_s)
        return convert.agent_from(answer.agent)

    # ------------------------------------------------------------ leases

    async def acquire_lease(
        self,
        task_id: str,
        agent_id: str,
        ttl: int,
        *,
        wait_s: float,
        exclusive: bool,
        timeout_s: float,
    ) -> Lease | None:
        """Return the lease, or None if somebody else holds it for longer than `wait_s`."""
        wait_s = min(wait_s, _waitable_s(timeout_s), LONGEST_WAIT_S)
        request = pb.AcquireLeaseRequest(
            task_id=task_id,
            agent_id=agent_id,
            ttl_seconds=ttl,
            wait_ms=round(wait_s * 1000),
            exclusive=exclusive,
        )
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + timeout_s
        try:
            answer = await self._caller.call(
                methods.ACQUIRE_LEASE, request, timeout_s, hold_s=wait_s
            )
        except WaitOver:
            request.wait_ms = 0
            answer = await self._acquire_at_last(request, deadline_s)
        return convert.lease_from(answer.lease) if answer.acquired else None

    async def _acquire_at_last(
        self, request: pb.AcquireLeaseRequest, deadline_s: float
    ) -> pb.AcquireLeaseResponse:
        """Ask what came of a wait whose answer was lost, by acquiring once more.

        The holder is granted it anew. With `exclusive` it is refused to it; then what was granted
        to the lost request, which nobody confirms or renews, has to pass on before the answer is
        certain. That takes as long from the first answer on, however late it came: the request may
        have been granted just before.
        """
        loop = asyncio.get_running_loop()
        passed_on_s = math.inf
        while True:
            left_s = deadline_s - loop.time()
            answer = await self._caller.call(methods.ACQUIRE_LEASE, request, left_s)
            own = answer.lease.holder_agent_id == request.agent_id
            if answer.acquired or not (request.exclusive and own) or loop.time() >= passed_on_s:
                return answer
            passed_on_s = min(passed_on_s, loop.time() + PASSES_ON_S + request.ttl_seconds)
            if loop.time() + ASK_AGAIN_S > deadline_s:
                raise errors.OutcomeUnknown(
                    "acquire_lease: it may have been granted", grpc.StatusCode.DEADLINE_EXCEEDED
                )
            await asyncio.sleep(ASK_AGAIN_S)

    async def renew_lease(
        self, task_id: str, agent_id: str, token: int, ttl: int | None, timeout_s: float
    ) -> Lease:
        """Extend a lease; without `ttl` by its last one."""
        request = pb.RenewLeaseRequest(
            task_id=task_id,
            agent_id=agent_id,
            token=pb.FencingToken(value=token),
            ttl_seconds=ttl or 0,
        )
        answer = await self._caller.call(methods.RENEW_LEASE, request, timeout_s)
        return convert.lease_from(answer.lease)

    async def release_lease(
        self, task_id: str, agent_id: str, token: int, timeout_s: float
    ) -> None:
        """Give a lease back."""
        request = pb.ReleaseLeaseRequest(
            task_id=task_id, agent_id=agent_id, token=pb.FencingToken(value=token)
        )
        await self._caller.call(methods.RELEASE_LEASE, request, timeout_s)

    # ------------------------------------------------------------ elections

    async def campaign(self, group: str, agent_id: str, timeout_s: float) -> ElectionState:
        """Join a group's candidates and return its present state."""
        request = pb.CampaignRequest(group=group, agent_id=agent_id)
        answer = await self._caller.call(methods.CAMPAIGN, request, timeout_s)
        return convert.election_from(answer.state)

    async def resign(self, group: str, agent_id: str, timeout_s: float) -> None:
        """Leave a group's candidates."""
        request = pb.ResignRequest(group=group, agent_id=agent_id)
        await self._caller.call(methods.RESIGN, request, timeout_s)

    # ------------------------------------------------------------ entitlements

    async def set_policy(self, policy: pb.Policy, timeout_s: float) -> Policy:
        """Create or replace a policy."""
        request = pb.SetPolicyRequest(policy=policy)
        answer = await self._caller.call(methods.SET_POLICY, request, timeout_s)
        return convert.policy_from(answer.policy)

    async def delete_policy(self, policy_id: str, timeout_s: float) -> None:
        """Delete a policy."""
        request = pb.DeletePolicyRequest(id=policy_id)
        await self._caller.call(methods.DELETE_POLICY, request, timeout_s)

    # ------------------------------------------------------------ tasks

    async def create_task(self, request: pb.CreateTaskRequest, timeout_s: float) -> Task:
        """Put a task into the queue."""
        answer = await self._caller.call(methods.CREATE_TASK, request, timeout_s)
        return convert.task_from(answer.task)

    async def claim_task(self, agent_id: str, timeout_s: float) -> Task:
        """Wait for a task that fits the agent's tools, and claim it.

        Raises Unavailable (code DEADLINE_EXCEEDED) when none has come in time, OutcomeUnknown of
        the same code if one may have come and its answer was lost: it is requeued after its ttl.
        """
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + timeout_s
        unsure, left_s = False, timeout_s
        while True:
            wait_s = min(CLAIM_WAIT_S, _waitable_s(left_s))
            request = pb.ClaimTaskRequest(agent_id=agent_id, wait_ms=max(1, round(wait_s * 1000)))
            try:
                answer = await self._caller.call(methods.CLAIM_TASK, request, left_s, hold_s=wait_s)
            except WaitOver:
                unsure = True
            else:
                if answer.HasField("task"):
                    task = convert.task_from(answer.task)
                    self._remember_claim(task.id, agent_id, task.claim_token)
                    return task
            left_s = deadline_s - loop.time()
            if left_s < ASK_AGAIN_S:
                break
        kind = errors.OutcomeUnknown if unsure else errors.Unavailable
        raise kind("claim_task: no task in time", grpc.StatusCode.DEADLINE_EXCEEDED)

    def _remember_claim(self, task_id: str, agent_id: str, token: int) -> None:
        self._claim_tokens[task_id, agent_id] = token
        self._claim_tokens.move_to_end((task_id, agent_id))
        if len(self._claim_tokens) > CLAIMS_REMEMBERED:
            self._claim_tokens.popitem(last=False)

    async def complete_task(
        self, task_id: str, agent_id: str, output: bytes, claim_token: int | None, timeout_s: float
    ) -> None:
        """Complete a claimed task."""
        request = pb.CompleteTaskRequest(
            task_id=task_id,
            agent_id=agent_id,
            output=output,
            claim_token=self._claim_token(task_id, agent_id, claim_token),
        )
        await self._caller.call(methods.COMPLETE_TASK, request, timeout_s)
        self._claim_tokens.pop((task_id, agent_id), None)

    async def fail_task(
        self, task_id: str, agent_id: str, reason: str, claim_token: int | None, timeout_s: float
    ) -> None:
        """Report that a claimed task failed."""
        request = pb.FailTaskRequest(
            task_id=task_id,
            agent_id=agent_id,
            reason=reason,
            claim_token=self._claim_token(task_id, agent_id, claim_token),
        )
        await self._caller.call(methods.FAIL_TASK, request, timeout_s)
        self._claim_tokens.pop((task_id, agent_id), None)

    async def extend_task(
        self,
        task_id: str,
        agent_id: str,
        ttl: int | None,
        claim_token: int | None,
        timeout_s: float,
    ) -> Task:
        """Give a claim another ttl from now."""
        request = pb.ExtendTaskRequest(
            task_id=task_id,
            agent_id=agent_id,
            claim_token=self._claim_token(task_id, agent_id, claim_token),
            ttl_seconds=ttl or 0,
        )
        answer = await self._caller.call(methods.EXTEND_TASK, request, timeout_s)
        return convert.task_from(answer.task)

    async def requeue_task(self, task_id: str, timeout_s: float) -> Task:
        """Make a DEAD task PENDING again."""
        request = pb.RequeueTaskRequest(task_id=task_id)
        answer = await self._caller.call(methods.REQUEUE_TASK, request, timeout_s)
        return convert.task_from(answer.task)

    def _claim_token(self, task_id: str, agent_id: str, given: int | None) -> int:
        return self._claim_tokens.get((task_id, agent_id), 0) if given is None else given

    # ------------------------------------------------------------ events

    async def watch(
        self, topics: Sequence[str], after: int | None, timeout_s: float, *, gap_is_error: bool
    ) -> EventFeed:
        """Subscribe to topics; the feed is live when this returns."""
        if isinstance(topics, str):
            raise TypeError("topics must be a sequence of prefixes, not one str")
        wanted = list(topics)

        def make_request(position: int | None) -> pb.WatchRequest:
            return pb.WatchRequest(topics=wanted, after_sequence=position, progress=True)

        feed = EventFeed(self._caller, methods.WATCH, make_request, after)
        await feed.open(timeout_s, gap_is_error=gap_is_error)
        return feed

    async def watch_election(
        self, group: str, after: int | None, timeout_s: float, *, gap_is_error: bool
    ) -> EventFeed:
        """Subscribe to a group's leadership; the feed is live when this returns."""

        def make_request(position: int | None) -> pb.WatchElectionRequest:
            return pb.WatchElectionRequest(group=group, after_sequence=position, progress=True)

        feed = EventFeed(
            self._caller, methods.WATCH_ELECTION, make_request, after, begins_with_state=True
        )
        await feed.open(timeout_s, gap_is_error=gap_is_error)
        return feed


def _waitable_s(timeout_s: float) -> float:
    """How long the daemon may wait, so that its answer is here within `timeout_s`."""
    return timeout_s - min(ANSWER_S, ANSWER_SHARE * timeout_s)
