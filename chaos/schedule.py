"""Does one fault after the other, or two at a time, heals them, and waits until all is well."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from chaos.faults import Fault, World
from chaos.report.facts import FaultRecord
from chaos.scenario import Planned, Scenario


@dataclass
class _UnderWay:
    fault: Fault
    record: FaultRecord
    until_s: float
    """When it is to be healed."""


class Schedule:
    """Draws faults as a scenario says, from the dice of the world."""

    def __init__(self, world: World, scenario: Scenario, say: Callable[[str], None]) -> None:
        """`say` is told in words what is done, for those who look on."""
        self.records: list[FaultRecord] = []
        self._world = world
        self._scenario = scenario
        self._say = say

    def run(self, until_s: float) -> None:
        """Go on until a time of `time.monotonic()`; whatever is under way is healed first.

        Raises NotRecovered when the cluster does not do what it must.
        """
        for planned in self._scenario.draw(self._world.rng):
            time.sleep(self._world.rng.uniform(*self._scenario.quiet_s))
            if time.monotonic() > until_s:
                return
            self._do(planned)

    def _do(self, planned: list[Planned]) -> None:
        under_way: list[_UnderWay] = []
        try:
            for one in planned:
                if under_way:  # the second begins while the first one lasts
                    left_s = max(0.0, under_way[0].until_s - time.monotonic())
                    time.sleep(self._world.rng.uniform(0, left_s))
                self._inject(one, under_way)
        finally:
            for begun in sorted(under_way, key=lambda each: each.until_s):
                self._heal(begun)
        self._await_recovery(under_way)

    def _inject(self, planned: Planned, under_way: list[_UnderWay]) -> None:
        fault, leader = planned.make(), self._world.leader()
        lasts_s = self._world.rng.uniform(*fault.for_s)
        record = FaultRecord(
            name=planned.name, injected_ns=time.monotonic_ns(), leader_before=leader
        )
        begun = _UnderWay(fault, record, time.monotonic() + lasts_s)
        under_way.append(begun)  # so that one whose injection fails is healed too
        record.what = fault.inject(self._world)
        record.injected_ns = fault.began_ns or record.injected_ns
        record.targets = list(fault.targets)
        if not record.what:
            under_way.remove(begun)
            return
        begun.until_s = time.monotonic() + lasts_s
        self.records.append(record)
        self._say(record.what)

    def _heal(self, one: _UnderWay) -> None:
        time.sleep(max(0.0, one.until_s - time.monotonic()))
        try:
            one.fault.heal(self._world)
        finally:
            one.fault.release(self._world)
        one.record.healed_ns = time.monotonic_ns()

    def _await_recovery(self, under_way: list[_UnderWay]) -> None:
        self._world.await_ready()
        leader, now_ns = self._world.leader(), time.monotonic_ns()
        for one in under_way:
            one.record.leader_after = leader
            one.record.recovered_ms = (now_ns - one.record.healed_ns) / 1e6
        self._say("healed")
