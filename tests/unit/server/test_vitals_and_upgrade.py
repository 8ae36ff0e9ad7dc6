"""What replicas tell each other of themselves, and when the cluster's version rises."""

from dataclasses import replace
from typing import Any

from agentkeeper.consensus.port import Outcome
from agentkeeper.core.codec import ENCODING, unpack, unpack_batch
from agentkeeper.core.commands import Announce, RaiseVersion
from agentkeeper.server.cluster_view import ClusterView, PeerView
from agentkeeper.server.messages import Vitals, pack_message, unpack_message
from agentkeeper.server.upgrade import HEARD_MS, Upgrade
from agentkeeper.server.vitals import FORGET_AFTER_S, GREET_EVERY_S, TELL_EVERY_S, Seen, VitalSigns

from .helpers import Log

VIEW = ClusterView("a", "leader", 4, 17, 18, "a", "a:1", (), "taking over as leader")


def view(*connected: str) -> ClusterView:
    return replace(VIEW, peers=tuple(PeerView(n, "", n in connected, None) for n in "abc"))


THEIRS = Vitals("follower", 4, 16, 15, "", "0.9")


class Signs:
    def __init__(self) -> None:
        self.now_s = 100.0
        self.sent: list[tuple[str, Vitals]] = []
        self.recent = {"b"}
        self.connected = {"b", "c"}
        self.talking: set[str] = set()
        self.signs = VitalSigns(
            "a",
            ["b", "c"],
            build="1.0",
            view=lambda: view(*self.connected),
            applied_index=lambda: 16,
            now_s=lambda: self.now_s,
            send=lambda node_id, vitals: bool(self.sent.append((node_id, vitals))),
            understands=lambda node_id: node_id in self.recent,
        )

    def pass_s(self, span_s: float) -> None:
        for _ in range(round(span_s * 8)):
            self.now_s += 0.125
            for node_id in self.talking:
                self.signs.told(node_id, THEIRS)
            self.signs.tick()


def test_all_who_know_the_message_are_told_once_a_second() -> None:
    world = Signs()
    world.signs.tick()
    own = Vitals("leader", 4, 17, 16, "taking over as leader", "1.0")
    assert world.sent == [("b", own)]
    world.talking.add("b")
    world.pass_s(3 * TELL_EVERY_S)
    assert [to for to, _ in world.sent] == ["b"] * 4
    world.recent.add("c")
    world.pass_s(TELL_EVERY_S)
    assert [to for to, _ in world.sent[4:]] == ["b", "c"]


def test_one_that_stays_silent_is_told_seldom_and_again_when_it_comes_back() -> None:
    world = Signs()
    world.pass_s(GREET_EVERY_S - TELL_EVERY_S)
    assert [to for to, _ in world.sent] == ["b"]
    world.pass_s(2 * TELL_EVERY_S)
    assert [to for to, _ in world.sent] == ["b"] * 2
    world.connected.remove("b")
    world.pass_s(3 * TELL_EVERY_S)
    world.connected.add("b")
    world.pass_s(3 * TELL_EVERY_S)
    assert [to for to, _ in world.sent] == ["b"] * 3


def test_what_one_said_before_its_link_broke_does_not_count() -> None:
    world = Signs()
    world.signs.told("b", THEIRS)
    world.connected.remove("b")
    world.signs.tick()
    assert set(world.signs.latest()) == {"a"}


def test_what_was_said_is_kept_with_its_age_and_forgotten_after_a_silence() -> None:
    world = Signs()
    world.signs.told("b", THEIRS)
    world.signs.told("a stranger", THEIRS)
    world.now_s += 2.0
    seen = world.signs.latest()
    assert set(seen) == {"a", "b"}
    assert seen["b"] == (THEIRS, 2_000)
    assert seen["a"].age_ms == 0
    world.now_s += FORGET_AFTER_S
    assert set(world.signs.latest()) == {"a"}


def test_vitals_travel_whole() -> None:
    assert unpack_message(pack_message(THEIRS)) == THEIRS


class Cluster:
    """Replica a of three, which leads as long as `leads`."""

    def __init__(self) -> None:
        self.log = Log()
        self.leads = True
        self.proposed: list[tuple[bytes, Any]] = []
        self.age_ms = dict.fromkeys("abc", 1_000)
        self.upgrade = Upgrade(
            "abc",
            state=lambda: self.log.machine.state,
            leads=lambda: self.leads,
            vitals=lambda: {node_id: Seen(THEIRS, ms) for node_id, ms in self.age_ms.items()},
            stamp=lambda: (self.log.time_ms, 5),
            propose=lambda payload, ended: self.proposed.append((payload, ended)),
        )

    @property
    def version(self) -> int:
        return self.log.machine.state.cluster_version

    def announce(self, node_id: str, encoding: int) -> None:
        self.log.put(Announce(node_id, f"{node_id}:1", "1.0", encoding))


async def test_the_version_rises_when_every_replica_knows_the_next() -> None:
    cluster = Cluster()
    for node_id, encoding in (("a", 2), ("b", 2), ("stranger", 2), ("c", 1)):
        cluster.announce(node_id, encoding)
        cluster.upgrade.tick()
    assert cluster.proposed == []
    cluster.announce("c", 2)
    cluster.leads = False
    cluster.upgrade.tick()
    assert cluster.proposed == []
    cluster.leads = True
    for _ in range(3):
        cluster.upgrade.tick()
    ((payload, ended),) = cluster.proposed
    assert unpack(payload)[0] == 2, "older builds must not take it for something else"
    assert [c.body for c in unpack_batch(payload).commands] == [RaiseVersion(2)]

    ended(Outcome.UNKNOWN)
    cluster.upgrade.tick()
    assert len(cluster.proposed) == 2, "asked again, as it has not risen"
    assert cluster.version == 1
    cluster.log.machine.deliver(cluster.log.machine.applied_index + 1, 1, payload)
    cluster.proposed[-1][1](Outcome.COMMITTED)
    for _ in range(3):
        cluster.upgrade.tick()
    assert (cluster.version, len(cluster.proposed)) == (ENCODING, 2)


async def test_what_a_replica_announced_before_it_went_back_to_an_older_build_does_not_count() -> (
    None
):
    cluster = Cluster()
    for node_id in "abc":
        cluster.announce(node_id, 2)
    for age_ms in (None, HEARD_MS + 1):
        if age_ms is None:
            del cluster.age_ms["c"]
        else:
            cluster.age_ms["c"] = age_ms
        cluster.upgrade.tick()
    assert cluster.proposed == []
    cluster.age_ms["c"] = HEARD_MS
    cluster.upgrade.tick()
    assert len(cluster.proposed) == 1


async def test_a_version_that_has_risen_stays() -> None:
    cluster = Cluster()
    cluster.log.put(RaiseVersion(2))
    cluster.log.put(RaiseVersion(1))
    assert cluster.version == 2
