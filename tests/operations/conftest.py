"""What the tests of metrics and alerts share."""

import shutil
from collections.abc import Iterator

import pytest

from agentkeeper.launcher import LocalCluster

from .observed import bustle


@pytest.fixture(scope="package")
def watched_cluster() -> Iterator[LocalCluster]:
    """Three replicas in which everything has happened, snapshots included."""
    with LocalCluster(replicas=3, extra_args=["--snapshot-entries", "20"]) as cluster:
        with cluster.client() as client:
            for _ in range(3):
                bustle(client)
        yield cluster


@pytest.fixture
def promtool() -> str:
    """The program that checks what Prometheus is given."""
    return _program("promtool")


@pytest.fixture
def prometheus_program() -> str:
    """Prometheus itself."""
    return _program("prometheus")


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (Debian's package prometheus)")
    return found
