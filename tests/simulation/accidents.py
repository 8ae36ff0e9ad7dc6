"""Accidents, each made up at random from a seed, for the library as it is and for the engine.

Both are driven in the same way (`raft_world.World`, `stock.StockWorld`), so the same accident
happens to both. Which rule of the Raft paper the library breaks stands at each accident.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any

from agentkeeper.consensus.port import Outcome, Role

LONGEST_CLAIM_S = 3.0
"""A deposed leader must know by then; the longest election timeouts end after 1.4 s."""


class StuckError(Exception):
    """The cluster is of no use any more: there is no point in going on."""


@dataclass
class Scene:
    """A world in which an accident happens, under load."""

    made: Any
    rng: Random
    load: int = 3
    """Most proposals in one step."""
    judged: str = ""
    """Whether "reads" or "claims" to lead are judged as well."""
    deposed_since_s: dict[str, float] = field(default_factory=dict)

    def begin(self) -> str:
        self.made.start()
        self.made.connect_all()
        leader = self.elect()
        self.go(1.0)
        return leader

    def elect(self) -> str:
        if not self.made.run(30.0, lambda: self.made.leader() is not None):
            self.violated("nobody is elected")
            raise StuckError
        return str(self.made.leader())

    def go(self, for_s: float) -> None:
        """Let time pass; whoever claims to lead is asked to write and to read."""
        end_s = self.made.time_s + for_s
        while self.made.time_s < end_s:
            self.step()

    def step(self) -> None:
        for leader in self.claims():
            for _ in range(self.rng.randint(0, self.load)):
                self.made.propose(leader)
            if self.judged == "reads" and self.rng.random() < 0.1:
                self.made.read(leader)
        self.made.step()
        if self.judged == "claims":
            self.judge_claims()

    def claims(self) -> dict[str, int]:
        """Who claims to lead, and in which term."""
        everyone = {at: engine.status() for at, engine in sorted(self.made.engines.items())}
        return {at: one.term for at, one in everyone.items() if one.role is Role.LEADER}

    def judge_claims(self) -> None:
        claims, now_s = self.claims(), self.made.time_s
        newest = max(claims.values(), default=0)
        deposed = {node_id for node_id, term in claims.items() if term < newest}
        self.deposed_since_s = {at: self.deposed_since_s.get(at, now_s) for at in sorted(deposed)}
        for node_id, since_s in self.deposed_since_s.items():
            if now_s - since_s > LONGEST_CLAIM_S:
                self.violated(f"{node_id}: claims to lead {LONGEST_CLAIM_S} s after another")

    def heal(self) -> None:
        """Bring everyone back; once a new entry is committed, look for the old ones."""
        self.start_all()
        self.made.network.gap_s.clear()
        self.made.network.delay_s.clear()
        self.made.connect_all()
        if not any(self.can_write() for _ in range(10)):
            self.violated("nothing can be written any more")
        self.made.run(20.0, self.is_whole)
        self.made.run(3.0)  # the last proposals have ended then
        self.made.check_end()

    def is_whole(self) -> bool:
        everyone = [engine.status() for engine in self.made.engines.values()]
        return len({one.delivered_index for one in everyone}) == 1

    def can_write(self) -> bool:
        last = self.made.propose(self.elect())
        self.made.run(3.0, lambda: last.outcomes)
        return bool(last.outcomes == [Outcome.COMMITTED])

    def start_all(self) -> None:
        for node_id in self.made.ids:
            if node_id not in self.made.engines:
                self.made.start(node_id)

    def kill(self, *node_ids: str) -> None:
        for node_id in node_ids:
            self.made.crash(node_id)

    def cut_power(self, *node_ids: str) -> None:
        for node_id in node_ids:
            self.made.crash(node_id, power_cut=True)

    def live(self) -> list[str]:
        return sorted(self.made.engines)

    def violated(self, what: str) -> None:
        if what not in self.made.violations:
            self.made.violations.append(what)


def a_deposed_leader_gets_a_snapshot(scene: Scene) -> None:
    """A commit index is believed that belongs to another log.

    Paper, figure 2, AppendEntries, rules 2 and 5: what a follower may hold as committed ends with
    the last entry that it compared with the leader's. The library sets the commit index of a
    replica that waits for a snapshot by the length of its own, other log; a deposed leader applies
    what was never committed, and answers success.
    """
    made, rng = scene.made, scene.rng
    for link in itertools.permutations(made.ids, 2):
        made.network.delay_s[link] = rng.uniform(0.001, 0.06)
        made.network.gap_s[link] = rng.choice([0.0, 0.004, 0.01])
    leader = scene.begin()
    for _ in range(3):
        if rng.random() < 0.7:
            made.isolate(made.leader() or leader)
        else:
            made.network.cut(*rng.sample(made.ids, 2))
        scene.go(rng.uniform(0.5, 3.0))
        made.connect_all()
        scene.go(rng.uniform(0.3, 1.5))
    scene.heal()


def a_slow_link_blips(scene: Scene) -> None:
    """A follower drops entries that it has vouched for.

    Paper, figure 2, AppendEntries, rule 3: entries are deleted only when one conflicts with a new
    one. The library deletes everything behind the entry before the new ones, so a repeated older
    message takes back what the leader has counted, and committed.
    """
    made, rng = scene.made, scene.rng
    scene.load = 10
    leader = scene.begin()
    slow, away = rng.sample([peer for peer in made.ids if peer != leader], 2)
    delay_s = rng.uniform(0.02, 0.08)
    made.network.delay_s = dict.fromkeys(itertools.permutations(made.ids, 2), delay_s)
    made.network.gap_s[leader, slow] = rng.uniform(0.006, 0.012)
    made.isolate(away)
    for _ in range(rng.randint(1, 4)):
        scene.go(rng.uniform(0.5, 1.5))
        made.network.cut(leader, slow)
        scene.go(rng.uniform(0.01, 0.06))
        made.network.connect(leader, slow)
    scene.go(rng.uniform(0.1, 0.6))
    scene.kill(leader)
    made.network.connect(slow, away)
    scene.elect()
    scene.go(1.0)
    scene.heal()


def one_link_breaks(scene: Scene) -> None:
    """A deposed leader never learns of it, though it talks to those who know.

    Paper, section 5.1: a request with a stale term is rejected, the reply carries the term, and a
    leader that sees a later one steps down. The library ignores such a request without a word, and
    its replies carry no term.
    """
    scene.begin()
    for _ in range(2):
        leader = scene.elect()
        other = scene.rng.choice([peer for peer in scene.made.ids if peer != leader])
        scene.load = 0  # else the one at the broken link lags, and is not elected
        scene.go(scene.rng.uniform(0.0, 0.5))
        scene.made.network.cut(leader, other)
        scene.go(scene.rng.uniform(0.5, 3.0))
        scene.load = 1
        scene.go(scene.rng.uniform(2.0, 5.0))
        scene.made.connect_all()
        scene.go(1.0)
    scene.heal()


def killed_while_compacting(scene: Scene) -> None:
    """The log is lost when a process dies between its dump and the trimming of its log.

    Paper, section 7: a snapshot replaces the entries up to its last one, those behind it are kept.
    The library empties the log if its first entries are not the very ones that the dump ends with,
    and an entry counts as stored (figure 2, persistent state) that a restart throws away.
    """
    scene.load = 2
    scene.begin()
    for _ in range(4):
        scene.go(scene.rng.uniform(0.3, 1.5))
        victims = scene.live() if scene.rng.random() < 0.4 else [scene.rng.choice(scene.live())]
        scene.kill(*victims)
        scene.go(scene.rng.uniform(0.1, 0.6))
        scene.start_all()
        scene.made.connect_all()
    scene.heal()


def power_cuts(scene: Scene) -> None:
    """What was acknowledged, or voted, is forgotten when the power is cut.

    Paper, figure 2, persistent state: term, vote and log are on stable storage before a request is
    answered. The library syncs nothing, ever.
    """
    scene.begin()
    for _ in range(5):
        scene.go(scene.rng.uniform(0.5, 2.0))
        victims = scene.live() if scene.rng.random() < 0.4 else [scene.rng.choice(scene.live())]
        scene.cut_power(*victims)
        scene.go(scene.rng.uniform(0.1, 0.6))
        scene.start_all()
        scene.made.connect_all()
    scene.heal()


def the_commit_index_outlives_the_log(scene: Scene) -> None:
    """A leader answers alone, since what it remembers as committed reaches beyond its log.

    Paper, figure 2: the commit index is volatile, and a leader raises it to an index only if a
    majority stores that entry (section 5.3). The library stores it in a file of its own; when that
    file reached the disk and the end of the log did not, new entries at those indexes count as
    committed at once.
    """
    made, rng = scene.made, scene.rng
    scene.begin()
    for _ in range(4):
        scene.go(rng.uniform(0.5, 2.0))
        scene.cut_power(*scene.live())
        scene.start_all()
        made.connect_all()
        leader = scene.elect()
        made.run(rng.uniform(0.0, 0.1))
        made.isolate(leader)
        alone = [made.propose(leader) for _ in range(10)]
        made.run(1.0)
        if any(asked.outcomes == [Outcome.COMMITTED] for asked in alone):
            scene.violated(f"{leader}: acknowledges what it alone has")
        made.connect_all()
    scene.heal()


def a_bit_flips(scene: Scene) -> None:
    """A log is read back that is not the one that was written.

    Paper, section 3 (figure 3), state machine safety, rests on logs that stay what they were. The
    library has no checksum: a replica applies what the others never heard of.
    """
    made, rng = scene.made, scene.rng
    scene.begin()
    for _ in range(3):
        scene.go(rng.uniform(0.3, 1.0))
        victim = rng.choice(made.ids)
        scene.kill(victim)
        flip_a_bit(made.disks[victim], rng)
        try:
            made.start(victim)
        except Exception:  # it refuses: as one is told to do then, it comes back empty
            made.crash(victim, wipe=True)
            made.start(victim)
        made.connect_all()
        scene.go(1.0)
    scene.heal()


def flip_a_bit(disk: Any, rng: Random) -> None:
    """Change one bit within the largest file, which is the log."""

    def used(name: str) -> int:
        file = disk.open(name)
        return len(file.read(0, file.size()).rstrip(b"\0"))

    name = max(disk.names(), key=used)
    disk.flip_bit(name, rng.randrange(used(name)), rng.randrange(8))


def a_leader_is_cut_off(scene: Scene) -> None:
    """A leader that reaches nobody goes on to claim that it leads, and answers reads.

    Paper, section 8: a leader hears from a majority before it answers a read; thesis, section 6.2:
    it steps down when an election timeout passes without that. The library waits for 30 s, and has
    no other read than from the state of the replica that says it leads.
    """
    scene.load = 1
    scene.begin()
    for _ in range(2):
        scene.made.isolate(scene.elect())
        scene.go(scene.rng.uniform(1.0, 6.0))
        scene.made.connect_all()
        scene.go(scene.rng.uniform(0.5, 1.5))
    scene.heal()


def a_disk_is_replaced(scene: Scene) -> None:
    """A replica whose disk was lost votes as if it had never promised anything.

    Paper, figure 2: log and vote are never lost, and leader completeness (section 5.4) counts on
    it. One of three disks is lost, once; the library lets the empty replica make a majority with
    one that lags, and what the other two had stored is gone.
    """
    made, rng = scene.made, scene.rng
    scene.begin()
    lagging, wiped = rng.sample(made.ids, 2)
    for number in range(6):
        if rng.random() < 0.6:
            made.isolate(lagging)
        scene.go(rng.uniform(0.2, 1.0))
        if number == 2:
            made.crash(wiped, wipe=True)
            made.start(wiped)
        for link in itertools.combinations(made.ids, 2):
            if rng.random() < 0.4:
                made.network.cut(*link)
            if rng.random() < 0.6:
                made.network.connect(*link)
        scene.go(rng.uniform(0.5, 2.0))
    scene.heal()


@dataclass(frozen=True)
class Accident:
    """What happens, and the settings it happens under."""

    happen: Callable[[Scene], None]
    settings: Mapping[str, Any] = field(default_factory=dict)
    """For any world."""
    judged: str = ""
    """See `Scene.judged`."""
    library: Mapping[str, Any] = field(default_factory=dict)
    """For the library's replicas: its own settings, or which files it is given."""


