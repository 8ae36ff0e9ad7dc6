"""The commands of the state machine, as they stand in the log."""

from __future__ import annotations

from typing import NamedTuple

from agentkeeper.core.records import Card, Policy


class Register(NamedTuple):
    """Register a new agent under an id drawn by the caller."""

    agent_id: str
    card: Card
    ttl_ms: int
    on_name_conflict: int


class Heartbeat(NamedTuple):
    """Keep an agent ALIVE for another ttl."""

    agent_id: str


class Deregister(NamedTuple):
    """End an agent."""

    agent_id: str


class AcquireLease(NamedTuple):
    """Acquire a lease, or wait in line for it if `wait_ms` is over 0."""

    task_id: str
    agent_id: str
    ttl_ms: int
    wait_ms: int
    exclusive: bool


class RenewLease(NamedTuple):
    """Give a held lease a new deadline; ttl 0 keeps its last one."""

    task_id: str
    agent_id: str
    token: int
    ttl_ms: int


class ReleaseLease(NamedTuple):
    """Give a held lease back."""

    task_id: str
    agent_id: str
    token: int


class Campaign(NamedTuple):
    """Join a group's candidates."""

    group: str
    agent_id: str


class Resign(NamedTuple):
    """Leave a group's candidates."""

    group: str
    agent_id: str


class SetPolicy(NamedTuple):
    """Create or replace a policy."""

    policy: Policy


class DeletePolicy(NamedTuple):
    """Delete a policy."""

    policy_id: str


class CreateTask(NamedTuple):
    """Create a task under an id drawn by the caller."""

    task_id: str
    type: str
    input: bytes
    required_tools: tuple[str, ...]
    max_retries: int
    ttl_ms: int
    priority: int
    idempotency_key: str


class ClaimTask(NamedTuple):
    """Claim the best PENDING task that fits the agent's tools."""

    agent_id: str


class CompleteTask(NamedTuple):
    """End a claimed task with its output; token 0 means the agent's present claim."""

    task_id: str
    agent_id: str
    claim_token: int
    output: bytes


class FailTask(NamedTuple):
    """Report a claimed task as failed: requeued while it has retries, DEAD after."""

    task_id: str
    agent_id: str
    claim_token: int
    reason: str


class ExtendTask(NamedTuple):
    """Give a claim a new deadline; ttl 0 means the task's own."""

    task_id: str
    agent_id: str
    claim_token: int
    ttl_ms: int


class RequeueTask(NamedTuple):
    """Make a DEAD task PENDING again."""

    task_id: str


class OpenSession(NamedTuple):
    """Open a session under an id drawn by the caller."""

    session_id: str
    ttl_ms: int
    window: int


class CloseSession(NamedTuple):
    """Forget a session and withdraw what it waits for."""

    session_id: str


class Withdraw(NamedTuple):
    """Undo what a request got or waits for, as its call ended before the answer got out.

    Only if `attempt` was the last to ask: a retry that came later is not robbed of its answer.
    """

    session_id: str
    number: int
    attempt: int


class Takeover(NamedTuple):
    """First command of a new leader: nothing expires for `grace_ms`."""

    grace_ms: int


class Announce(NamedTuple):
    """A replica says where clients reach it and which encodings it understands."""

    node_id: str
    endpoint: str
    build: str
    encoding: int


class RaiseVersion(NamedTuple):
    """All replicas know the cluster version `version`: formats and behaviour are that one's now."""

    version: int


Body = (
    Register
    | Heartbeat
    | Deregister
    | AcquireLease
    | RenewLease
    | ReleaseLease
    | Campaign
    | Resign
    | SetPolicy
    | DeletePolicy
    | CreateTask
    | ClaimTask
    | CompleteTask
    | FailTask
    | ExtendTask
    | RequeueTask
    | OpenSession
    | CloseSession
    | Withdraw
    | Takeover
    | Announce
    | RaiseVersion
)


class Command(NamedTuple):
    """A command with who asks for it. Without a session (empty) it is not remembered."""

    identity: str
    session_id: str
    number: int
    """Request number within the session, from 1."""
    seen: int
    """All numbers up to this one are answered: their answers may be forgotten."""
    body: Body
    attempt: int = 0
    """Drawn by a call that withdraws its request if it ends before the answer; 0 otherwise."""


class Batch(NamedTuple):
    """What one log entry carries: commands, and the time at which they happen."""

    time_ms: int
    """The cluster clock."""
    wall_ms: int
    """The leader's wall clock, for labels only."""
    commands: tuple[Command, ...]
