"""Who votes and who counts: how a cluster begins, and how a replica with an empty disk joins it.

The set of replicas is fixed, but not every one of them may take part. A replica whose disk was
emptied has forgotten votes and entries that others count on. If it simply took part again, entry
e, committed on A and B while C lagged, would be lost once B came back empty, A was cut off and B
and C elected C. So what is stored decides:

- Every data folder has an incarnation of its own, drawn when it is made. Replicas introduce
  themselves with it on every link before anything else.
- A cluster begins once. The replica with the lowest id waits until all others are linked and new
  like itself, and stores who they are: the founders. Whoever finds its own incarnation among the
  founders of another votes from then on; it is the same disk still, so nothing is forgotten.
- Everybody else who comes with an empty folder is a learner. It is sent the log, but does not
  vote, does not stand, and does not count for a commit, a read or the leader's majority. It too
  stores who the founders are, as soon as anybody tells it.
- A leader that meets a learner appends a no-op. Once a majority has it without counting the
  learner, and the learner has stored it too, the learner is admitted and votes from then on.
- A replica that names other founders belongs to another cluster, or to one that was begun a second
  time. Nothing that it says on this link is heard, and nothing that is stored is sent to it.

A folder that was restored from a snapshot (`restored`) is new as well, but not like an empty one:
all who begin a cluster must begin with the same. So only replicas restored from the same found one;
one that is empty joins it as a learner. One that was restored, and finds a cluster that began with
something else, stops: its log has nothing to do with that cluster's.

Founders are others if the two lists share no replica, or give one of them different incarnations.
They need not be equal: where a majority is enough to begin with, two replicas that have not heard
of each other yet may found one cluster at the same moment. Both their majorities are new and vote
from then on, in one cluster of the same members, and a replica in both makes the lists overlap.

That no-op (compare the catch-up of new servers, thesis 4.2.1) makes the admission safe. It is
committed in the leader's own term, so this leader was not deposed when the learner came, and its
log held all that was committed by then. And whoever may still count on a vote of the learner's
former incarnation has stood before that, so it lacks the no-op, and none of the majority that
stored it will vote for it (5.4.1).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from pysyncobj.node import Node

from agentkeeper.consensus import restored
from agentkeeper.consensus.internals import IntegrityError, RaftInternals, disk_errors
from agentkeeper.consensus.links.refusals import Refusal
from agentkeeper.consensus.messages import Introduction, Standing

logger = logging.getLogger(__name__)

_TOGETHER = (
    "restore all from the same file, or start those that were with --bootstrap if they are a "
    "majority, and the empty ones join them"
)


class Membership(RaftInternals):
    """Adds standings to the library's replica."""

    def __init__(self, *args: Any, bootstrap: bool, **kwargs: Any) -> None:
        self._bootstrap = bootstrap
        self._introductions: dict[Node, Introduction] = {}
        self._foreign: set[Node] = set()
        """Peers of another cluster, as they said on the present link."""
        super().__init__(*args, **kwargs)

    @property
    def standing(self) -> Standing:
        """What this replica is to the cluster."""
        if self.ballot.voter:
            return Standing.VOTER
        if restored.origin(self.incarnation):
            untouched = self.last_term == restored.TERM
        else:
            untouched = self.last_index == 1 and not self.last_term
        return Standing.NEW if untouched and not self.ballot.founders else Standing.LEARNER

    @property
    def at_odds(self) -> str:
        """Which new replicas can't begin a cluster with this one, why, and what to do about it."""
        own = restored.origin(self.incarnation)
        origins = {
            str(node.id): restored.origin(one.incarnation)
            for node, one in self._introductions.items()
            if one.standing is Standing.NEW
        }
        empty = sorted(name for name, origin in origins.items() if not origin)
        others = sorted(name for name, origin in origins.items() if origin not in ("", own))
        if own and others:
            return (
                f"it was restored from another file than {', '.join(others)}: "
                "restore all of them from the same one"
            )
        if own and empty:
            return f"it was restored from a snapshot, unlike {', '.join(empty)}: {_TOGETHER}"
        if others:
            return f"it came empty, unlike {', '.join(others)}: {_TOGETHER}"
        return ""

    @property
    def votes(self) -> bool:
        """Whether this replica votes and counts."""
        return bool(self.ballot.voter)

    def introduced(self, node: Node) -> bool:
        """Whether `node` has said on the present link who it is, and is of this cluster."""
        return node in self._introductions

    def counts(self, node: Node) -> bool:
        """Whether what `node` says and stores counts towards a majority."""
        introduction = self._introductions.get(node)
        return introduction is not None and introduction.standing is Standing.VOTER

    def introduce(self, node: Node) -> None:
        """Say on a new link, or after a change, who this replica is."""
        self.send(
            node,
            {
                "type": "introduction",
                "incarnation": self.incarnation,
                "standing": self.standing.value,
                "founders": dict(self.ballot.founders),
            },
        )

    def send(self, node: Node, message: dict[str, Any]) -> bool:
        """See `RaftInternals.send`; one of another cluster gets no more than the library's own.

        That are requests to vote, which it hears as little as it is heard.
        """
        return node not in self._foreign and super().send(node, message)

    def on_introduction(self, node: Node, message: Introduction) -> None:
        """Learn who is at the other end of a link."""
        if not _may_be_one_cluster(self.ballot.founders, message.founders):
            self._refuse(node, message.founders)
            return
        self._introductions[node] = message
        if self.votes:
            return
        if message.founders.get(str(self.selfNode.id)) == self.incarnation:
            logger.info("replica %s told who founded the cluster", node.id)
            self._vote_from_now_on(message.founders)
        elif message.founders and not self.ballot.founders:
            self._check_origin(node, message.founders)
            with disk_errors():
                self.ballot.store(founders=dict(message.founders))
            self._introduce_to_all()
        else:
            self._found_if_all_are_new()

    def forget_introduction(self, node: Node) -> None:
        """Another process may be at the other end of the next link."""
        self._introductions.pop(node, None)
        self._foreign.discard(node)

    def admitted(self) -> None:
        """Vote from now on, as the leader has allowed."""
        logger.info("this replica has caught up and votes from now on")
        self._vote_from_now_on(self.ballot.founders)

    def _refuse(self, node: Node, founders: Mapping[str, str]) -> None:
        self.forget_introduction(node)
        self._foreign.add(node)
        self.transport.note(
            Refusal.OTHER_CLUSTER,
            f"replica {node.id} belongs to another cluster: that was founded by "
            f"{_named(founders)}, this one by {_named(self.ballot.founders)}; correct the peers' "
            "addresses, or let the replica that is wrong join again with an empty data folder",
        )

    def _check_origin(self, node: Node, founders: Mapping[str, str]) -> None:
        own = restored.origin(self.incarnation)
        if own and own not in map(restored.origin, founders.values()):
            raise IntegrityError(
                f"this data folder was restored from a snapshot, but the cluster of replica "
                f"{node.id} began with something else; to join that cluster, remove the folder and "
                "start empty"
            )

    def _found_if_all_are_new(self) -> None:
        if self.standing is not Standing.NEW or any(
            introduction.standing is not Standing.NEW
            for introduction in self._introductions.values()
        ):
            return
        own = restored.origin(self.incarnation)
        founders = {
            str(node.id): one.incarnation
            for node, one in self._introductions.items()
            if restored.origin(one.incarnation) == own
        }
        enough = self.majority if self._bootstrap else len(self.others) + 1
        if len(founders) + 1 < enough or min(founders, default=self.selfNode.id) < self.selfNode.id:
            return
        founders[str(self.selfNode.id)] = self.incarnation
        logger.info("a new cluster begins, founded by %s", ", ".join(sorted(founders)))
        self._vote_from_now_on(founders)

    def _vote_from_now_on(self, founders: Mapping[str, str]) -> None:
        with disk_errors():
            self.ballot.store(voter=True, founders=dict(sorted(founders.items())))
        self._introduce_to_all()

    def _introduce_to_all(self) -> None:
        for node in self.others:
            if node in self.linked:
                self.introduce(node)


def _may_be_one_cluster(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Tell whether two lists of founders can be of one cluster; one who has none may join any."""
    common = one.keys() & other.keys()
    agree = all(one[node_id] == other[node_id] for node_id in common)
    return not one or not other or (bool(common) and agree)


def _named(founders: Mapping[str, str]) -> str:
    return ", ".join(f"{node_id}={founders[node_id]}" for node_id in sorted(founders))
