"""How a leader lets a replica vote that came with an empty disk (see `membership`)."""

from __future__ import annotations

from pysyncobj.node import Node

from agentkeeper.consensus.entries import NO_OP
from agentkeeper.consensus.handover import Handover
from agentkeeper.consensus.internals import now_s
from agentkeeper.consensus.messages import Admit, Introduction


class Admission(Handover):
    """Adds learners to replication."""

    def on_introduction(self, node: Node, message: Introduction) -> None:
        """See `Membership.on_introduction`; a new voter's stored entries count from now on."""
        super().on_introduction(node, message)
        if self.leads:
            self.count(node, self.peers[node])

    def admit_learners(self) -> None:
        """Append the entry that each learner must have stored, and admit those that have it."""
        if not self.leads:
            return
        for node, peer in self.peers.items():
            if not self.introduced(node) or self.counts(node):
                continue
            if peer.admission_index is None:
                if not (self.full or self.transferring):
                    peer.admission_index = self.last_index + 1
                    self.add_entry(NO_OP, peer.admission_index, self.term)
                    self.heartbeat_due_at(0.0)
            elif (
                min(self.commit_index, peer.match_index) >= peer.admission_index
                and now_s() >= peer.admit_again_s
            ):
                peer.admit_again_s = now_s() + self.conf.appendEntriesPeriod
                admission = {"term": self.term, "index": peer.admission_index}
                self.send(node, {"type": "admit", **admission})

    def on_admit(self, node: Node, message: Admit) -> None:
        """Vote from now on, if all that the leader asks for is stored here."""
        if self.votes:
            self.introduce(node)  # it has not heard yet
        elif (message.term, node) == (self.term, self.leader) and (
            self.durable_index >= message.index
        ):
            self.admitted()
