"""Digests compared: who differs from the majority stops, nobody else does, whatever is lost."""

from collections import Counter, deque
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from agentkeeper.core import limits
from agentkeeper.core.commands import Batch
from agentkeeper.server.digests import Digests
from agentkeeper.server.machine import Applied
from agentkeeper.server.messages import Digest

EVERY = limits.DIGEST_EVERY


class World:
    """Replicas whose digest at an index is that index with their flavour."""

    def __init__(self, *flavours: str) -> None:
        self.names = [chr(ord("a") + i) for i in range(len(flavours))]
        self.flavours = dict(zip(self.names, flavours, strict=True))
        self.linked = set(self.names)
        self.index = dict.fromkeys(self.names, 0)
        self.digests: dict[str, Digests] = {}
        self.under_way: deque[tuple[str, str, Digest]] = deque()
        self.sent = 0
        self.failures: dict[str, list[str]] = {name: [] for name in self.names}
        for name in self.names:
            self.restart(name)

    def restart(self, name: str) -> None:
        """All that a replica remembers is what it applies again."""
        self.index[name] = 0

        def send(other: str, message: Digest) -> bool:
            if not {name, other} <= self.linked:
                return False
            self.under_way.append((name, other, message))
            self.sent += 1
            return True

        state = SimpleNamespace(digest=lambda: f"{self.flavours[name]}@{self.index[name]}")
        machine: Any = SimpleNamespace(applied_index=0, state=state)
        others = [other for other in self.names if other != name]
        self.digests[name] = Digests(name, others, machine, send, self.failures[name].append)

    def apply(self, *indexes: int, names: str = "") -> None:
        for index in indexes:
            for name in names or self.names:
                self.index[name] = index
                self.digests[name].applied(Applied(index, 1, Batch(0, 0, ()), (), ()))

    def restore(self, name: str, index: int) -> None:
        self.index[name] = self.digests[name]._machine.applied_index = index
        self.digests[name].restored()

    def tick(self) -> None:
        for digests in self.digests.values():
            digests.tick()

    def deliver(self) -> None:
        while self.under_way:
            sender, target, message = self.under_way.popleft()
            self.digests[target].told(sender, message)

    @property
    def stopped(self) -> str:
        return "".join(name for name in self.names if self.failures[name])


@pytest.mark.parametrize(
    ("flavours", "stopped"),
    [
        ("xxx", ""),
        ("xxy", "c"),
        ("yxx", "a"),
        ("xyz", ""),
        ("xxxxx", ""),
        ("xyxxx", "b"),
        ("yxxyx", "ad"),
        ("xyxyz", ""),
        ("xxyy", ""),
        ("xxxy", "d"),
        ("xy", ""),
        ("xx", ""),
        ("x", ""),
    ],
)
def test_who_differs_from_a_majority_stops(flavours: str, stopped: str) -> None:
    world = World(*flavours)
    with capture_logs() as logs:
        world.apply(EVERY)
        world.deliver()
    assert world.stopped == stopped
    assert bool(logs) == (len(set(flavours)) > 1)
    assert all(entry["log_level"] == "error" and entry["index"] == EVERY for entry in logs)


def test_the_failure_says_what_differs_from_what_and_what_to_do() -> None:
    world = World("x", "x", "bad")
    with capture_logs() as logs:
        world.apply(EVERY)
        world.deliver()
    (reason, *_) = world.failures["c"]
    for fact in (
        str(EVERY),
        f"bad@{EVERY}",
        f"x@{EVERY}",
        "a, b",
        "remove",
        "data folder",
        "empty",
    ):
        assert fact in reason
    named = [entry for entry in logs if entry["event"] == "a replica differs from the majority"]
    assert [(e["digests"], e["majority"]) for e in named] == [
        ({"c": f"bad@{EVERY}"}, f"x@{EVERY}") for _ in "ab"
    ]


def test_only_the_first_entry_at_or_past_each_multiple_counts() -> None:
    world = World("x", "x", "x")
    indexes = (1, EVERY - 1, EVERY + 2, EVERY + 3, 2 * EVERY, 2 * EVERY + 1, 5 * EVERY + 7)
    world.apply(*indexes)
    told = {(sender, message.log_index) for sender, _, message in world.under_way}
    assert told == {(n, i) for n in "abc" for i in (EVERY + 2, 2 * EVERY, 5 * EVERY + 7)}
    assert world.sent == 3 * 3 * 2


def test_one_replica_alone_does_not_even_look() -> None:
    world = World("x")
    machine: Any = SimpleNamespace(applied_index=0, state=None)
    Digests("a", [], machine, lambda *_: False, world.failures["a"].append).applied(
        Applied(EVERY, 1, Batch(0, 0, ()), (), ())
    )
    assert world.stopped == ""


