"""Whole stacks on one loop, over engines that share a log: digests compared, trouble told."""

import asyncio
import itertools
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from agentkeeper.consensus.port import EngineStatus, Listener, Outcome, PeerStatus, Role, Transfer
from agentkeeper.core import limits
from agentkeeper.core.codec import ENCODING, pack_batch, unpack_batch
from agentkeeper.core.commands import Command, Register
from agentkeeper.core.snapshot import pack_snapshot
from agentkeeper.server.caller import Caller
from agentkeeper.server.clock import ClusterClock
from agentkeeper.server.stack import Stack

from .helpers import CARD, settle, until

LEADER = "a"


class Engine:
    """One replica's part of a log that commits at once; implements `port.Engine`."""

    def __init__(self, cluster: "Cluster", node_id: str) -> None:
        self.cluster = cluster
        self.node_id = node_id
        self.listener: Listener
        self.alter: Callable[[bytes], bytes] = lambda payload: payload
        """What this replica makes of an entry."""
        self.linked = True
        self.state = EngineStatus(
            node_id, Role.FOLLOWER, 1, LEADER, 0, 0, 0, {"?": PeerStatus(True, None)}
        )

    def start(self, listener: Listener) -> None:
        self.listener = listener
        leads = self.node_id == LEADER
        listener.role_changed(Role.LEADER if leads else Role.FOLLOWER, 1, LEADER)

    def stop(self) -> None:
        pass

    def propose(
        self, payload: bytes, timeout_s: float, on_outcome: Callable[[Outcome], None]
    ) -> None:
        self.cluster.index += 1
        for engine in self.cluster.engines.values():
            engine.listener.committed(self.cluster.index, 1, engine.alter(payload))
        on_outcome(Outcome.COMMITTED)

    def read_index(self, timeout_s: float, on_result: Callable[[int | None], None]) -> None:
        on_result(self.cluster.index)

    def send(self, node_id: str, payload: bytes) -> bool:
        other = self.cluster.engines[node_id]
        if self.linked and other.linked:
            other.listener.received(self.node_id, payload)
        return self.linked and other.linked

    def save_snapshot(self, index: int, snapshot: Iterable[bytes]) -> None:
        pass

    def transfer_leadership(
        self, to: str | None = None, on_ended: Callable[[Transfer], None] | None = None
    ) -> None:
        pass

    def status(self) -> EngineStatus:
        return self.state


class Cluster:
    """Stacks of replicas a, b, c."""

    def __init__(self) -> None:
        self.index = 0
        self.written = 0
        self.failures: list[tuple[str, str]] = []
        names = ("a", "b", "c")
        self.engines = {name: Engine(self, name) for name in names}
        self.stacks = {name: self._stack(name, names) for name in names}
        for name in names:
            self.engines[name].start(self.stacks[name].listener)

    def _stack(self, name: str, names: Iterable[str]) -> Stack:
        ids = itertools.count()
        engine: Any = self.engines[name]
        return Stack(
            node_id=name,
            engine=engine,
            clock=ClusterClock(asyncio.get_running_loop().time, lambda: 1),
            draw_id=lambda: f"{name}-{next(ids)}",
            draw_attempt=lambda: next(ids) + 1,
            fail=lambda reason: self.failures.append((name, reason)),
            other_ids=[other for other in names if other != name],
        )

    async def write(self, via: str) -> None:
        self.written += 1
        body = Register(f"agent-{self.written}", CARD, 3_600_000, 0)
        await self.stacks[via].replica.submit(body, Caller())

    def digests(self) -> list[str]:
        return [stack.machine.state.digest() for stack in self.stacks.values()]


async def test_replicas_that_agree_compare_and_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "DIGEST_EVERY", 4)
    cluster = Cluster()
    with capture_logs() as logs:
        for via in "abcabcabc":
            await cluster.write(via)
        await settle()
    assert not cluster.failures
    assert not [entry for entry in logs if entry["log_level"] == "error"]
    theirs = cluster.stacks["a"].digests._theirs
    assert all(len(theirs[other]) >= 2 for other in "bc")
    assert theirs["b"] == theirs["c"] == cluster.stacks["a"].digests._own


