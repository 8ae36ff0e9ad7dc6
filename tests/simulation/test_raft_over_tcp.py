"""Three engines with their threads, over loopback TCP."""

from __future__ import annotations

import os
import pickle
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgpack
import pytest
from certificates import Authority

from agentkeeper.consensus import limits
from agentkeeper.consensus.config import RaftConfig, TlsFiles
from agentkeeper.consensus.engine import RaftEngine
from agentkeeper.consensus.port import Outcome, Role, StartError


class Listener:
    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.roles: list[Role] = []
        self.engine: RaftEngine
        self.state: list[tuple[int, bytes]] = []
        self.messages: list[tuple[str, bytes]] = []
        self.restored_at: list[int] = []
        self.failure: str | None = None

    def committed(self, index: int, term: int, payload: bytes) -> None:
        self.state.append((index, payload))
        self.cluster.changed()

    def restored(self, index: int, term: int, snapshot: bytes) -> None:
        self.state = pickle.loads(snapshot)
        self.restored_at.append(index)
        self.cluster.changed()

    def role_changed(self, role: Role, term: int, leader_id: str | None) -> None:
        self.roles.append(role)
        self.cluster.changed()

    def received(self, sender_id: str, payload: bytes) -> None:
        self.messages.append((sender_id, payload))
        self.cluster.changed()

    def snapshot_wanted(self) -> None:
        self.engine.save_snapshot(self.state[-1][0], [pickle.dumps(self.state)])

    def failed(self, reason: str) -> None:
        self.failure = reason
        self.cluster.changed()


class Cluster:
    def __init__(
        self, folder: Path, secret: str | None = None, tls: dict[str, TlsFiles] | None = None
    ) -> None:
        self.folder, self.secret, self.tls = folder, secret, tls or {}
        self.peers = {node_id: f"127.0.0.1:{free_port()}" for node_id in "abc"}
        self.engines: dict[str, RaftEngine] = {}
        self.listeners: dict[str, Listener] = {}
        self._condition = threading.Condition()

    def start(self, node_id: str) -> None:
        config = RaftConfig(
            node_id,
            self.folder / node_id,
            peers=self.peers,
            secret=self.secret,
            tls=self.tls.get(node_id),
            snapshot_entries=50,
        )
        engine, listener = RaftEngine(config), Listener(self)
        listener.engine = engine
        engine.start(listener)
        self.engines[node_id], self.listeners[node_id] = engine, listener

    def stop(self, node_id: str) -> None:
        self.engines.pop(node_id).stop()

    def changed(self) -> None:
        with self._condition:
            self._condition.notify_all()

    def await_true(self, condition: Callable[[], object]) -> None:
        with self._condition:
            # Links come up without an event of the port's, so look now and then as well.
            for _ in range(1000):
                if condition():
                    return
                self._condition.wait(0.01)
        pytest.fail("the condition did not come true in ten seconds")

    def leader(self) -> str:
        def leaders() -> list[str]:
            status = {node_id: engine.status() for node_id, engine in self.engines.items()}
            return [node_id for node_id in status if status[node_id].role is Role.LEADER]

        self.await_true(lambda: len(leaders()) == 1)
        return leaders()[0]

    def propose(self, *payloads: bytes) -> list[Outcome]:
        engine = self.engines[self.leader()]
        outcomes: list[Outcome] = []
        for payload in payloads:
            engine.propose(payload, 5.0, lambda outcome: (outcomes.append(outcome), self.changed()))
        self.await_true(lambda: len(outcomes) == len(payloads))
        return outcomes