def test_no_majority_without_those_that_are_down() -> None:
    """Two of five that agree are none, however many have spoken."""
    world = World("x", "x", "y", "x", "x")
    with capture_logs() as logs:
        world.apply(EVERY, names="abc")
        world.deliver()
    assert world.stopped == ""
    assert {entry["event"] for entry in logs} == {"replicas differ, and no majority agrees so far"}
    world.apply(EVERY, names="d")
    world.deliver()
    assert world.stopped == "c"


def test_a_replica_that_is_behind_compares_once_it_is_there() -> None:
    world = World("x", "x", "y")
    world.apply(EVERY, 2 * EVERY, names="ab")
    world.deliver()
    assert world.stopped == ""
    world.apply(EVERY, names="c")
    assert world.stopped == "c"


def test_a_lost_message_is_one_comparison_less() -> None:
    world = World("x", "x", "y")
    world.apply(EVERY)
    world.under_way.clear()
    world.tick()
    world.deliver()
    assert world.stopped == ""
    world.apply(2 * EVERY)
    world.deliver()
    assert world.stopped == "c"


def test_who_is_not_linked_is_told_the_latest_later() -> None:
    world = World("x", "x", "y")
    world.linked = {"a", "b"}
    world.apply(EVERY, 2 * EVERY)
    world.deliver()
    assert world.stopped == ""
    world.linked = {"a", "b", "c"}
    world.tick()
    assert {m.log_index for _, target, m in world.under_way if target == "c"} == {2 * EVERY}
    world.deliver()
    assert world.stopped == "c"
    world.tick()
    assert not world.under_way


def test_one_that_is_restarted_on_the_same_state_stops_again() -> None:
    world = World("x", "x", "y")
    for _ in range(3):
        world.apply(EVERY, names="c" if world.index["a"] else "abc")
        world.deliver()
        assert world.stopped == "c"
        world.failures["c"].clear()
        world.restart("c")


def test_digests_that_differ_are_answered_once() -> None:
    """No majority ever forms here, and yet the two fall silent."""
    world = World("x", "y")
    world.apply(EVERY)
    world.deliver()
    assert world.sent == 4


def test_what_was_said_of_a_state_that_a_snapshot_replaced_counts_no_more() -> None:
    world = World("x", "x", "y")
    world.linked = {"a", "b"}
    world.apply(EVERY)
    world.flavours["c"] = "x"
    world.restore("c", EVERY + 100)
    world.linked = {"a", "b", "c"}
    with capture_logs() as logs:
        world.tick()
        world.deliver()
        world.apply(EVERY + 101, 2 * EVERY)
        world.deliver()
    assert world.stopped == ""
    assert not logs


def test_a_snapshot_past_the_entry_that_counts_leaves_a_gap_and_no_harm() -> None:
    world = World("x", "x", "y")
    world.apply(EVERY + 1, EVERY + 2, names="ab")
    world.restore("c", EVERY + 1)
    sent = world.sent
    world.apply(EVERY + 2, names="c")
    assert world.sent == sent
    world.deliver()
    assert world.stopped == ""
    world.apply(2 * EVERY)
    world.deliver()
    assert world.stopped == "c"


def test_strangers_do_not_count() -> None:
    world = World("x", "x", "x")
    world.apply(EVERY)
    for stranger in ("d", "e", "a"):
        world.digests["a"].told(stranger, Digest(EVERY, "other", answers=False))
    assert world.stopped == ""


def test_what_is_kept_is_bounded() -> None:
    world = World("x", "x", "x")
    digests = world.digests["a"]
    for number in range(1, 100):
        digests.told("b", Digest(number**9, "z", answers=False))
        world.apply(number * EVERY, names="a")
    assert {len(d) for d in (digests._own, *digests._theirs.values())} == {0, limits.DIGESTS_KEPT}
    world.deliver()
    world.apply(100 * EVERY)
    world.deliver()
    assert world.stopped == ""


def majority_of(flavours: Sequence[str]) -> str | None:
    flavour, count = Counter(flavours).most_common(1)[0]
    return flavour if 2 * count > len(flavours) else None


STEPS = st.lists(
    st.tuples(st.sampled_from(["apply", "restart", "lose", "link", "deliver"]), st.integers(0, 4)),
    max_size=40,
)


@given(st.lists(st.sampled_from("xxxyz"), min_size=1, max_size=5), STEPS)
def test_against_what_an_onlooker_would_decide(
    flavours: list[str], steps: list[tuple[str, int]]
) -> None:
    """Never a replica of the majority; and all others, once everybody hears everybody."""
    world = World(*flavours)
    majority = majority_of(flavours)
    odd = "".join(n for n in world.names if majority and world.flavours[n] != majority)
    for what, number in steps:
        name = world.names[number % len(world.names)]
        if what == "apply":
            world.apply(world.index[name] + EVERY // 2, names=name)
        elif what == "restart":
            world.restart(name)
        elif what == "lose":
            world.under_way.clear()
        elif what == "link":
            world.linked ^= {name}
        else:
            world.deliver()
        assert set(world.stopped) <= set(odd)
    world.linked = set(world.names)
    world.apply(100 * EVERY)
    world.deliver()
    assert world.stopped == odd