@pytest.mark.parametrize("odd", ["a", "c"])
async def test_a_replica_that_makes_something_else_of_an_entry_stops(
    monkeypatch: pytest.MonkeyPatch, odd: str
) -> None:
    monkeypatch.setattr(limits, "DIGEST_EVERY", 4)
    cluster = Cluster()
    await cluster.write("b")

    def with_another_command(payload: bytes) -> bytes:
        batch = unpack_batch(payload)
        first = Command("", "", 0, 0, Register("another", CARD, 3_600_000, 0))
        return pack_batch(batch._replace(commands=(*batch.commands, first)), ENCODING)

    cluster.engines[odd].alter = with_another_command
    with capture_logs() as logs:
        while not cluster.failures:
            await cluster.write("b")
        await settle()
    assert {name for name, _ in cluster.failures} == {odd}
    told = [entry for entry in logs if entry["event"] == "a replica differs from the majority"]
    index = told[0]["index"]
    (own,) = told[0]["digests"].values()
    assert index % 4 == 0
    for fact in (str(index), own, told[0]["majority"], "data folder"):
        assert fact in cluster.failures[0][1]
    assert {entry["index"] for entry in told} == {index}
    assert [list(entry["digests"]) for entry in told] == [[odd], [odd]]
    assert len(set(cluster.digests())) == 2


async def test_digests_outlive_a_missing_link_but_not_a_restored_snapshot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "DIGEST_EVERY", 4)
    cluster = Cluster()
    cluster.engines["c"].linked = False
    for _ in range(5):
        await cluster.write("a")
    await settle()
    digests = {name: stack.digests for name, stack in cluster.stacks.items()}
    assert digests["a"]._theirs["b"] == digests["c"]._own != {}
    assert digests["a"]._theirs["c"] == {}
    cluster.engines["c"].linked = True
    cluster.stacks["c"].tick()
    await settle()
    assert digests["a"]._theirs["c"] == digests["c"]._own
    machine = cluster.stacks["a"].machine
    data = b"".join(pack_snapshot(await machine.capture()))
    cluster.engines["c"].listener.restored(machine.applied_index + 3, 1, data)
    await until(lambda: digests["c"]._own == {})
    assert digests["c"]._last_index == machine.applied_index + 3


async def test_trouble_is_told_when_it_begins_and_when_it_ends() -> None:
    cluster = Cluster()
    stack, engine = cluster.stacks["b"], cluster.engines["b"]
    await settle()
    assert stack.not_ready_reason() == ""
    with capture_logs() as logs:
        stack.tick()
        engine.state = replace(engine.state, trouble="the disk is full")
        for _ in range(3):
            stack.tick()
        assert stack.not_ready_reason() == "the disk is full"
        assert stack.view().not_ready_reason == "the disk is full"
        engine.state = replace(engine.state, trouble="not a member yet", leader_id=None)
        stack.tick()
        assert stack.not_ready_reason() == "not a member yet"
        engine.state = replace(engine.state, trouble="")
        for _ in range(3):
            stack.tick()
    assert stack.not_ready_reason() == ""
    said = [(entry["log_level"], entry.get("reason") or entry.get("after")) for entry in logs]
    assert said == [
        ("warning", "the disk is full"),
        ("warning", "not a member yet"),
        ("info", "not a member yet"),
    ]


async def test_trouble_is_named_before_what_comes_of_it() -> None:
    cluster = Cluster()
    stack, engine = cluster.stacks["b"], cluster.engines["b"]
    engine.listener.role_changed(Role.CANDIDATE, 2, None)
    await until(lambda: stack.not_ready_reason() == "no leader is known")
    engine.state = replace(engine.state, trouble="the disk is full")
    assert stack.not_ready_reason() == "the disk is full"
    stack.refuse_calls()
    assert stack.not_ready_reason() == "shutting down"
