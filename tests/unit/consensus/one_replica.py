"""One replica whose messages a test feeds by hand: the test plays all the others."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pysyncobj import syncobj
from pysyncobj.node import Node
from pysyncobj.transport import Transport
from simulated_disk import SimulatedDisk

from agentkeeper.consensus.config import RaftConfig
from agentkeeper.consensus.engine import RaftEngine
from agentkeeper.consensus.links.refusals import Refusal
from agentkeeper.consensus.port import Outcome, Role

Message = dict[str, Any]


class Wire(Transport):
    def __init__(self, node: Node) -> None:
        super().__init__(None, node, [])
        self.sent: list[tuple[str, Message]] = []
        self.notes: list[tuple[str, str]] = []

    def send(self, node: Node, message: Message) -> bool:
        self.sent.append((node.id, message))
        return True

    def rejuvenate(self, span_s: float) -> None:
        pass

    def note(self, reason: Refusal, text: str) -> None:
        self.notes.append((reason.value, text))


class Clock:
    def __init__(self) -> None:
        self.time_s = 1000.0
        self.per_read_s = 0.0

    def now(self) -> float:
        self.time_s += self.per_read_s
        return self.time_s


class Ignorant:
    """A listener that does not care."""

    def __init__(self) -> None:
        self.failure: str | None = None

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments: None

    def failed(self, reason: str) -> None:
        self.failure = reason


class Replica:
    """A replica with all its links up; of a cluster that has begun, unless `new`."""

    def __init__(
        self,
        disk: SimulatedDisk | None = None,
        node_id: str = "a",
        *,
        ids: str = "abc",
        new: bool = False,
        **settings: Any,
    ) -> None:
        self.disk = disk or SimulatedDisk(random.Random(0))
        self.peers = ids.replace(node_id, "")
        config = RaftConfig(node_id, peers=dict.fromkeys(ids, "localhost:1"), **settings)
        self.incarnation = f"of {node_id}"
        self.engine = RaftEngine(
            config, transport=Wire, disk=self.disk, draw_incarnation=lambda: self.incarnation
        )
        self.listener = Ignorant()
        self.engine.open(self.listener)
        assert self.engine._raft is not None
        self.raft = self.engine._raft
        self.wire: Wire = self.raft.transport
        self.founders = {member: f"of {member}" for member in ids}
        for peer in self.peers:
            self.link(peer)
            if not new:
                self.introduce(peer)

    # --- links -----------------------------------------------------------------------------------
    def link(self, peer: str) -> None:
        self.wire._onNodeConnected(Node(peer))

    def cut(self, peer: str) -> None:
        self.wire._onNodeDisconnected(Node(peer))

    def introduce(
        self, peer: str, standing: str = "voter", founders: dict[str, str] | None = None
    ) -> list[tuple[str, Message]]:
        """Let a peer say who it is; one that votes knows the founders."""
        if founders is None:
            founders = self.founders if standing == "voter" else {}
        said = {"incarnation": f"of {peer}", "standing": standing, "founders": founders}
        return self.receive(peer, type="introduction", **said)

    def relink(self, peer: str, standing: str = "voter") -> None:
        self.cut(peer)
        self.link(peer)
        self.introduce(peer, standing)

    # --- messages --------------------------------------------------------------------------------
    def receive(self, sender: str, **message: Any) -> list[tuple[str, Message]]:
        """Hand a message in and give what is sent because of it."""
        before = len(self.wire.sent)
        self.wire._onMessageReceived(Node(sender), message)
        return self.wire.sent[before:]

    def step(self) -> list[tuple[str, Message]]:
        before = len(self.wire.sent)
        self.engine.step()
        return self.wire.sent[before:]

    def flush(self) -> list[tuple[str, Message]]:
        before = len(self.wire.sent)
        self.raft.flush()
        return self.wire.sent[before:]

    def sent(self, kind: str) -> list[tuple[str, Message]]:
        return [(to, message) for to, message in self.wire.sent if message["type"] == kind]

    def receive_append(
        self, sender: str, term: int, prev: tuple[int, int], *terms: int, commit: int = 1
    ) -> list[tuple[str, Message]]:
        index, prev_term = prev
        entries = [(b"\0%d" % entry, at, entry) for at, entry in enumerate(terms, index + 1)]
        return self.receive(
            sender,
            type="append_entries",
            term=term,
            round=1,
            commit_index=commit,
            prevLogIdx=index,
            prevLogTerm=prev_term,
            entries=entries,
        )

    def append(
        self, sender: str, term: int, prev: tuple[int, int], *terms: int, commit: int = 1
    ) -> Message:
        """Let a leader append, and give the one answer, which comes at once or with the flush."""
        at_once = self.receive_append(sender, term, prev, *terms, commit=commit)
        ((to, reply),) = at_once + self.flush()
        assert to == sender
        return reply

    def answer(self, sender: str, next_index: int, **changed: Any) -> None:
        message = {"term": self.raft.term, "round": self.raft.round, "success": True}
        message |= {"type": "next_node_idx", "next_node_idx": next_index, "reset": False}
        self.receive(sender, **(message | changed))

    def ask_vote(self, sender: str, term: int, *, pre: bool = False) -> bool:
        last = {"last_log_index": self.raft.last_index, "last_log_term": self.raft.last_term}
        ((_, reply),) = self.receive(sender, type="request_vote", term=term, pre=pre, **last)
        return bool(reply["granted"])

    # --- leading ---------------------------------------------------------------------------------
    def stand(self) -> None:
        self.raft.stand_now()
        self.engine.step()
        assert self.raft.role is Role.CANDIDATE

    def vote(self, voter: str, *, term: int | None = None, pre: bool = False) -> None:
        """Let a peer grant a vote."""
        term = self.raft.term if term is None else term
        vote = {"term": self.raft.term, "for_term": term, "granted": True, "pre": pre}
        self.receive(voter, type="response_vote", **vote)

    def lead(self) -> None:
        self.stand()
        self.vote("b")
        assert self.raft.role is Role.LEADER

    def propose(self, payload: bytes = b"x") -> list[Outcome]:
        outcomes: list[Outcome] = []
        self.engine.propose(payload, 60.0, outcomes.append)
        return outcomes

    def terms(self) -> list[int]:
        return [term for _, _, term in self.raft.log[:]]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(syncobj, "monotonicTime", made.now)
    return made


@pytest.fixture
def make(clock: Clock) -> Iterator[Callable[..., Replica]]:
    made: list[Replica] = []

    def new(*arguments: Any, **settings: Any) -> Replica:
        made.append(Replica(*arguments, **settings))
        return made[-1]

    yield new
    for replica in made:
        replica.engine.stop()


@pytest.fixture
def replica(make: Callable[..., Replica]) -> Replica:
    return make()
