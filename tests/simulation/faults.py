"""What goes wrong. Each fault comes to an end by itself; what is left is healed at the end."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from tests.simulation.clock import MAX_DRIFT
from tests.simulation.world import OFF_S

if TYPE_CHECKING:
    from tests.simulation.host import Host
    from tests.simulation.world import World

LASTS_S: Final = (0.3, 3.5)
DAY_MS: Final = 86_400_000


class Faults:
    """Faults of all kinds, at random times. One that cannot be now is left for another kind.

    At most one replica at a time is without the data it once had: the promises hold as long as a
    majority's disks survive.
    """

    def __init__(self, world: World, rng: random.Random) -> None:
        self.world = world
        self.rng = rng
        self.counts: Counter[str] = Counter()
        self.open = 0
        """Faults that are not over yet."""
        self._healing: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        kinds: list[tuple[str, Callable[[], bool]]] = [
            ("partition", self._partition),
            ("isolated leader", self._isolate_leader),
            ("one-way cut", self._one_way),
            ("broken link", self._break_link),
            ("flaky links", self._flaky),
            ("slow links", self._slow_links),
            ("kill", self._kill),
            ("leader killed", self._kill_leader),
            ("power cut", self._power_cut),
            ("power cut in a step", self._power_cut_in_step),
            ("power cut of all", self._power_cut_all),
            ("full disk", self._full_disk),
            ("failing fdatasync", self._fail_sync),
            ("slow disk", self._slow_disk),
            ("bit flip", self._flip_bit),
            ("wiped disk", self._wipe),
            ("wiped disk, isolated leader", self._wipe_and_isolate),
            ("pause", self._pause),
            ("clock drift", self._drift),
            ("wall clock jump", self._jump),
            ("restart with handover", self._hand_over),
            ("restarts in an election", self._election_unrest),
        ]
        self.kinds = dict(kinds)

    def schedule(self, count: int, from_s: float, to_s: float) -> None:
        """Plan `count` faults, of as many kinds as there are."""
        planned: list[str] = []
        while len(planned) < count:
            round_ = list(self.kinds)
            self.rng.shuffle(round_)
            planned += round_
        for kind in planned[:count]:
            self.open += 1
            self.world.at(self.rng.uniform(from_s, to_s), self._happen, kind)

    def heal(self) -> None:
        """End whatever goes on still, and have all replicas return."""
        world = self.world
        while self._healing:
            act, args = self._healing.pop(0)
            act(*args)
        for host in world.hosts.values():
            host.cut_in = host.disk.fail_syncs = host.disk.capacity_bytes = None
            host.slow_disk = 1.0
            self._resume(host)
            world.start(host)

    # --- how they happen -------------------------------------------------------------------------
    def _happen(self, kind: str) -> None:
        others = list(self.kinds)
        self.rng.shuffle(others)
        for name in (kind, *others):
            if self.kinds[name]():
                self.counts[name] += 1
                self.world.record(name.encode())
                break
        self.open -= 1

    def _later(self, act: Callable[..., None], *args: Any, lasts_s: Any = LASTS_S) -> None:
        """Have `act` end the fault, or `heal`, whichever comes first."""
        healing = (act, args)
        self._healing.append(healing)
        self.open += 1
        self.world.at(self.world.time_s + self.rng.uniform(*lasts_s), self._end, healing)

    def _end(self, healing: tuple[Callable[..., None], tuple[Any, ...]]) -> None:
        self.open -= 1
        for at, planned in enumerate(self._healing):
            if planned is healing:
                del self._healing[at]
                healing[0](*healing[1])
                return

    def _host(self) -> Host | None:
        """Any host whose daemon runs."""
        running = [host for host in self.world.hosts.values() if host.running is not None]
        return self.rng.choice(running) if running else None

    def _data_at_risk(self) -> bool:
        """Whether a replica is without the data it had, so that no other may lose its own."""
        return any(host.disk_lost or host.damaged for host in self.world.hosts.values())

    # --- the network -----------------------------------------------------------------------------
    def _block(self, ways: list[tuple[str, str]]) -> None:
        for way in ways:
            self.world.network.block(*way)
        self._later(self._unblock, ways)

    def _unblock(self, ways: list[tuple[str, str]]) -> None:
        for way in ways:
            self.world.network.unblock(*way)

    def _cut_off(self, node_ids: list[str]) -> None:
        ways = []
        for one in node_ids:
            for other in self.world.ids:
                if other not in node_ids:
                    ways += [(one, other), (other, one)]
                    if self.rng.random() < 0.3:
                        self.world.network.break_link(one, other)
        self._block(ways)

    def _partition(self) -> bool:
        self._cut_off(self.rng.sample(self.world.ids, self.rng.randint(1, len(self.world.ids) - 1)))
        return True

    def _isolate_leader(self) -> bool:
        leader = self.world.leader()
        if leader is None:
            return False
        self._cut_off([leader.node_id])
        return True

    def _one_way(self) -> bool:
        one, other = self.rng.sample(self.world.ids, 2)
        self._block([(one, other)])
        return True

    def _break_link(self) -> bool:
        self.world.network.break_link(*self.rng.sample(self.world.ids, 2))
        return True

    def _flaky(self) -> bool:
        for _ in range(10):
            pair = self.rng.sample(self.world.ids, 2)
            at_s = self.world.time_s + self.rng.uniform(0.0, 3.0)
            self.world.at(at_s, self.world.network.break_link, *pair)
        return True

    def _slow_links(self) -> bool:
        ways = [tuple(self.rng.sample(self.world.ids, 2)) for _ in range(3)]
        extra_s = self.world.network.extra_s
        for way in ways:
            extra_s[way[0], way[1]] = self.rng.choice((0.02, 0.1, 0.4))

        def end() -> None:
            for way in ways:
                extra_s.pop((way[0], way[1]), None)

        self._later(end)
        return True

    # --- processes and machines ------------------------------------------------------------------
    def _return(self, host: Host) -> None:
        self._later(self.world.start, host, lasts_s=OFF_S)

    def _kill(self) -> bool:
        return self._end_process(self._host(), power_cut=False)

    def _kill_leader(self) -> bool:
        return self._end_process(self.world.leader(), power_cut=self.rng.random() < 0.5)

    def _power_cut(self) -> bool:
        return self._end_process(self._host(), power_cut=True)

    def _end_process(self, host: Host | None, *, power_cut: bool) -> bool:
        if host is None:
            return False
        self.world.kill(host, power_cut=power_cut)
        self._return(host)
        return True

    def _power_cut_in_step(self) -> bool:
        host = self._host()
        if host is None:
            return False
        host.cut_in = self.rng.randint(1, 60)
        return True

    def _power_cut_all(self) -> bool:
        for host in self.world.hosts.values():
            if host.process is not None:
                self.world.kill(host, power_cut=True)
                self._return(host)
        return True

    def _hand_over(self) -> bool:
        host = self._host()
        if host is None:
            return False
        process = host.process
        assert process is not None
        process.engine.transfer_leadership()

        def stop() -> None:
            if host.process is process and not host.paused:
                self.world.turn(host, process.stop)
                self.world.at(self.world.time_s + 0.05, finish)

        def finish() -> None:
            if host.process is process:
                self.world.kill(host)
                self._return(host)

        self.world.at(self.world.time_s + self.rng.uniform(0.01, 0.6), stop)
        return True

    def _election_unrest(self) -> bool:
        """The leader dies; whoever is to elect another is restarted meanwhile, and slowly heard."""
        if not self._kill_leader():
            return False
        self._slow_links()
        for _ in range(12):
            at_s = self.world.time_s + self.rng.uniform(0.2, 3.0)
            self.world.at(at_s, self._restart, self.rng.choice(self.world.ids))
        return True

    def _restart(self, node_id: str) -> None:
        host = self.world.hosts[node_id]
        if host.running is not None:
            self.world.kill(host)
            self.world.at(self.world.time_s + self.rng.uniform(0.005, 0.03), self.world.start, host)

    def _pause(self) -> bool:
        host = self._host()
        if host is None:
            return False
        host.paused = True
        if self.rng.random() < 0.3:
            host.clock.freeze(self.world.time_s)
        self._later(self._resume, host)
        return True

    def _resume(self, host: Host) -> None:
        if host.paused:
            host.paused = False
            host.clock.thaw(self.world.time_s)
            if host.process is not None:
                host.process.resume()

    # --- clocks ----------------------------------------------------------------------------------
    def _drift(self) -> bool:
        host = self._host()
        if host is None:
            return False
        host.clock.run_at(self.world.time_s, 1 + self.rng.uniform(-MAX_DRIFT, MAX_DRIFT))
        return True

    def _jump(self) -> bool:
        for host in self.world.hosts.values():
            if self.rng.random() < 0.5:
                host.wall_jump_ms += self.rng.choice((-DAY_MS, -5000, 1000, 60_000, DAY_MS))
        return True

    # --- disks -----------------------------------------------------------------------------------
    def _full_disk(self) -> bool:
        host = self._host()
        if host is None:
            return False
        host.disk.capacity_bytes = host.disk.used_bytes + self.rng.randint(0, 2000)

        def end() -> None:
            host.disk.capacity_bytes = None

        self._later(end)
        return True

    def _fail_sync(self) -> bool:
        host = self._host()
        if host is None:
            return False
        host.may_fail = True
        host.disk.fail_syncs = 1
        return True

    def _slow_disk(self) -> bool:
        host = self._host()
        if host is None:
            return False
        host.slow_disk = self.rng.choice((10.0, 50.0, 200.0))

        def end() -> None:
            host.slow_disk = 1.0

        self._later(end)
        return True

    def _flip_bit(self) -> bool:
        host = self._host()
        if host is None or self._data_at_risk():
            return False
        self.world.kill(host, power_cut=self.rng.random() < 0.5)
        names = [n for n in host.disk.names() if host.disk.open(n).size()]
        if names:
            name = self.rng.choice(names)
            offset = self.rng.randrange(host.disk.open(name).size())
            host.disk.flip_bit(name, offset, self.rng.randrange(8))
            host.damaged = True
        self._return(host)
        return True

    def _wipe(self) -> bool:
        return self._wipe_host(self._host())

    def _wipe_host(self, host: Host | None) -> bool:
        if host is None or self._data_at_risk():
            return False
        self.world.kill(host, power_cut=True)
        self.world.wipe(host)
        self._return(host)
        return True

    def _wipe_and_isolate(self) -> bool:
        """An empty replica returns when nobody hears the leader, who has all that it had."""
        leader = self.world.leader()
        others = [h for h in self.world.hosts.values() if h is not leader and h.running]
        if leader is None or not others or not self._wipe_host(self.rng.choice(others)):
            return False
        self._cut_off([leader.node_id])
        return True
