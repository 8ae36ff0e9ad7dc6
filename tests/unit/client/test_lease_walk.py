"""Leases are never counted on by two, whatever clients do and whatever becomes of the network."""

import random

import pytest
from sdk_story import Way, background, eventually, holder_of, is_held

from agentkeeper.errors import AgentKeeperError
from agentkeeper.testing import FakeKeeper


class Walk:
    """Clients that do this and that by lot, while the network does the same."""

    KEYS = ("a", "b")

    def __init__(self, keeper: FakeKeeper, seed: int) -> None:
        self.keeper = keeper
        self.lot = random.Random(seed)
        self.clients = [keeper.client() for _ in range(3)]
        self.ways = [Way(client) for client in self.clients]
        self.agents = [self.register(number, timeout=30) for number in range(3)]
        self.is_cut = [False] * 3
        self.handles = []
        self.grants = 0
        self.waiting = []
        self.acquiring = []

    def register(self, number: int, timeout: float):
        ttl = self.lot.choice([3, 10, 600])
        return self.clients[number].register("x", "", "1", ttl=ttl, timeout=timeout)

    def step(self) -> None:
        number = self.lot.randrange(3)
        what = self.lot.choices(
            ["acquire", "renew", "release", "advance", "cut", "mend", "late", "die", "line"],
            [8, 5, 2, 8, 2, 3, 3, 1, 2],
        )[0]
        getattr(self, what)(number)
        self.collect()
        self.look()

    def patience_s(self, number: int) -> float:
        return 0 if self.is_cut[number] else 30

    def call(self, number: int, call, *args, **keywords):
        """Make a call, on a thread of its own as its answer may be late; None if it fails."""
        tasks = self.clients[number]._runner._tasks
        before = set(tasks)
        calling = background(call, *args, timeout=self.patience_s(number), **keywords)
        while not calling.done():
            eventually(lambda: calling.done() or set(tasks) - before, "a call under way")
            self.keeper.advance(0)
            self.look()
            if set(tasks) - before:  # it needs time
                self.keeper.advance(self.lot.choice([0.3, 1]))
                self.look()
        error = calling.exception()
        assert error is None or isinstance(error, AgentKeeperError), error
        return None if error else calling.result()

    def acquire(self, number: int) -> None:
        ttl = self.lot.choice([1, 2, 5, 30, 120])
        acquire = self.clients[number].acquire_lease
        agent_id, key = self.agents[number].agent_id, self.lot.choice(self.KEYS)
        keep_alive = self.lot.random() < 0.5
        self.acquiring.append((key, agent_id))
        acquired = self.call(number, acquire, key, agent_id, ttl, keep_alive=keep_alive)
        self.acquiring.remove((key, agent_id))
        self.keep(number, key, acquired)

    def line(self, number: int) -> None:
        if not self.is_cut[number]:
            client, key = self.clients[number], self.lot.choice(self.KEYS)
            agent_id, wait = self.agents[number].agent_id, self.lot.choice([3, 20])
            waiting = background(client.acquire_lease, key, agent_id, 10, wait=wait)
            self.acquiring.append((key, agent_id))
            self.waiting.append((number, key, agent_id, waiting))

    def collect(self) -> None:
        for entry in [entry for entry in self.waiting if entry[3].done()]:
            self.waiting.remove(entry)
            number, key, agent_id, waiting = entry
            self.acquiring.remove((key, agent_id))
            assert waiting.exception() is None or isinstance(waiting.exception(), AgentKeeperError)
            self.keep(number, key, None if waiting.exception() else waiting.result())

    def keep(self, number: int, key: str, handle) -> None:
        if handle is not None:
            self.handles.append((number, key, handle))
            self.grants += 1

    def renew(self, _: int) -> None:
        if self.handles:
            number, _, handle = self.lot.choice(self.handles[-6:])
            self.call(number, handle.renew, self.lot.choice([None, 1, 4, 60]))

    def release(self, _: int) -> None:
        if self.handles:
            number, _, handle = self.lot.choice(self.handles[-6:])
            self.call(number, handle.release)

    def advance(self, _: int) -> None:
        self.keeper.advance(self.lot.choice([0, 0.05, 0.5, 1, 2.97, 5, 20, 60]))

    def cut(self, number: int) -> None:
        self.keeper.disconnect(self.clients[number])
        self.is_cut[number] = True

    def mend(self, number: int) -> None:
        self.keeper.reconnect(self.clients[number])
        self.is_cut[number] = False

    def late(self, number: int) -> None:
        late_s = self.lot.choice([0, 0, 0.7, 3])
        self.ways[number].late_s = dict.fromkeys(("RenewLease", "AcquireLease"), late_s)

    def die(self, number: int) -> None:
        if not self.is_cut[number]:
            self.call(number, self.agents[number].deregister)
            self.agents[number] = self.call(number, self.register, number) or self.agents[number]

    def look(self) -> None:
        """Whoever counts on a lease has it, and nobody else counts on it.

        An agent that is just acquiring its own lease anew may have a newer token than it knows.
        """
        for _, key, handle in self.handles:
            if is_held(handle):
                agent_id, token = holder_of(self.keeper, key) or ("", 0)
                assert agent_id == handle.lease.holder_agent_id, (handle, self.keeper.now)
                if (key, agent_id) not in self.acquiring:
                    assert token == handle.token, (handle, self.keeper.now)


@pytest.mark.parametrize("seed", range(20))
def test_no_lease_is_counted_on_by_two(fake_keeper: FakeKeeper, seed: int):
    walk = Walk(fake_keeper, seed)
    for _ in range(60):
        walk.step()
    assert walk.grants > 3
