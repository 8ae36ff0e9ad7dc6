"""ClusterService: what this replica knows of itself and the others, and what operators do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.core import counts, limits
from agentkeeper.core.codec import ENCODING
from agentkeeper.core.snapshot import pack_snapshot
from agentkeeper.server import validation as v
from agentkeeper.server.build import BUILD
from agentkeeper.server.caller import Caller
from agentkeeper.server.cluster_view import ClusterView, PeerView
from agentkeeper.server.errors import overloaded
from agentkeeper.server.moves import LeaderMoves
from agentkeeper.server.replica import Replica, shutting_down
from agentkeeper.server.services.method import Method, Stream, Subscription, Unary
from agentkeeper.server.vitals import Seen

STALLED_S: Final = 30.0
"""A caller that takes nothing of a snapshot for so long gives its place to another."""

_ROLES = {
    "follower": pb.REPLICA_ROLE_FOLLOWER,
    "candidate": pb.REPLICA_ROLE_CANDIDATE,
    "leader": pb.REPLICA_ROLE_LEADER,
}


@dataclass(slots=True)
class ClusterService:
    """Handlers of agentkeeper.v1.ClusterService.

    `view` looks at the engine, `vitals` at what the replicas said of themselves; `uptime_ms` and
    `wall_ms` are clocks.
    """

    replica: Replica
    view: Callable[[], ClusterView]
    vitals: Callable[[], Mapping[str, Seen]]
    moves: LeaderMoves
    uptime_ms: Callable[[], int]
    wall_ms: Callable[[], int]
    _snapshots: int = field(default=0, init=False)
    """How many are being sent."""

    def methods(self) -> list[Method]:
        """All methods of the service."""
        return [
            Unary("Status", pb.StatusRequest, self.status),
            Unary("Summary", pb.SummaryRequest, self.summary),
            Unary("MoveLeader", pb.MoveLeaderRequest, self.move_leader),
            Stream("SaveSnapshot", pb.SaveSnapshotRequest, self.save_snapshot, STALLED_S),
        ]

    async def status(self, request: pb.StatusRequest, caller: Caller) -> pb.StatusResponse:
        """Tell what this replica knows, without asking others."""
        view, state, vitals = self.view(), self.replica.state, self.vitals()
        return pb.StatusResponse(
            node_id=view.node_id,
            role=_ROLES[view.role],
            term=view.term,
            commit_index=view.commit_index,
            applied_index=self.replica.machine.applied_index,
            last_log_index=view.last_log_index,
            leader_node_id=view.leader_id,
            leader_endpoint=view.leader_endpoint,
            replicas=[_replica(peer, vitals.get(peer.node_id)) for peer in view.peers],
            version=BUILD,
            not_ready_reason=view.not_ready_reason,
            digest=state.digest(),
            cluster_time_ms=state.time_ms,
            cluster_version=state.cluster_version,
            newest_version=ENCODING,
            uptime_ms=self.uptime_ms(),
        )

    async def summary(self, request: pb.SummaryRequest, caller: Caller) -> pb.SummaryResponse:
        """Tell how much of everything there is, as of this replica's state."""
        state = self.replica.state
        return pb.SummaryResponse(
            **counts.count(state)._asdict(),
            oldest_pending_ms=counts.oldest_pending_ms(state, self.wall_ms()),
            last_sequence=state.last_sequence,
            first_sequence=state.first_sequence,
        )

    async def move_leader(
        self, request: pb.MoveLeaderRequest, caller: Caller
    ) -> pb.MoveLeaderResponse:
        """Have another replica lead."""
        to = v.line(request.to_node_id, "to_node_id", limits.NODE_ID_BYTES, empty=True)
        leader_id, term = await self.moves.move(to, caller.deadline_s)
        return pb.MoveLeaderResponse(leader_node_id=leader_id, term=term)

    async def save_snapshot(self, request: pb.SaveSnapshotRequest, caller: Caller) -> Subscription:
        """Send the state as of now, piece by piece, while it goes on."""
        await self.replica.read(caller)
        return Subscription(self._snapshot(), None)

    async def _snapshot(self) -> AsyncGenerator[bytes, None]:
        """Pack a snapshot as it is taken: what a slow reader holds up is its own copy only."""
        if self._snapshots >= limits.SNAPSHOTS_SENT:
            raise overloaded(f"{limits.SNAPSHOTS_SENT} snapshots are being sent by this replica")
        self._snapshots += 1
        try:
            captured = await self.replica.machine.capture()
            log_index, pieces = captured.log_index, pack_snapshot(captured)
            del captured  # or all of it would be held to the end
            while (data := await asyncio.to_thread(next, pieces, None)) is not None:
                if self.replica.closing.is_set():
                    raise shutting_down()
                yield pb.SnapshotPiece(data=data, log_index=log_index).SerializeToString()
                log_index = 0
        finally:
            self._snapshots -= 1


def _replica(peer: PeerView, seen: Seen | None) -> pb.Replica:
    return pb.Replica(
        node_id=peer.node_id,
        endpoint=peer.endpoint,
        connected=peer.connected,
        match_index=peer.match_index,
        vitals=None if seen is None else _vitals(seen),
    )


def _vitals(seen: Seen) -> pb.Vitals:
    said = seen.vitals
    return pb.Vitals(
        role=_ROLES.get(said.role, pb.REPLICA_ROLE_UNSPECIFIED),
        term=said.term,
        commit_index=said.commit_index,
        applied_index=said.applied_index,
        not_ready_reason=said.not_ready_reason,
        version=said.build,
        age_ms=seen.age_ms,
    )