_COMPACTING = {"snapshot_entries": 30, "snapshot_takes_s": 0.3}

ACCIDENTS: Mapping[str, Accident] = {
    "snapshot-for-deposed": Accident(
        a_deposed_leader_gets_a_snapshot,
        {"snapshot_entries": 30},
        library={"logCompactionBatchSize": 256},
    ),
    "slow-link": Accident(a_slow_link_blips, library={"appendEntriesBatchSizeBytes": 512}),
    "one-link": Accident(one_link_breaks, judged="claims"),
    "killed-while-compacting": Accident(killed_while_compacting, _COMPACTING),
    "compacted-without-dump": Accident(
        killed_while_compacting, _COMPACTING, library={"dumps": False}
    ),
    "power-cut": Accident(power_cuts),
    "commit-index": Accident(the_commit_index_outlives_the_log),
    "bit-flip": Accident(a_bit_flips),
    "cut-off-claims": Accident(a_leader_is_cut_off, judged="claims"),
    "cut-off-reads": Accident(a_leader_is_cut_off, judged="reads"),
    "wiped": Accident(a_disk_is_replaced),
}


def happen(accident: str, made: Any, seed: int) -> list[str]:
    """Let an accident happen in a world; what it broke, empty if nothing."""
    scene = Scene(made, Random(seed), judged=ACCIDENTS[accident].judged)
    with suppress(StuckError):
        ACCIDENTS[accident].happen(scene)
    return list(dict.fromkeys(made.violations))
