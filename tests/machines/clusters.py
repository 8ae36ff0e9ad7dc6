"""Clusters whose replicas have disks and networks of their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agentkeeper.launcher import LocalCluster
from chaos.backends import namespaces
from chaos.backends.disk import Disk, disks_of
from chaos.backends.namespaces import cluster_on, doors_to
from chaos.backends.network import Network


@contextmanager
def cluster_on_disks(
    folder: Path, size_bytes: int, *extra_args: str
) -> Iterator[tuple[LocalCluster, dict[str, Disk]]]:
    """Three replicas with a disk each, which are mounted where their data folders are."""
    cluster = LocalCluster(replicas=3, data_dir=folder / "cluster", extra_args=extra_args)
    with disks_of(cluster, folder, size_bytes) as disks, cluster:
        yield cluster, disks


@contextmanager
def cluster_in_network(folder: Path, **settings: Any) -> Iterator[tuple[LocalCluster, Network]]:
    """Three replicas, each in a network namespace; clients reach them on loopback all the same."""
    with Network("abc") as network:
        cluster = cluster_on(network, replicas=3, data_dir=folder / "cluster", **settings)
        with doors_to(cluster, network), cluster:
            yield cluster, network


def sharing_a_secret(folder: Path) -> dict[str, Any]:
    """Settings by which three replicas share a secret."""
    return {"extra_args": namespaces.sharing_a_secret(folder)}
