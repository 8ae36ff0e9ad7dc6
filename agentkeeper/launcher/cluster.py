"""A cluster of daemon processes on loopback ports."""

from __future__ import annotations

import contextlib
import json
import os
import string
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from agentkeeper.client import AgentKeeperClient
from agentkeeper.client.ports import free_ports
from agentkeeper.client.status import leader_among, replica_statuses
from agentkeeper.launcher.node import GRACE_S, Node
from agentkeeper.types import ReplicaStatus

READY_TIMEOUT_S = 30.0
POLL_S = 0.05
HOST = "127.0.0.1"
LAYOUT_FILE = "cluster.json"
MAX_REPLICAS = 16


class LocalCluster:
    """Replicas of the daemon as real processes. A context manager: starts, and leaves no trace.

    Its processes end with this one, however this one ends.
    """

    def __init__(
        self,
        replicas: int = 3,
        data_dir: str | os.PathLike[str] | None = None,
        python: str = sys.executable,
        *,
        extra_args: Sequence[str] = (),
        node_args: Mapping[str, Sequence[str]] | None = None,
        env: Mapping[str, str] | None = None,
        node_env: Mapping[str, Mapping[str, str]] | None = None,
        route: Callable[[str, str, str], str] | None = None,
    ) -> None:
        """Lay out the cluster; nothing is started yet.

        Without `data_dir` a temporary directory is used, and removed on `close`. `extra_args` go
        to every replica's command line, `node_args` to that of the one named ("a", "b", ...),
        `env` is added to the environment of all, `node_env` to that of the one named. On data that
        a former cluster has left, replicas have the addresses they had. Raises ValueError, also if
        that had another number of replicas, and OSError.

        With `route`, something stands between those who connect and the replicas:
        `route(source, target, address)` is called once for each way and returns the address by
        which `source`, a replica's name or "" for clients, is to reach the replica `target`, whose
        own one is `address`. This object itself goes to the replicas directly.
        """
        if not 1 <= replicas <= MAX_REPLICAS:
            raise ValueError(f"replicas must be from 1 to {MAX_REPLICAS}")
        self._files = contextlib.ExitStack()
        if data_dir is None:
            temporary = tempfile.TemporaryDirectory(prefix="agentkeeper-cluster-")
            data_dir = self._files.enter_context(temporary)
        self.data_dir = Path(data_dir).resolve()
        self.data_dir.mkdir(parents=True, exist_ok=True)
        names = string.ascii_lowercase[:replicas]
        addresses = _addresses(self.data_dir / LAYOUT_FILE, names)
        self.nodes: dict[str, Node] = {}
        for name in names:
            addr, metrics_addr = addresses[name]["client"], addresses[name]["metrics"]
            endpoint = addr if route is None else route("", name, addr)
            command = [python, "-m", "agentkeeper", "serve"]
            if replicas > 1:
                peers = {other: addresses[other]["peer"] for other in names}
                if route is not None:
                    peers |= {o: route(name, o, peers[o]) for o in names if o != name}
                listed = ",".join(f"{other}={address}" for other, address in peers.items())
                command += ["--node-id", name, "--peers", listed]
            command += ["--addr", addr, "--metrics-addr", metrics_addr]
            if endpoint != addr:
                command += ["--advertise-addr", endpoint]
            command += ["--data-dir", str(self.data_dir / name)]
            command += [*extra_args, *(node_args or {}).get(name, ())]
            self.nodes[name] = Node(
                name,
                command,
                addr=addr,
                endpoint=endpoint,
                metrics_addr=metrics_addr,
                data_dir=self.data_dir / name,
                log_path=self.data_dir / f"{name}.log",
                env={**(env or {}), **(node_env or {}).get(name, {})},
            )

    @property
    def endpoints(self) -> list[str]:
        """Where clients reach the replicas, in the order of their names."""
        return [node.endpoint for node in self.nodes.values()]

    def client(self, *, timeout: float = 30.0) -> AgentKeeperClient:
        """Return a client of all replicas."""
        return AgentKeeperClient(endpoints=self.endpoints, timeout=timeout)

    def start(self) -> None:
        """Start all replicas that are not running, without waiting for them."""
        for node in self.nodes.values():
            if not node.running:
                node.start()

    def wait_ready(
        self, timeout_s: float = READY_TIMEOUT_S, nodes: Iterable[Node] | None = None
    ) -> None:
        """Wait until `nodes` (all of them by default) can serve linearizable calls.

        Raises ChildFailed, showing the end of its log, when one has ended, TimeoutError, saying
        what each is missing, when time runs out.
        """
        waiting = list(self.nodes.values() if nodes is None else nodes)
        deadline = time.monotonic() + timeout_s
        while True:
            for node in waiting:
                node.check_running()
            reasons = {node: node.unready_reason() for node in waiting}
            waiting = [node for node in waiting if reasons[node]]
            if not waiting:
                return
            if time.monotonic() > deadline:
                missing = "\n".join(
                    f"{node.name}: {reasons[node]}; the end of its log:\n{node.log_tail()}"
                    for node in waiting
                )
                raise TimeoutError(f"not ready within {timeout_s:g} s:\n{missing}")
            time.sleep(POLL_S)

    def statuses(self) -> dict[str, ReplicaStatus | None]:
        """Return by name what each replica says about itself, None for one that is silent."""
        addresses = {name: node.addr for name, node in self.nodes.items()}
        by_address = replica_statuses(list(addresses.values()), timeout=1.0)
        return {name: by_address[address] for name, address in addresses.items()}

    def find_leader(self) -> Node | None:
        """Return the replica that leads a majority now, if there is one."""
        statuses = self.statuses()
        leader = leader_among(list(statuses.values()))
        if leader is None:
            return None
        return next(self.nodes[name] for name, known in statuses.items() if known is leader)

    def leader(self, timeout_s: float = 10.0) -> Node:
        """Wait for a leader and return it. Raises TimeoutError."""
        deadline = time.monotonic() + timeout_s
        while (leader := self.find_leader()) is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"no leader within {timeout_s:g} s: {self.statuses()}")
            time.sleep(POLL_S)
        return leader

    def followers(self) -> list[Node]:
        """Return the running replicas that do not lead."""
        leader = self.leader()
        return [node for node in self.nodes.values() if node.running and node is not leader]

    def stop(self, grace_s: float = GRACE_S) -> dict[str, int | None]:
        """Stop all replicas and return their exit codes by name; they can be started again."""
        for node in self.nodes.values():
            node.request_stop()
        deadline = time.monotonic() + grace_s
        return {
            name: node.terminate(max(0.1, deadline - time.monotonic()))
            for name, node in self.nodes.items()
        }

    def close(self) -> None:
        """Stop all replicas and remove a temporary data directory. Harmless when repeated."""
        self.stop()
        self._files.close()

    def __enter__(self) -> Self:
        try:
            self.start()
            self.wait_ready()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _addresses(path: Path, names: str) -> dict[str, dict[str, str]]:
    """Return each replica's addresses: those in the file at `path`, or new ones put there."""
    if path.exists():
        known: dict[str, dict[str, str]] = json.loads(path.read_text())
        if sorted(known) != sorted(names):
            raise ValueError(f"{path.parent} holds a cluster of {len(known)} replicas")
        return known
    ports = iter(free_ports(3 * len(names)))
    drawn = {
        name: {use: f"{HOST}:{next(ports)}" for use in ("peer", "client", "metrics")}
        for name in names
    }
    path.write_text(json.dumps(drawn, indent=2))
    return drawn
