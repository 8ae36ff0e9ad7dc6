"""How things stood when the engine last looked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pysyncobj.node import Node

from agentkeeper.consensus.port import EngineStatus, PeerStatus, Role
from agentkeeper.consensus.raft import HardenedRaft


class Picture(NamedTuple):
    """Taken between two steps, and turned into a status only when somebody asks for one."""

    role: Role = Role.FOLLOWER
    term: int = 0
    leader: Node | None = None
    commit_index: int = 0
    delivered_index: int = 0
    last_log_index: int = 0
    durable_index: int = 0
    first_log_index: int = 1
    log_bytes: int = 0
    voter: bool = False
    trouble: str = ""
    linked: frozenset[Node] = frozenset()
    match_index: tuple[int, ...] | None = None
    """Of each other replica, in the order of their ids; None unless this one leads."""

    @classmethod
    def of(cls, raft: HardenedRaft) -> Picture:
        """Look, in few steps, as this is on the way of every proposal."""
        return cls(
            role=raft.role,
            term=raft.term,
            leader=raft.leader,
            commit_index=raft.commit_index,
            delivered_index=raft.delivered_index,
            last_log_index=raft.last_index,
            durable_index=raft.durable_index,
            first_log_index=raft.first_index,
            log_bytes=raft.log_bytes,
            voter=raft.votes,
            trouble=raft.trouble,
            linked=frozenset(raft.linked),
            match_index=tuple(raft.peers[node].match_index for node in raft.others)
            if raft.leads
            else None,
        )

    def status(
        self, node_id: str, others: Sequence[Node], refused: Mapping[str, int], proposals: int
    ) -> EngineStatus:
        """Give the status of `node_id` among `others`, which are in the order of their ids."""
        matches = self.match_index or (None,) * len(others)
        return EngineStatus(
            node_id=node_id,
            role=self.role,
            term=self.term,
            leader_id=None if self.leader is None else str(self.leader.id),
            commit_index=self.commit_index,
            delivered_index=self.delivered_index,
            last_log_index=self.last_log_index,
            durable_index=self.durable_index,
            first_log_index=self.first_log_index,
            log_bytes=self.log_bytes,
            proposals=proposals,
            voter=self.voter,
            trouble=self.trouble,
            refused=refused,
            peers={
                str(node.id): PeerStatus(connected=node in self.linked, match_index=match)
                for node, match in zip(others, matches, strict=True)
            },
        )
