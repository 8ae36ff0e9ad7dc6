"""Clusters whose replicas have disks and networks of their own."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from agentkeeper.launcher import LocalCluster, Node

from .netns import Doors, Network
from .power import Disk


@contextmanager
def cluster_on_disks(
    folder: Path, size_bytes: int, *extra_args: str
) -> Iterator[tuple[LocalCluster, dict[str, Disk]]]:
    """Three replicas with a disk each, which are mounted where their data folders are."""
    cluster = LocalCluster(replicas=3, data_dir=folder / "cluster", extra_args=extra_args)
    with ExitStack() as stack:
        disks = {
            name: stack.enter_context(Disk(folder / f"{name}.img", node.data_dir, size_bytes))
            for name, node in cluster.nodes.items()
        }
        stack.callback(kill, cluster.nodes.values())  # or the disks could not be unmounted
        stack.enter_context(cluster)
        yield cluster, disks


@contextmanager
def cluster_in_network(
    folder: Path, node_args: Mapping[str, Sequence[str]]
) -> Iterator[tuple[LocalCluster, Network]]:
    """Three replicas, each in a network namespace; clients reach them on loopback all the same."""
    with ExitStack() as stack:
        network = stack.enter_context(Network("abc"))
        doors = stack.enter_context(Doors())
        bound: dict[str, str] = {}

        def route(source: str, target: str, address: str) -> str:
            if not source:
                return address
            bound[target] = f"{network.address(target)}:{port_of(address)}"
            return bound[target]

        cluster = LocalCluster(
            replicas=3,
            data_dir=folder / "cluster",
            node_args=node_args,
            route=route,
        )
        for name, node in cluster.nodes.items():
            node.command = network.on(name, [*node.command, "--raft-bind", bound[name]])
            for address in (node.addr, node.metrics_addr):
                doors.open(network.namespace(name), port_of(address))
        stack.callback(kill, cluster.nodes.values())
        stack.enter_context(cluster)
        yield cluster, network


def sharing_a_secret(folder: Path) -> dict[str, list[str]]:
    """Settings by which three replicas share a secret."""
    secret = folder / "secret"
    secret.write_text("known to the replicas only\n")
    secret.chmod(0o600)
    return {name: ["--raft-secret-file", str(secret)] for name in "abc"}


def kill(nodes: Iterable[Node]) -> None:
    """Send SIGKILL to all of them at once, then wait until they are gone."""
    running = [node for node in nodes if node.running]
    for node in running:
        assert node.pid is not None
        os.kill(node.pid, signal.SIGKILL)
    for node in running:
        node.kill()


def port_of(address: str) -> int:
    """The port in `host:port`."""
    return int(address.rpartition(":")[2])
