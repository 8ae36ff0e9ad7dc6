"""Between protobuf messages and the dataclasses of `agentkeeper.types`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.types import (
    AgentCard,
    AgentInfo,
    AgentStatus,
    Capability,
    Election,
    ElectionState,
    EventPayload,
    Explanation,
    FindMode,
    FoundAgent,
    FoundAgents,
    Lease,
    LeaseInfo,
    Policy,
    PolicyEffect,
    ReplicaRole,
    ReplicaStatus,
    ReplicaView,
    ReplicaVitals,
    Summary,
    Task,
    TaskStatus,
    WatchEvent,
)

NumberT = TypeVar("NumberT")
_NAME_CONFLICT: dict[str, pb.NameConflict] = {
    "coexist": pb.NAME_CONFLICT_UNSPECIFIED,
    "replace": pb.NAME_CONFLICT_REPLACE,
    "reject": pb.NAME_CONFLICT_REJECT,
}
MemberT = TypeVar("MemberT")

_AGENT_STATUS: Mapping[pb.AgentStatus, AgentStatus] = {
    pb.AGENT_STATUS_ALIVE: AgentStatus.ALIVE,
    pb.AGENT_STATUS_UNREACHABLE: AgentStatus.UNREACHABLE,
    pb.AGENT_STATUS_DEAD: AgentStatus.DEAD,
}
_FIND_MODE: Mapping[pb.FindMode, FindMode] = {
    pb.FIND_MODE_UNRANKED: FindMode.UNRANKED,
    pb.FIND_MODE_LEXICAL: FindMode.LEXICAL,
    pb.FIND_MODE_SEMANTIC: FindMode.SEMANTIC,
}
_TASK_STATUS: Mapping[pb.TaskStatus, TaskStatus] = {
    pb.TASK_STATUS_PENDING: TaskStatus.PENDING,
    pb.TASK_STATUS_CLAIMED: TaskStatus.CLAIMED,
    pb.TASK_STATUS_COMPLETED: TaskStatus.COMPLETED,
    pb.TASK_STATUS_FAILED: TaskStatus.FAILED,
    pb.TASK_STATUS_DEAD: TaskStatus.DEAD,
}
_EFFECT: Mapping[pb.PolicyEffect, PolicyEffect] = {
    pb.POLICY_EFFECT_ALLOW: PolicyEffect.ALLOW,
    pb.POLICY_EFFECT_DENY: PolicyEffect.DENY,
}
_ROLE: Mapping[int, ReplicaRole] = {
    pb.REPLICA_ROLE_FOLLOWER: ReplicaRole.FOLLOWER,
    pb.REPLICA_ROLE_CANDIDATE: ReplicaRole.CANDIDATE,
    pb.REPLICA_ROLE_LEADER: ReplicaRole.LEADER,
}


def time_from(message: Timestamp) -> datetime:
    """Return an aware UTC datetime (the epoch where the field is absent)."""
    return message.ToDatetime(tzinfo=UTC)


def _optional_time(message: Message, name: str) -> datetime | None:
    return time_from(getattr(message, name)) if message.HasField(name) else None


def agent_from(message: pb.AgentInfo) -> AgentInfo:
    """Convert an agent."""
    card = message.card
    return AgentInfo(
        agent_id=message.agent_id,
        card=AgentCard(
            name=card.name,
            description=card.description,
            version=card.version,
            tools=list(card.tools),
            metadata=dict(card.metadata),
            capabilities=[Capability(c.name, c.description) for c in card.capabilities],
        ),
        status=_AGENT_STATUS.get(message.status, AgentStatus.UNKNOWN),
        registered_at=time_from(message.registered_at),
        last_heartbeat_at=time_from(message.last_heartbeat_at),
        reason=message.reason,
        ttl_seconds=message.ttl_seconds,
    )


def found_from(message: pb.FindResponse) -> FoundAgents:
    """Convert what was found. Daemons of earlier versions tell neither scores nor mode."""
    agents = [agent_from(agent) for agent in message.agents]
    told = len(message.scores) == len(agents)
    scores = message.scores if told else [0.0] * len(agents)
    names = [field.name for field in dataclasses.fields(AgentInfo)]
    found = (
        FoundAgent(**{name: getattr(agent, name) for name in names}, score=score)
        for agent, score in zip(agents, scores, strict=True)
    )
    return FoundAgents(found, _FIND_MODE.get(message.mode, FindMode.UNKNOWN), message.pending)


def agent_status_to(status: AgentStatus | str) -> pb.AgentStatus:
    """Convert a status, given as the enum or its name. Raises ValueError for anything else."""
    return _number_of(AgentStatus(status), _AGENT_STATUS)


def lease_from(message: pb.Lease) -> Lease:
    """Convert a lease."""
    return Lease(
        task_id=message.task_id,
        holder_agent_id=message.holder_agent_id,
        token=message.token.value,
        acquired_at=time_from(message.acquired_at),
        expires_at=time_from(message.expires_at),
        ttl_seconds=message.ttl_seconds,
        reason=message.reason,
    )


def lease_info_from(message: pb.LeaseInfo) -> LeaseInfo:
    """Convert a lease with those who wait for it."""
    return LeaseInfo(
        lease=lease_from(message.lease),
        remaining_ms=message.remaining_ms,
        waiting_agent_ids=list(message.waiting_agent_ids),
        waiting=message.waiting,
    )


def election_from(message: pb.ElectionState) -> ElectionState:
    """Convert an election's state."""
    return ElectionState(
        group=message.group,
        leader_agent_id=message.leader_agent_id,
        term=message.term,
        elected_at=_optional_time(message, "elected_at"),
    )


