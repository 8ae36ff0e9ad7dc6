"""The immutable records the state is made of.

Times ending in `_wall_ms` are labels for people; `deadline_ms` is on the cluster clock and is the
only thing that makes anything happen.
"""

from __future__ import annotations

import enum
from typing import NamedTuple


class AgentStatus(enum.IntEnum):
    """Life of an agent; the numbers are those of the public API."""

    ALIVE = 1
    UNREACHABLE = 2
    DEAD = 3


class TaskStatus(enum.IntEnum):
    """Life of a task; the numbers are those of the public API."""

    PENDING = 1
    CLAIMED = 2
    COMPLETED = 3
    FAILED = 4
    DEAD = 5


class Effect(enum.IntEnum):
    """Effect of a policy; the numbers are those of the public API."""

    ALLOW = 1
    DENY = 2


class NameConflict(enum.IntEnum):
    """What a registration does about live agents of the same name."""

    COEXIST = 0
    REPLACE = 1
    REJECT = 2


class Capability(NamedTuple):
    """Something an agent says it can do."""

    name: str
    description: str


class Card(NamedTuple):
    """How an agent describes itself."""

    name: str
    description: str
    version: str
    capabilities: tuple[Capability, ...]
    tools: tuple[str, ...]
    metadata: tuple[tuple[str, str], ...]
    """Sorted by key."""


class Agent(NamedTuple):
    """A registered agent. `deadline_ms`: the next step of its life (retention, once DEAD)."""

    agent_id: str
    card: Card
    ttl_ms: int
    status: int
    registered_wall_ms: int
    heartbeat_wall_ms: int
    deadline_ms: int
    reason: str
    order: int
    """Rises with every registration."""


class Lease(NamedTuple):
    """A held lease. `grant` names the waiting request it was granted to, until confirmed."""

    task_id: str
    holder: str
    token: int
    ttl_ms: int
    acquired_wall_ms: int
    expires_wall_ms: int
    deadline_ms: int
    grant: tuple[str, int] | None


class Waiter(NamedTuple):
    """A request waiting in line for a lease, known by session and request number."""

    task_id: str
    place: int
    """Rises with every waiter; the lowest is next."""
    agent_id: str
    ttl_ms: int
    session_id: str
    number: int
    deadline_ms: int


class Election(NamedTuple):
    """An election group. The first of `candidates`, who wait in order, is the leader."""

    group: str
    term: int
    elected_wall_ms: int
    changed_sequence: int
    candidates: tuple[str, ...]
    deadline_ms: int
    """When the group is forgotten, if it has no candidates; 0 otherwise."""

    @property
    def leader(self) -> str:
        """Agent id of the leader; empty when there is none."""
        return self.candidates[0] if self.candidates else ""


class Policy(NamedTuple):
    """Who may (or may not) do what on what; `*` stands for any characters."""

    policy_id: str
    subject: str
    action: str
    resource: str
    effect: int


class Task(NamedTuple):
    """A task without its input and output, which are kept beside it."""

    task_id: str
    type: str
    status: int
    required_tools: tuple[str, ...]
    max_retries: int
    retry_count: int
    expired_claims: int
    claimed_by: str
    claim_token: int
    failure_reason: str
    created_wall_ms: int
    claimed_wall_ms: int
    completed_wall_ms: int
    priority: int
    idempotency_key: str
    ttl_ms: int
    deadline_ms: int
    """End of the claim, or of the retention; 0 while PENDING."""
    order: int
    """Rises with every task."""


class Session(NamedTuple):
    """A client's (or a replica's) session: retries of its requests take effect once."""

    session_id: str
    identity: str
    ttl_ms: int
    window: int
    seen: int
    """All answers up to this request number have arrived and are forgotten."""
    deadline_ms: int


class Replica(NamedTuple):
    """What a replica said of itself when it started."""

    node_id: str
    endpoint: str
    build: str
    encoding: int
    """Newest command encoding it understands."""


class Event(NamedTuple):
    """Something that happened. `payload` is the packed record that `topic` implies."""

    sequence: int
    topic: str
    subject: str
    """Id of what it happened to: agent, lease key, group, task, policy."""
    reason: str
    wall_ms: int
    payload: bytes


class Refused(NamedTuple):
    """A definite no: the command changed nothing."""

    code: str
    reason: str
    message: str


class Registered(NamedTuple):
    """Answer to Register."""

    agent_id: str


class Acquired(NamedTuple):
    """Answer to AcquireLease: granted, or who holds it."""

    acquired: bool
    lease: Lease


class Waiting(NamedTuple):
    """Not an answer yet: the request waits in line, or found nothing that fits."""


class Done(NamedTuple):
    """Success without anything to tell."""


class Answer(NamedTuple):
    """What a session remembers of a request."""

    result: Result
    """`Waiting` while the request has no answer yet."""
    fingerprint: int
    """Of the request, so that another one under the same number is told apart."""
    attempt: int
    """The last call that asked (0: one that would not withdraw)."""


Result = (
    Registered | Lease | Election | Policy | Task | Session | Refused | Acquired | Waiting | Done
)
WAITING = Waiting()
DONE = Done()
