"""Clients that write and read while machines fail, and what must be true of their work after."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from integration.ledger import Ledger
from integration.waiting import eventually
from integration.wire import Wire

from agentkeeper.launcher import LocalCluster
from agentkeeper.types import WatchEvent, WatchGap

TIMEOUT_S = 90.0
"""Of a call, and far above any outage here: none may fail."""
TTL_S = 3_600
WAIT_S = 5.0
PACE_S = 0.005
"""Between two pieces of work: load that leaves the replicas time to do something else."""
NOBODYS_TOOL = "nobody has this"
WATCHERS = 2
TURNS = {"lease.acquired", "lease.released", "lease.expired"}

Work = Callable[[int], None]


class Load:
    """Threads that create tasks, take leases and read, by clients of their own; and two watches.

    Every call is to succeed, whatever happens to the replicas meanwhile. A context manager: it
    begins on entry; `finish` ends it and checks the accounts.
    """

    def __init__(self, cluster: LocalCluster, seed: int) -> None:
        self.mark = uuid.uuid4().hex[:8]
        self.ledger = Ledger()
        self._cluster = cluster
        self._rng = random.Random(seed)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._newest_token = 0
        self._kept: Any = None
        works: dict[str, Work] = {
            "create 1": self._create,
            "create 2": self._create,
            "cycle 1": self._cycle,
            "cycle 2": self._cycle,
            "contend 1": self._contend,
            "contend 2": self._contend,
            "read": self._read,
        }
        self._clients = [cluster.client(timeout=TIMEOUT_S) for _ in works]
        self._threads = {
            who: threading.Thread(target=self._run, args=(work, i, who), daemon=True)
            for i, (who, work) in enumerate(works.items())
        }

    def __enter__(self) -> Load:
        self._agents = [
            client.register("load", "At work", "1", ttl=TTL_S).agent_id for client in self._clients
        ]
        for number in range(WATCHERS):
            who = f"watch {number}"
            self._clients[number].watch(
                [], self._seeing(who), on_gap=lambda gap, who=who: self._gap(who, gap)
            )
        self._kept = self._clients[0].acquire_lease(self._key("kept"), self._agents[0], ttl=TTL_S)
        self.ledger.tokens[self._key("kept")].append(self._kept.token)
        for thread in self._threads.values():
            thread.start()
        try:
            self.await_more(1, "everybody at work")
        except BaseException as error:
            self.__exit__(type(error))
            raise
        return self

    def __exit__(self, kind: object, *exception: object) -> None:
        if kind is None:
            self._end()
        for client in self._clients:
            client.close()
        self._end()  # the calls of a test that failed have ended with their clients
        if kind is None:
            assert not self.ledger.failures, self.ledger.report()

    @property
    def acknowledged(self) -> int:
        """How many rounds of writes: a task, or a lease from acquiring it to its release."""
        return sum(count for who, count in self.ledger.acts.items() if who != "read")

    def tell(self, what: str) -> None:
        """Say what is done to the cluster, for the report of a failure."""
        self.ledger.tell(what)

    def await_writes(self, count: int) -> None:
        """Wait until `count` more rounds of writes are acknowledged, whoever made them."""
        goal = self.acknowledged + count
        self._await(lambda: self.acknowledged >= goal, f"{count} more writes")

    def await_more(self, count: int, what: str) -> None:
        """Wait until everybody has succeeded `count` times more."""
        before = Counter(self.ledger.acts)

        def all_went_on() -> bool:
            return all(self.ledger.acts[who] - before[who] >= count for who in self._threads)

        self._await(all_went_on, what)
        self.tell(what)

    def finish(self) -> None:
        """End the writing, and find all that was acknowledged on every replica that runs."""
        self._end()
        assert not self.ledger.failures, self.ledger.report()
        wires = [Wire(node.endpoint) for node in self._cluster.nodes.values() if node.running]
        try:
            for wire in wires:
                self._check_tasks(wire)
            last = int(wires[0].watch_all().headers["agentkeeper-sequence"])
        finally:
            for wire in wires:
                wire.close()
        self._check_watches(last)
        self._check_leases()
        print(f"{self.acknowledged} rounds of writes acknowledged, none lost")

    # ------------------------------------------------------------ those at work

    def _run(self, work: Work, number: int, who: str) -> None:
        try:
            while not self._stop.is_set():
                work(number)
                self.ledger.did(who)
                time.sleep(PACE_S)
        except BaseException as error:
            self.ledger.fail(who, error)

    def _create(self, number: int) -> None:
        type = f"{self.mark}-{uuid.uuid4().hex}"
        task = self._clients[number].create_task(type, required_tools=[NOBODYS_TOOL])
        self.ledger.created[type] = task.id

    def _cycle(self, number: int) -> None:
        """A lease of one's own."""
        lease = self._acquire(number, self._key(f"own-{number}"))
        assert lease is not None, "somebody else has it"
        lease.renew()
        lease.release()

    def _contend(self, number: int) -> None:
        """A lease that others want as well."""
        key = self._key("contended")
        lease = self._acquire(number, key, wait=WAIT_S)
        if lease is not None:
            holder = self.ledger.hold(key, f"contend {number}", lease)
            holder.give_back()
            lease.release()

    def _acquire(self, number: int, key: str, wait: float = 0.0) -> Any:
        """Acquire a lease; its token must be above every one that was known before."""
        with self._lock:
            floor = self._newest_token
        lease = self._clients[number].acquire_lease(key, self._agents[number], ttl=TTL_S, wait=wait)
        if lease is not None:
            assert lease.token > floor, f"token {lease.token} was given after {floor}"
            with self._lock:
                self._newest_token = max(self._newest_token, lease.token)
            self.ledger.tokens[key].append(lease.token)
        return lease

    def _read(self, number: int) -> None:
        """What was acknowledged is there, at whichever replica."""
        written = list(self.ledger.created.items())
        if written:
            type, id = self._rng.choice([*written[-10:], *self._rng.sample(written, 1)])
            assert self._clients[number].get_task(id).type == type

    def _seeing(self, who: str) -> Callable[[WatchEvent], None]:
        return self.ledger.seen[who].append

    def _gap(self, who: str, gap: WatchGap) -> None:
        self.ledger.fail(who, f"events are missing: {gap}")

    # ------------------------------------------------------------ the accounts

    def _key(self, stem: str) -> str:
        return f"{self.mark}-{stem}"

    def _await(self, look: Callable[[], bool], what: str) -> None:
        try:
            eventually(lambda: self.ledger.failures or look(), what, TIMEOUT_S)
        except pytest.fail.Exception:
            pytest.fail(f"never: {what}; {self.ledger.acts}\n{self.ledger.report()}")
        assert not self.ledger.failures, self.ledger.report()

    def _end(self) -> None:
        self._stop.set()
        for who, thread in self._threads.items():
            if thread.ident is not None:
                thread.join(2 * TIMEOUT_S)
                if thread.is_alive():
                    self.ledger.fail(who, "never ends")

    def _check_tasks(self, wire: Wire) -> None:
        """A linearizable list at one replica."""
        tasks = {t.type: t.id for t in wire.list_tasks() if t.type.startswith(self.mark)}
        lost = self.ledger.created.items() - tasks.items()
        assert not lost, f"{len(lost)} acknowledged tasks are lost at {wire}: {list(lost)[:3]}"
        assert tasks.keys() == self.ledger.created.keys(), f"not what was acknowledged, at {wire}"

    def _check_watches(self, last: int) -> None:
        for who, seen in self.ledger.seen.items():
            eventually(lambda seen=seen: seen[-1].sequence >= last, f"event {last} by {who}")
            numbers = [event.sequence for event in seen]
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), f"a gap: {who}"
            told = Counter(e.payload.id for e in seen if e.topic == "task.created")
            mine = {id: told[id] for id in self.ledger.created.values()}
            assert set(mine.values()) == {1}, f"{who} was not told of each task once"

    def _check_leases(self) -> None:
        events = next(iter(self.ledger.seen.values()))
        granted = [e.payload.token for e in events if e.topic == "lease.acquired"]
        assert granted == sorted(set(granted)), "a token was given twice, or out of order"
        for key, tokens in self.ledger.tokens.items():
            assert set(tokens) <= set(granted), f"{key}: an acknowledged lease is lost"
            assert len(tokens) == len(set(tokens)), f"{key}: one token for two"
            self._check_turns(key, [e for e in events if e.topic in TURNS])
        client = self._clients[0]
        assert client.verify_token(self._kept.lease.task_id, self._kept.token), "not held any more"
        for key, tokens in self.ledger.tokens.items():
            if key != self._kept.lease.task_id:
                assert not client.verify_token(key, tokens[-1]), f"{key}: held by nobody"

    def _check_turns(self, key: str, turns: list[WatchEvent]) -> None:
        """It is granted to nobody while somebody else holds it."""
        holder = ""
        for event in turns:
            if event.payload.task_id != key:
                continue
            taker = event.payload.holder_agent_id
            assert holder in ("", taker), f"{key}: {event.topic} by {taker}, held by {holder}"
            assert event.topic == "lease.acquired" or holder, f"{key}: {event.topic}, held by none"
            # Only a grant that its waiter did not live to see may expire: ttls are too long.
            assert event.topic != "lease.expired" or key == self._key("contended")
            holder = taker if event.topic == "lease.acquired" else ""
