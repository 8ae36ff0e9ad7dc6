"""Accidents that the library alone does not survive, and that the engine built upon it does.

They show that the simulation is able to fail, and for which of the library's rules.
"""

from __future__ import annotations

import itertools
import logging
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pysyncobj import SyncObj, SyncObjConf, replicated, syncobj
from pysyncobj.node import Node
from raft_world import Network, SimulatedTransport, Sockets, world

STEP_S = 0.005


class Stock(SyncObj):
    """The library as it is, replicating a list."""

    def __init__(self, network: Network, node_id: str, ids: str, **settings: Any) -> None:
        self.values: list[str] = []
        transport = SimulatedTransport(network, Node(node_id))
        network.ends[node_id] = transport
        conf = SyncObjConf(autoTick=False, connectionTimeout=10.0, **settings)
        others = [Node(other) for other in ids if other != node_id]
        super().__init__(Node(node_id), others, conf, transport=transport)
        self._poller = Sockets(network, node_id)

    @replicated
    def put(self, value: str) -> None:
        self.values.append(value)

    def last_index(self) -> int:
        return int(self._SyncObj__raftLog[-1][1])


class StockWorld:
    def __init__(self, **settings: Any) -> None:
        self.time_s = 1000.0
        self.network = Network(self.now, random.Random(0))
        self.replicas = {
            node_id: Stock(self.network, node_id, "abc", **settings) for node_id in "abc"
        }
        self.connect("abc")

    def now(self) -> float:
        self.time_s += 2e-6
        return self.time_s

    def connect(self, ids: str) -> None:
        for one, other in itertools.combinations(ids, 2):
            self.network.connect(one, other)

    def isolate(self, node_id: str) -> None:
        for peer in "abc":
            self.network.cut(node_id, peer)

    def run(self, for_s: float, until: Callable[[], object] = lambda: False) -> None:
        end_s = self.time_s + for_s
        while self.time_s < end_s and not until():
            self.step()

    def step(self) -> None:
        self.time_s += STEP_S
        for replica in self.replicas.values():
            replica.doTick(0)

    def leader(self, besides: str = "") -> str:
        def leaders() -> list[str]:
            leading = [(one._getTerm(), at) for at, one in self.replicas.items() if one._isLeader()]
            return [node_id for _, node_id in sorted(leading) if node_id != besides]

        self.run(20.0, leaders)
        return leaders()[-1]


@contextmanager
def stock(**settings: Any) -> Iterator[StockWorld]:
    with pytest.MonkeyPatch.context() as patch:
        logger = logging.getLogger("pysyncobj.syncobj")
        patch.setattr(logger, "disabled", True)
        patch.setattr(syncobj, "random", random.Random(0))
        holder: list[StockWorld] = []
        patch.setattr(syncobj, "monotonicTime", lambda: holder[0].now() if holder else 1000.0)
        holder.append(StockWorld(**settings))
        yield holder[0]


def blips(step: int) -> bool | None:
    """Whether the slow link breaks (False) or comes back (True) before this step."""
    return {0: False, 6: True}.get(step % 300) if step >= 300 else None


def test_the_library_drops_acknowledged_entries_behind_a_slow_link() -> None:
    settings = {"logCompactionMinEntries": 10**6, "appendEntriesBatchSizeBytes": 4096}
    with stock(**settings) as made:
        leader = made.leader()
        made.run(1.0)
        slow, away = (node_id for node_id in "abc" if node_id != leader)
        made.network.delay_s = dict.fromkeys(itertools.permutations("abc", 2), 0.06)
        made.network.gap_s[leader, slow] = 0.006
        made.run(1.0)
        made.isolate(away)
        acknowledged: set[str] = set()
        for number in range(1500):
            for value in (f"{number}.{at}{'y' * 60}" for at in range(10)):
                made.replicas[leader].put(
                    value,
                    callback=lambda _, error, value=value: error or acknowledged.add(value),
                )
            if (up := blips(number)) is not None:
                (made.network.connect if up else made.network.cut)(leader, slow)
            made.step()
            if made.replicas[slow].last_index() < made.replicas[leader].raftCommitIndex:
                break  # the only other copy of something committed is gone
        made.isolate(leader)
        del made.replicas[leader], made.network.ends[leader]
        made.connect(slow + away)
        made.run(8.0)
        assert acknowledged - set(made.replicas[made.leader()].values)


def test_the_engine_keeps_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with world(tmp_path) as made:
        made.start()
        made.connect_all()
        leader = made.elect()
        made.run(1.0)
        slow, away = (node_id for node_id in made.ids if node_id != leader)
        made.network.delay_s = dict.fromkeys(itertools.permutations("abc", 2), 0.06)
        made.network.gap_s[leader, slow] = 0.006
        made.isolate(away)
        for number in range(1000):
            for _ in range(3):
                made.propose(leader)
            if (up := blips(number)) is not None:
                (made.network.connect if up else made.network.cut)(leader, slow)
            made.step()
            assert made.raft(slow).last_index >= made.raft(leader).commit_index
        made.crash(leader)
        made.network.connect(slow, away)
        made.elect()
        made.run(3.0)
        made.start(leader)
        made.connect_all()
        made.run(3.0)
        made.check_end()
        assert not made.violations
        assert made.acknowledged_index > 100


def test_the_library_lets_a_deposed_leader_answer_success() -> None:
    settings: dict[str, Any] = {"logCompactionMinEntries": 50, "logCompactionBatchSize": 256}
    with stock(leaderFallbackTimeout=30.0, **settings) as made:
        old = made.leader()
        made.run(1.0)
        made.isolate(old)
        answers: list[str] = []
        for number in range(10):
            made.replicas[old].put(
                f"lost {number}",
                callback=lambda _, error, number=number: error or answers.append(f"lost {number}"),
            )
        made.run(3.0)
        new = made.leader(besides=old)
        for number in range(200):
            made.replicas[new].put(f"{number}" + "x" * 100)
        made.run(3.0)
        made.network.gap_s[new, old] = 0.01
        made.connect("abc")
        made.run(20.0)
        assert answers
        assert not set(answers) & set(made.replicas[new].values)
