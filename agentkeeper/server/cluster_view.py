"""One replica's view of the cluster: what its engine says, joined with what replicas announced."""

from __future__ import annotations

from dataclasses import dataclass

from agentkeeper.consensus.port import EngineStatus, Role
from agentkeeper.core.state import State


@dataclass(frozen=True, slots=True)
class PeerView:
    """A replica of the cluster, as this one sees it."""

    node_id: str
    endpoint: str
    """Where clients reach it; empty until it has announced itself."""
    connected: bool
    match_index: int | None


@dataclass(frozen=True, slots=True)
class ClusterView:
    """What this replica knows."""

    node_id: str
    role: str
    term: int
    commit_index: int
    last_log_index: int
    leader_id: str
    leader_endpoint: str
    peers: tuple[PeerView, ...]
    not_ready_reason: str


def view_of(status: EngineStatus, state: State, not_ready_reason: str) -> ClusterView:
    """Join the engine's status with the state's replicas."""
    leader_id = status.leader_id or ""
    peers = [
        PeerView(node_id, endpoint_of(state, node_id), peer.connected, peer.match_index)
        for node_id, peer in status.peers.items()
    ]
    own = status.last_log_index if status.role is Role.LEADER else None
    peers.append(PeerView(status.node_id, endpoint_of(state, status.node_id), True, own))
    return ClusterView(
        node_id=status.node_id,
        role=status.role.value,
        term=status.term,
        commit_index=status.commit_index,
        last_log_index=status.last_log_index,
        leader_id=leader_id,
        leader_endpoint=endpoint_of(state, leader_id),
        peers=tuple(sorted(peers, key=lambda peer: peer.node_id)),
        not_ready_reason=not_ready_reason,
    )


def endpoint_of(state: State, node_id: str) -> str:
    """Where clients reach a replica; empty if it has not announced itself."""
    replica = state.replicas.get(node_id)
    return "" if replica is None else replica.endpoint
