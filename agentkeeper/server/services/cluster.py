"""ClusterService: what this replica knows of itself and the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.server.caller import Caller
from agentkeeper.server.cluster_view import ClusterView
from agentkeeper.server.replica import Replica
from agentkeeper.server.services.method import Method, Unary

_ROLES = {
    "follower": pb.REPLICA_ROLE_FOLLOWER,
    "candidate": pb.REPLICA_ROLE_CANDIDATE,
    "leader": pb.REPLICA_ROLE_LEADER,
}


@dataclass(frozen=True, slots=True)
class ClusterService:
    """Handlers of agentkeeper.v1.ClusterService. `view` looks at the engine."""

    replica: Replica
    view: Callable[[], ClusterView]

    def methods(self) -> list[Method]:
        """All methods of the service."""
        return [Unary("Status", pb.StatusRequest, self.status)]

    async def status(self, request: pb.StatusRequest, caller: Caller) -> pb.StatusResponse:
        """Tell what this replica knows, without asking others."""
        view, state = self.view(), self.replica.state
        return pb.StatusResponse(
            node_id=view.node_id,
            role=_ROLES[view.role],
            term=view.term,
            commit_index=view.commit_index,
            applied_index=self.replica.machine.applied_index,
            last_log_index=view.last_log_index,
            leader_node_id=view.leader_id,
            leader_endpoint=view.leader_endpoint,
            replicas=[
                pb.Replica(
                    node_id=peer.node_id,
                    endpoint=peer.endpoint,
                    connected=peer.connected,
                    match_index=peer.match_index,
                )
                for peer in view.peers
            ],
            version=version("agentkeeper"),
            not_ready_reason=view.not_ready_reason,
            digest=state.digest(),
            cluster_time_ms=state.time_ms,
        )
