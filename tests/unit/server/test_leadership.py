"""Leadership: leads only after its own entry is applied, keeps time, lets things fall due."""

import asyncio
import itertools

import pytest

from agentkeeper.consensus.port import Outcome, Role
from agentkeeper.core.codec import unpack_batch
from agentkeeper.core.commands import Heartbeat, Takeover
from agentkeeper.server import leadership as module
from agentkeeper.server.clock import ClusterClock
from agentkeeper.server.leadership import STAMP_EVERY_MS, Leadership
from agentkeeper.server.messages import AskIndex, TellIndex
from agentkeeper.server.reads import ReadRounds

from .helpers import Around, Log, settle, until


class World:
    def __init__(self) -> None:
        self.now_s = 100.0
        self.log = Log()
        self.around = Around()
        self.takeovers: list[bytes] = []
        self.told: list[object] = []
        self.clock = ClusterClock(lambda: self.now_s, lambda: 5)
        self.around.proposer._stamp = self.clock.stamp
        self.reads = ReadRounds(lambda _, tell: tell(7), lambda _, m: bool(self.told.append(m)))
        self.leadership = Leadership(
            node_id="a",
            machine=self.log.machine,
            proposer=self.around.proposer,
            reads=self.reads,
            clock=self.clock,
            propose_takeover=self.takeovers.append,
        )
        self.log.machine.on_applied.append(self.leadership.applied)
        self.index = 0

    def apply(self, payload: bytes, term: int) -> None:
        self.index = self.log.machine.applied_index + 1
        self.log.machine.deliver(self.index, term, payload)

    async def lead(self, term: int = 3) -> None:
        self.leadership.role_changed(Role.LEADER, term, "a")
        self.apply(self.takeovers[-1], term)
        await settle()

    def pass_ms(self, span_ms: int) -> None:
        """Time passes in steps in which the clock is looked at."""
        for _ in range(span_ms // 125):
            self.now_s += 0.125
            self.leadership.tick()


async def test_leads_only_after_its_own_entry_is_applied() -> None:
    world = World()
    world.log.put()
    world.leadership.role_changed(Role.LEADER, 3, "a")
    assert world.leadership.may_lead
    assert not world.leadership.established
    batch = unpack_batch(world.takeovers[0])
    assert [type(c.body) for c in batch.commands] == [Takeover]
    assert batch.time_ms == 1_000
    # An entry of an earlier leader, a takeover of an earlier term: not yet.
    world.log.put(Heartbeat("x"))
    world.apply(world.takeovers[0], 2)
    assert not world.leadership.established
    world.apply(world.takeovers[0], 3)
    assert world.leadership.established


async def test_the_clock_starts_at_the_time_of_the_state() -> None:
    world = World()
    world.log.put()
    world.leadership.role_changed(Role.LEADER, 3, "a")
    world.log.put(later_ms=50_000)  # the former leader's last entry
    assert world.clock.now_ms() == 0
    world.apply(world.takeovers[0], 3)
    assert world.clock.now_ms() == 51_000


async def test_a_takeover_that_fails_is_proposed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TICK_S", 0.0)
    world = World()
    world.leadership.role_changed(Role.LEADER, 3, "a")
    world.leadership.takeover_ended(Outcome.UNKNOWN)
    await until(lambda: len(world.takeovers) == 2)
    world.leadership.role_changed(Role.FOLLOWER, 4, "b")
    world.leadership.takeover_ended(Outcome.UNKNOWN)
    await settle()
    assert len(world.takeovers) == 2
    assert not world.leadership.may_lead


async def test_an_own_entry_of_a_lost_term_does_not_make_it_lead() -> None:
    world = World()
    world.leadership.role_changed(Role.LEADER, 3, "a")
    world.leadership.role_changed(Role.FOLLOWER, 4, "b")
    world.apply(world.takeovers[0], 3)
    assert not world.leadership.may_lead
    world.leadership.role_changed(Role.LEADER, 5, "a")
    world.apply(world.takeovers[0], 4)
    assert not world.leadership.established


async def test_whom_the_others_turn_to() -> None:
    world = World()
    assert world.leadership.leaderless_since_s is not None
    world.leadership.role_changed(Role.FOLLOWER, 2, "b")
    assert world.leadership.leader_id == "b"
    assert world.leadership.leaderless_since_s is None
    world.reads.answer("c", AskIndex(1))
    assert world.told == [TellIndex(1, None)]
    world.leadership.role_changed(Role.CANDIDATE, 3, None)
    assert world.leadership.leaderless_since_s is not None
    await world.lead(4)
    world.reads.answer("c", AskIndex(2))
    assert world.told[-1] == TellIndex(2, 7)


async def test_without_deadlines_nothing_is_stamped() -> None:
    world = World()
    await world.lead()
    world.pass_ms(5_000)
    await settle()
    assert world.around.batches == []


async def test_while_a_deadline_exists_time_is_stamped_every_second() -> None:
    world = World()
    world.log.register("agent", ttl_ms=3_600_000)
    await world.lead()
    stamps: list[int] = []
    for _ in range(40):
        world.pass_ms(125)
        await settle()
        if len(world.around.batches) > len(stamps):
            stamps.append(unpack_batch(world.around.batches[-1]).time_ms)
            world.around.proposed(Outcome.COMMITTED)
            await settle()
    assert len(stamps) >= 4
    gaps = [later - earlier for earlier, later in itertools.pairwise(stamps)]
    assert all(0 < gap <= STAMP_EVERY_MS + 125 for gap in gaps)


async def test_what_is_due_is_worked_off_at_once() -> None:
    world = World()
    await world.lead()
    grace = world.log.machine.state.grace_until_ms
    world.log.time_ms = world.log.machine.state.time_ms
    world.log.register("agent", ttl_ms=grace + 500)
    due_ms = world.log.machine.state.next_due_ms()
    assert due_ms is not None
    while world.clock.now_ms() < due_ms:
        before = len(world.around.batches)
        world.pass_ms(125)
        await settle()
        world.around.proposed(Outcome.COMMITTED)
        await settle()
    assert len(world.around.batches) > before
    assert unpack_batch(world.around.batches[-1]).time_ms >= due_ms


async def test_a_deadline_nearer_than_the_next_look_has_a_timer_of_its_own() -> None:
    world = World()
    await world.lead()
    grace = world.log.machine.state.grace_until_ms
    now_ms = world.clock.now_ms()
    world.clock.start(grace - 20)
    world.log.time_ms = now_ms
    world.log.register("agent", ttl_ms=1)
    # Real timers, a clock that is made to stand where the deadline is.
    world.now_s += 0.125
    async with asyncio.timeout(30):
        await until(lambda: bool(world.around.batches))


async def test_who_does_not_lead_stamps_nothing() -> None:
    world = World()
    world.log.register("agent", ttl_ms=1)
    await world.lead()
    world.leadership.role_changed(Role.FOLLOWER, 9, "b")
    batches = len(world.around.batches)
    world.pass_ms(10_000)
    await settle()
    assert len(world.around.batches) == batches