def candidates_from(message: pb.Election) -> Election:
    """Convert an election with its candidates."""
    return Election(
        state=election_from(message.state),
        candidate_agent_ids=list(message.candidate_agent_ids),
        candidates=message.candidates,
    )


def policy_from(message: pb.Policy) -> Policy:
    """Convert a policy."""
    return Policy(
        id=message.id,
        subject=message.subject,
        action=message.action,
        resource=message.resource,
        effect=_EFFECT.get(message.effect, PolicyEffect.UNKNOWN),
    )


def explanation_from(message: pb.ExplainPolicyResponse) -> Explanation:
    """Convert the explanation of a check."""
    return Explanation(
        allowed=message.allowed,
        reason=message.reason,
        policy_id=message.policy_id,
        matching=[policy_from(policy) for policy in message.matching],
        matches=message.matches,
    )


def effect_to(effect: PolicyEffect | str) -> pb.PolicyEffect:
    """Convert an effect, given as the enum or its name. Raises ValueError for anything else."""
    wanted = PolicyEffect(effect)
    return _number_of(wanted, _EFFECT)


def task_from(message: pb.Task) -> Task:
    """Convert a task."""
    return Task(
        id=message.id,
        type=message.type,
        status=_TASK_STATUS.get(message.status, TaskStatus.UNKNOWN),
        input=message.input,
        output=message.output,
        required_tools=list(message.required_tools),
        max_retries=message.max_retries,
        retry_count=message.retry_count,
        claimed_by_agent_id=message.claimed_by_agent_id,
        failure_reason=message.failure_reason,
        created_at=time_from(message.created_at),
        claimed_at=_optional_time(message, "claimed_at"),
        completed_at=_optional_time(message, "completed_at"),
        claim_token=message.claim_token,
        priority=message.priority,
        idempotency_key=message.idempotency_key,
        expired_claims=message.expired_claims,
        ttl_seconds=message.ttl_seconds,
    )


def task_status_to(status: TaskStatus | str) -> pb.TaskStatus:
    """Convert a status, given as the enum or its name. Raises ValueError for anything else."""
    wanted = TaskStatus(status)
    return _number_of(wanted, _TASK_STATUS)


def name_conflict_to(wanted: str) -> pb.NameConflict:
    """Convert what to do about equal names. Raises ValueError for an unknown word."""
    if wanted not in _NAME_CONFLICT:
        raise ValueError(f"on_name_conflict must be one of {', '.join(_NAME_CONFLICT)}")
    return _NAME_CONFLICT[wanted]


def _number_of(wanted: MemberT, members: Mapping[NumberT, MemberT]) -> NumberT:
    for number, known in members.items():
        if known is wanted:
            return number
    raise ValueError(f"{wanted} can't be asked for")


def replica_from(endpoint: str, message: pb.StatusResponse) -> ReplicaStatus:
    """Convert the status of the replica asked at `endpoint`."""
    return ReplicaStatus(
        endpoint=endpoint,
        node_id=message.node_id,
        role=_ROLE.get(message.role, ReplicaRole.UNKNOWN),
        term=message.term,
        commit_index=message.commit_index,
        applied_index=message.applied_index,
        last_log_index=message.last_log_index,
        leader_node_id=message.leader_node_id,
        leader_endpoint=message.leader_endpoint,
        version=message.version,
        not_ready_reason=message.not_ready_reason,
        digest=message.digest,
        cluster_version=message.cluster_version,
        newest_version=message.newest_version,
        uptime_ms=message.uptime_ms,
        replicas=[_view_from(replica) for replica in message.replicas],
    )


def _view_from(message: pb.Replica) -> ReplicaView:
    return ReplicaView(
        node_id=message.node_id,
        endpoint=message.endpoint,
        connected=message.connected,
        match_index=message.match_index if message.HasField("match_index") else None,
        vitals=_vitals_from(message.vitals) if message.HasField("vitals") else None,
    )


def _vitals_from(message: pb.Vitals) -> ReplicaVitals:
    return ReplicaVitals(
        role=_ROLE.get(message.role, ReplicaRole.UNKNOWN),
        term=message.term,
        commit_index=message.commit_index,
        applied_index=message.applied_index,
        not_ready_reason=message.not_ready_reason,
        version=message.version,
        age_ms=message.age_ms,
    )


def summary_from(message: pb.SummaryResponse) -> Summary:
    """Convert the counts of everything."""
    return Summary(**{f.name: getattr(message, f.name) for f in dataclasses.fields(Summary)})


_PAYLOADS: Mapping[str, tuple[type[Message], Callable[[Any], tuple[EventPayload, str]]]] = {
    kind.DESCRIPTOR.full_name: (kind, convert)
    for kind, convert in (
        (pb.AgentInfo, lambda message: (agent_from(message), message.reason)),
        (pb.AgentRecovered, lambda message: (agent_from(message.agent), "")),
        (pb.Lease, lambda message: (lease_from(message), message.reason)),
        (pb.ElectionState, lambda message: (election_from(message), "")),
        (pb.TaskChanged, lambda message: (task_from(message.task), message.reason)),
        (pb.PolicyChanged, lambda message: (policy_from(message.policy), "")),
    )
}


def event_from(message: pb.Event) -> WatchEvent:
    """Convert an event; a payload of an unknown kind becomes None."""
    payload: EventPayload = None
    reason = ""
    known = _PAYLOADS.get(message.payload.TypeName())
    if known is not None:
        kind, convert = known
        payload, reason = convert(kind.FromString(message.payload.value))
    return WatchEvent(
        topic=message.topic,
        sequence=message.sequence_number,
        timestamp=time_from(message.occurred_at),
        payload=payload,
        reason=reason,
    )
