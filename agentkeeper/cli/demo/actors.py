"""The demo's agents, each a process of its own: `python -m agentkeeper.cli.demo.actors ROLE ...`.

An actor tells what happens to it in lines of JSON on its standard output.
"""

from __future__ import annotations

import json
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from agentkeeper import AgentKeeperClient, AgentKeeperError, ElectionState

LEDGER_TOOL = "demo-ledger"  # which no worker has, so that nobody claims what the writers write
WRITER_THREADS = 4
CONTESTED_LEASES = 6
LEASE_TTL_S = 10

_print_lock = threading.Lock()
_stopping = threading.Event()


def tell(what: str, **facts: Any) -> None:
    """Report something that happened."""
    line = json.dumps({"what": what, **facts})
    with _print_lock:
        print(line, flush=True)


def worker(client: AgentKeeperClient, name: str) -> None:
    """Claim tasks and complete them, for ever."""
    with client.register(
        name, f"Worker {name} that reads documents", "1.0", tools=["pdf_reader"], ttl=10
    ) as agent:
        tell("registered", agent_id=agent.agent_id)
        while True:
            task = client.claim_task(agent.agent_id)
            tell("claimed", task_id=task.id, token=task.claim_token)
            client.complete_task(task.id, agent.agent_id, b"done by " + name.encode())
            tell("completed", task_id=task.id)


def orchestrator(client: AgentKeeperClient, name: str, group: str) -> None:
    """Campaign in a group until told to stop."""

    def changed(state: ElectionState) -> None:
        tell("election", leader=state.leader_agent_id, term=state.term)

    with client.register(name, "Plans the work", "1.0", ttl=10) as agent:
        tell("registered", agent_id=agent.agent_id)
        client.campaign(group, agent.agent_id)
        with client.watch_election(group, changed):
            _stopping.wait()


def holder(client: AgentKeeperClient, name: str, key: str, ttl: str) -> None:
    """Hold a lease until killed."""
    agent = client.register(name, "Works on one thing, until it dies", "1.0", ttl=int(ttl))
    lease = client.acquire_lease(key, agent.agent_id, ttl=600)
    if lease is None:
        raise SystemExit(f"somebody holds {key}")
    tell("holding", agent_id=agent.agent_id, token=lease.lease.token)
    _stopping.wait()


def writer(client: AgentKeeperClient, name: str) -> None:
    """Write under contested leases from several threads until told to stop."""

    crashes: list[BaseException] = []

    def write(number: int) -> None:
        try:
            write_on(f"{name}.{number}")
        except BaseException as error:
            crashes.append(error)
            tell("failed", error=f"{name}.{number} ended early: {type(error).__name__}: {error}")

    def write_on(me: str) -> None:
        with client.register(me, "Writes as fast as it can", "1.0", ttl=10) as agent:
            tell("registered", agent_id=agent.agent_id)
            count = 0
            while not _stopping.is_set():
                count += 1
                try:
                    _write_once(client, agent.agent_id, f"{me}.{count}")
                except AgentKeeperError as error:
                    tell("failed", error=f"{type(error).__name__}: {error}")

    threads = [threading.Thread(target=write, args=(n,)) for n in range(WRITER_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if crashes:
        raise SystemExit(f"{len(crashes)} threads of {name} ended early")


def _write_once(client: AgentKeeperClient, agent_id: str, tag: str) -> None:
    key = f"contested-{random.randrange(CONTESTED_LEASES)}"
    asked_s = time.monotonic()
    lease = client.acquire_lease(key, agent_id, ttl=LEASE_TTL_S)
    if lease is None:
        return
    begin_s = time.monotonic()
    tell("granted", tag=f"{key}:{lease.lease.token}", begun_s=asked_s, acked_s=begin_s)
    try:
        client.create_task("demo.write", tag.encode(), required_tools=[LEDGER_TOOL])
        tell("wrote", tag=tag, begun_s=begin_s, acked_s=time.monotonic())
    finally:
        token = lease.lease.token
        # The lease's own end bounds what its holder may believe.
        end_s = min(time.monotonic(), begin_s + LEASE_TTL_S)
        tell("held", key=key, holder=agent_id, token=token, begin_s=begin_s, end_s=end_s)
        lease.release()


ROLES: dict[str, Callable[..., None]] = {
    "worker": worker,
    "orchestrator": orchestrator,
    "holder": holder,
    "writer": writer,
}


def main(arguments: list[str]) -> None:
    """Run one role: ROLE ENDPOINTS NAME [ARGUMENT ...]."""
    role, endpoints, name, *rest = arguments

    def stop(number: int, frame: FrameType | None) -> None:
        _stopping.set()

    signal.signal(signal.SIGTERM, stop)
    with AgentKeeperClient(endpoints=endpoints) as client:
        ROLES[role](client, name, *rest)


if __name__ == "__main__":
    main(sys.argv[1:])
