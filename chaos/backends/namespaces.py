"""Replicas as processes of this machine, each in a network namespace. Needs Linux and root."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from agentkeeper.launcher import LocalCluster
from chaos.backends import Setup
from chaos.backends.doors import Doors
from chaos.backends.network import Network
from chaos.backends.processes import LocalBackend, names_of


class NamespaceBackend(LocalBackend):
    """A local cluster with a network between its replicas; clients reach them on loopback."""

    def __init__(self, setup: Setup) -> None:
        """Lay out the cluster. Raises Unsupported, as entering does."""
        with_links = "links" in setup.needs
        self._net = Network(names_of(setup), links=with_links)
        super().__init__(setup)
        self.network = self._net
        self.links = self._net if with_links else None

    def _lay_out(self, **settings: Any) -> LocalCluster:
        if settings["replicas"] > 1:
            settings["extra_args"] = [*settings["extra_args"], *sharing_a_secret(self._folder)]
        return cluster_on(self._net, **settings)

    def _surround(self, stack: ExitStack) -> None:
        stack.enter_context(self._net)
        stack.enter_context(doors_to(self._cluster, self._net))


def cluster_on(network: Network, **settings: Any) -> LocalCluster:
    """Lay out a cluster, each replica of which is to run on the machine of its name.

    `settings` are those of `LocalCluster`; something by which replicas know each other must be
    among them, as they are not on loopback.
    """
    bound: dict[str, str] = {}

    def route(source: str, target: str, address: str) -> str:
        if not source:
            return address
        bound[target] = f"{network.address(target)}:{_port_of(address)}"
        return bound[target]

    cluster = LocalCluster(route=route, **settings)
    for name, node in cluster.nodes.items():
        command = [*node.command, "--raft-bind", bound[name]] if bound else node.command
        node.command = network.on(name, command)
    return cluster


def doors_to(cluster: LocalCluster, network: Network) -> Doors:
    """Doors for clients, and for those who watch, to all replicas of a cluster on a network."""
    ways = [
        (network.namespace(name), _port_of(address))
        for name, node in cluster.nodes.items()
        for address in (node.addr, node.metrics_addr)
    ]
    return Doors(ways, cluster.data_dir / "doors.log")


def sharing_a_secret(folder: Path) -> list[str]:
    """Settings by which all replicas share a secret."""
    secret = folder / "secret"
    secret.write_text("known to the replicas only\n")
    secret.chmod(0o600)
    return ["--raft-secret-file", str(secret)]


def _port_of(address: str) -> int:
    return int(address.rpartition(":")[2])
