"""Writers that go on while replicas are hurt, and what must be true of their work afterwards."""

from __future__ import annotations

import threading
import uuid
from collections import Counter

from agentkeeper import errors
from agentkeeper.client import AgentKeeperClient
from agentkeeper.launcher import LocalCluster, Node

from .conftest import client_at
from .wire import Wire, payload_of, subject_of

TIMEOUT_S = 30.0


class Load:
    """Threads that create tasks and acquire and release leases, each by a client of its own.

    One of each kind begins at the replica `first`, the others anywhere. A context manager: the
    writers end with it, and have failed nothing.
    """

    def __init__(self, cluster: LocalCluster, first: Node, writers: int = 4) -> None:
        self.mark = uuid.uuid4().hex[:8]
        self.types: list[str] = []
        """Types of the tasks whose creation was acknowledged; each was used once."""
        self.tokens: list[int] = []
        """Tokens of the leases that were acknowledged."""
        self.unknown: list[errors.OutcomeUnknown] = []
        self.failures: list[BaseException] = []
        self._before = (0, 0)
        self._stop = threading.Event()
        self._clients = [
            client_at(cluster, first) if i < 2 else cluster.client() for i in range(writers)
        ]
        self._agents = [
            client.register(f"writer-{self.mark}", "Writes", "1", ttl=3_600).agent_id
            for client in self._clients
        ]
        works = [self._create_tasks, self._use_leases]
        self._threads = [
            threading.Thread(target=self._run, args=(works[i % 2], i), daemon=True)
            for i in range(writers)
        ]
        for thread in self._threads:
            thread.start()

    def more(self, count: int) -> bool:
        """Whether `count` writes of each kind were acknowledged since this was last so."""
        now = (len(self.types), len(self.tokens))
        if self.failures or all(a - b >= count for a, b in zip(now, self._before, strict=True)):
            self._before = now
            return True
        return False

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(2 * TIMEOUT_S)
        for client in self._clients:
            client.close()
        assert self.failures == []

    def __enter__(self) -> Load:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def check(self, wires: list[Wire], after: int) -> None:
        """Every replica has each acknowledged write, once, and tells of it in the same events."""
        told = [self._events(wire, after) for wire in wires]
        assert all(events == told[0] for events in told)
        for wire in wires:
            tasks = [t for t in wire.list_tasks() if t.type.startswith(self.mark)]
            counts = Counter(task.type for task in tasks)
            assert set(counts.values()) <= {1}, "a write took effect twice"
            assert set(self.types) <= set(counts), "an acknowledged write is lost"
            assert len(counts) <= len(self.types) + len(self.unknown)
        created = {subject_of(e) for e in told[0] if e.topic == "task.created"}
        assert {task.id for task in tasks} <= created
        acquired = [payload_of(e).token.value for e in told[0] if e.topic == "lease.acquired"]
        assert acquired == sorted(set(acquired)), "a token was given out twice, or out of order"
        assert set(self.tokens) <= set(acquired), "an acknowledged lease is lost"
        mine = {f"{self.mark}-{i}" for i in range(len(self._threads))}
        own = [e for e in told[0] if e.topic.startswith("lease.") and subject_of(e) in mine]
        holders = [e.topic for e in own if subject_of(e) == f"{self.mark}-1"]
        assert holders[::2] == ["lease.acquired"] * len(holders[::2])
        assert holders[1::2] == ["lease.released"] * len(holders[1::2])
        assert len(acquired) <= len(self.tokens) + len(self.unknown)

    @staticmethod
    def _events(wire: Wire, after: int) -> list:
        """All events after a sequence number, without gap or repeat."""
        marker = uuid.uuid4().hex
        watch = wire.watch_all(after=after)
        wire.set_policy(marker)
        last = watch.wait_for("policy.set", marker).sequence_number
        watch.cancel()
        assert watch.sequences[: last - after] == list(range(after + 1, last + 1))
        return [e for e in watch.events if e.topic.startswith(("task.", "lease."))]

    def _run(self, work, number: int) -> None:
        count = 0
        while not self._stop.is_set():
            count += 1
            try:
                work(self._clients[number], number, count)
            except errors.OutcomeUnknown as error:
                self.unknown.append(error)
            except BaseException as error:
                self.failures.append(error)
                return

    def _create_tasks(self, client: AgentKeeperClient, number: int, count: int) -> None:
        type = f"{self.mark}-{number}-{count}"
        client.create_task(type, required_tools=["nobody has this"], timeout=TIMEOUT_S)
        self.types.append(type)

    def _use_leases(self, client: AgentKeeperClient, number: int, count: int) -> None:
        key = f"{self.mark}-{number}"
        handle = client.acquire_lease(key, self._agents[number], ttl=600, timeout=TIMEOUT_S)
        assert handle is not None
        self.tokens.append(handle.lease.token)
        handle.release(timeout=TIMEOUT_S)
