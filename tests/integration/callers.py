"""Callers of the SDK whose every call is counted, while something is done to the cluster."""

from __future__ import annotations

import threading
import uuid
from collections import Counter

from agentkeeper import errors
from agentkeeper.client import AgentKeeperClient
from agentkeeper.launcher import LocalCluster

TIMEOUT_S = 30.0
PACE_S = 0.01


class Callers:
    """Threads that do what agents do, each by a client of its own, until the end of a `with`.

    No call may fail: time limits are far above any outage. What did is in `failures`.
    """

    def __init__(self, cluster: LocalCluster, callers: int = 8) -> None:
        self.mark = uuid.uuid4().hex[:8]
        self.calls: Counter[str] = Counter()
        """How often each method succeeded."""
        self.failures: list[str] = []
        self.tokens: list[int] = []
        """Tokens of leases and claims that were acknowledged."""
        self._stop = threading.Event()
        self._clients = [cluster.client() for _ in range(callers)]
        self._threads = [
            threading.Thread(target=self._run, args=(client, i), daemon=True)
            for i, client in enumerate(self._clients)
        ]

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(2 * TIMEOUT_S)
        for client in self._clients:
            client.close()

    @property
    def total(self) -> int:
        """How many calls have succeeded so far."""
        return sum(self.calls.values())

    def _run(self, client: AgentKeeperClient, number: int) -> None:
        name = f"caller-{self.mark}-{number}"
        agent = None
        count = 0
        while not self._stop.wait(PACE_S):
            count += 1
            try:
                if agent is None:
                    agent = client.register(name, "Calls", "1", tools=[name], ttl=3_600).agent_id
                    self.calls["register"] += 1
                self._cycle(client, agent, name, count)
            except errors.AgentKeeperError as error:
                self.failures.append(f"{name}, cycle {count}: {error!r}")

    def _cycle(self, client: AgentKeeperClient, agent: str, name: str, count: int) -> None:
        lease = client.acquire_lease(name, agent, ttl=60, timeout=TIMEOUT_S)
        assert lease is not None
        self.calls["acquire_lease"] += 1
        self.tokens.append(lease.lease.token)
        task = client.create_task(f"{name}-{count}", required_tools=[name], timeout=TIMEOUT_S)
        self.calls["create_task"] += 1
        claim = client.claim_task(agent, timeout=TIMEOUT_S)
        self.calls["claim_task"] += 1
        self.tokens.append(claim.claim_token)
        assert client.get_task(task.id, timeout=TIMEOUT_S).type == f"{name}-{count}"
        self.calls["get_task"] += 1
        client.complete_task(task.id, agent, b"done", timeout=TIMEOUT_S)
        self.calls["complete_task"] += 1
        client.check_policy(name, "call", "tool", timeout=TIMEOUT_S)
        self.calls["check_policy"] += 1
        lease.release(timeout=TIMEOUT_S)
        self.calls["release_lease"] += 1
