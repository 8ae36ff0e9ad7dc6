"""What these tests need of a machine: root, loop devices, ext4, network namespaces."""

import os
import random
from pathlib import Path

import pytest

from chaos.backends import Unsupported
from chaos.backends.disk import MIB, Disk, fail
from chaos.backends.network import Network, socket_in

SEED = int(os.environ.get("MACHINES_SEED", "1"))


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """The seed of a test's choices; MACHINES_SEED in the environment gives another."""
    print(f"MACHINES_SEED={SEED} pytest {request.node.nodeid!r}")
    return SEED


@pytest.fixture
def rng(seed: int) -> random.Random:
    return random.Random(seed)


@pytest.fixture(scope="session")
def disks_can_fail(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skips where no ext4 can be mounted and its power cut."""
    folder = tmp_path_factory.mktemp("probe")
    try:
        with Disk(folder / "image", folder / "mounted", 8 * MIB) as disk:
            fail([disk])
    except (Unsupported, OSError) as error:
        pytest.skip(f"no power cuts without root and loop devices: {error}")


@pytest.fixture(scope="session")
def networks_can_be_cut() -> None:
    """Skips where no network namespaces can be made and entered."""
    try:
        with Network("ab") as network:
            socket_in(network.namespace("a")).close()
    except (Unsupported, OSError) as error:
        pytest.skip(f"no network cuts without root and network namespaces: {error}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path