def log_begin(engine: RaftEngine) -> int:
    assert engine._raft is not None
    return engine._raft.first_index


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(params=["plain", "secret", "tls"])
def cluster(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    authority = Authority(tmp_path)
    made = {
        "plain": lambda: Cluster(tmp_path),
        "secret": lambda: Cluster(tmp_path, "a shared secret"),
        "tls": lambda: Cluster(tmp_path, tls={name: authority.issue(name) for name in "abc"}),
    }[request.param]()
    for node_id in made.peers:
        made.start(node_id)
    yield made
    for node_id in list(made.engines):
        made.stop(node_id)


def test_a_cluster_lives_through_a_failover(cluster: Cluster) -> None:
    assert set(cluster.propose(*(b"%d" % number for number in range(10)))) == {Outcome.COMMITTED}
    lost = cluster.leader()
    cluster.stop(lost)
    payloads = [b"after %d" % number for number in range(200)]
    assert set(cluster.propose(*payloads)) == {Outcome.COMMITTED}
    cluster.await_true(lambda: all(log_begin(engine) > 12 for engine in cluster.engines.values()))
    cluster.start(lost)
    leader = cluster.leader()
    assert leader != lost
    cluster.await_true(lambda: cluster.listeners[lost].state == cluster.listeners[leader].state)
    assert len(cluster.listeners[lost].state) == 210
    assert cluster.listeners[lost].restored_at, "so far behind, only a snapshot could help"

    reads: list[int | None] = []
    cluster.engines[leader].read_index(5.0, lambda index: (reads.append(index), cluster.changed()))
    cluster.await_true(lambda: reads)
    assert reads[0] is not None
    assert reads[0] >= cluster.listeners[leader].state[-1][0]

    for node_id in list(cluster.engines):
        cluster.stop(node_id)
    for node_id in cluster.peers:
        cluster.start(node_id)
    cluster.propose(b"last")
    cluster.await_true(lambda: all(len(one.state) == 211 for one in cluster.listeners.values()))
    assert not any(listener.failure for listener in cluster.listeners.values())


def test_followers_reject_but_can_ask_the_leader(cluster: Cluster) -> None:
    leader = cluster.leader()
    follower = next(node_id for node_id in cluster.engines if node_id != leader)
    cluster.await_true(lambda: cluster.engines[follower].send(leader, b"please"))
    cluster.await_true(lambda: cluster.listeners[leader].messages)
    assert cluster.listeners[leader].messages == [(follower, b"please")]
    outcomes: list[Outcome] = []
    cluster.engines[follower].propose(
        b"no", 5.0, lambda outcome: (outcomes.append(outcome), cluster.changed())
    )
    cluster.await_true(lambda: outcomes)
    assert outcomes == [Outcome.REJECTED]


def test_leadership_is_handed_over_at_once(cluster: Cluster) -> None:
    cluster.propose(b"x")
    leader = cluster.leader()
    engine = cluster.engines[leader]
    cluster.await_true(
        lambda: all(
            p.match_index == engine.status().last_log_index for p in engine.status().peers.values()
        )
    )
    engine.transfer_leadership()
    cluster.stop(leader)
    assert cluster.listeners[leader].roles[-1] is Role.FOLLOWER, "it waited for its successor"
    assert cluster.leader() != leader


def test_a_flood_of_messages_does_not_delay_heartbeats(cluster: Cluster) -> None:
    leader = cluster.leader()
    cluster.propose(b"x")
    engine = cluster.engines[leader]
    term = engine.status().term
    follower = next(node_id for node_id in cluster.engines if node_id != leader)
    cluster.await_true(lambda: engine.status().peers[follower].connected)
    raft = engine._raft
    assert raft is not None
    node = next(node for node in raft.others if node.id == follower)
    stuck, go_on = threading.Event(), threading.Event()
    cluster.engines[follower]._post(lambda: (stuck.set(), go_on.wait(10)))
    assert stuck.wait(10)

    def send_more() -> bool:
        for _ in range(4):
            engine.send(follower, bytes(500_000))
        return not raft.takes_payloads(node)

    cluster.await_true(send_more)
    before = len(cluster.listeners[follower].messages)
    assert not engine.send(follower, b"one more")
    assert raft.unsent_bytes(node) < 4 * 2**20
    go_on.set()
    cluster.await_true(lambda: engine.send(follower, b"the last"))
    cluster.await_true(lambda: (leader, b"the last") in cluster.listeners[follower].messages)
    assert len(cluster.listeners[follower].messages) > before
    assert cluster.propose(b"y") == [Outcome.COMMITTED]
    assert engine.status().term == term


def test_a_message_larger_than_the_socket_takes_arrives_without_another(cluster: Cluster) -> None:
    leader = cluster.leader()
    sender, receiver = (node_id for node_id in cluster.engines if node_id != leader)
    cluster.await_true(lambda: cluster.engines[sender].status().peers[receiver].connected)
    # Followers say little to each other, so nothing pushes the rest.
    large = os.urandom(limits.MAX_PAYLOAD_BYTES)
    assert cluster.engines[sender].send(receiver, large)
    cluster.await_true(lambda: (sender, large) in cluster.listeners[receiver].messages)


def test_stop_returns_while_others_keep_asking(cluster: Cluster) -> None:
    leader = cluster.leader()
    engine = cluster.engines[leader]
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            engine.propose(b"x", 1.0, lambda outcome: None)

    asking = [threading.Thread(target=ask) for _ in range(2)]
    for thread in asking:
        thread.start()
    stopping = threading.Thread(target=cluster.stop, args=(leader,))
    stopping.start()
    stopping.join(20)
    over.set()
    assert not stopping.is_alive()
    for thread in asking:
        thread.join()


def test_addresses_that_cannot_be_used_harm_nothing(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    cluster.peers["a"] = "fe80::1%nowhere:7400"
    cluster.peers["0"] = f"{'x' * 70}.example:7400"
    for node_id in "bc":
        cluster.start(node_id)
    cluster.await_true(lambda: cluster.engines["c"].status().refused.get("unreachable", 0) > 4)
    assert not any(listener.failure for listener in cluster.listeners.values())
    for node_id in "bc":
        cluster.stop(node_id)


def test_strangers_and_nonsense_harm_nothing(cluster: Cluster) -> None:
    leader = cluster.leader()
    host, port = cluster.peers[leader].split(":")
    hello = {"protocol": 1, "from": "zz", "to": leader}
    for message in (["status"], {"not": ["a", "hello"]}, hello, "nobody", b"\0" * 32, 7):
        data = msgpack.packb(message)
        with socket.create_connection((host, int(port))) as stranger:
            stranger.sendall(struct.pack(">I", len(data)) + data + b"\xff" * 64)
            stranger.settimeout(5)
            try:
                while stranger.recv(4096):
                    pass
            except ConnectionError:
                pass
    assert cluster.propose(b"still here") == [Outcome.COMMITTED]
    assert not any(listener.failure for listener in cluster.listeners.values())


def test_a_taken_address_is_reported(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        cluster = Cluster(tmp_path)
        cluster.peers["a"] = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(StartError, match="cannot listen"):
            cluster.start("a")
