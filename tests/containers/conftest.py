"""Clusters of containers, where there is a Docker engine to run them."""

import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from .compose import IMAGE, ROOT, Project, docker

TOOLS = {"docker-compose": ["docker-compose"], "docker compose": ["docker", "compose"]}


def works(*command: str) -> bool:
    if shutil.which(command[0]) is None:
        return False
    return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0


@pytest.fixture(scope="session")
def engine() -> None:
    if not works("docker", "info"):
        pytest.skip("there is no Docker engine here")


@pytest.fixture(scope="session")
def image(engine: None) -> str:
    """The image of this tree, whose build the engine remembers as long as nothing changes.

    Without its semantic part, for which the build loads far more than the image then holds.
    """
    docker(
        *("build", "-f", str(ROOT / "cluster/Dockerfile"), "--build-arg", "EXTRAS="),
        *("-t", IMAGE, str(ROOT)),
    )
    return IMAGE


@pytest.fixture(params=TOOLS)
def each_tool(engine: None, request: pytest.FixtureRequest) -> list[str]:
    """The compose of either generation."""
    return tool_named(request.param)


@pytest.fixture
def any_tool(engine: None) -> list[str]:
    """Whichever compose there is, the newer one first."""
    found = [tool for tool in reversed(TOOLS.values()) if works(*tool, "version")]
    if not found:
        pytest.skip("there is no docker compose here")
    return found[0]


def tool_named(name: str) -> list[str]:
    tool = TOOLS[name]
    if not works(*tool, "version"):
        pytest.skip(f"there is no {name} here")
    return tool


@pytest.fixture
def project(image: str) -> Iterator[Callable[..., Project]]:
    """Lays out projects, of which nothing is left in the end."""
    with ExitStack() as made:

        def lay_out(
            tool: list[str], *files: Path, replicas: int = 3, name: str | None = None
        ) -> Project:
            name = name or f"agentkeeper-tests-{uuid.uuid4().hex[:8]}"
            laid_out = Project(tool, files or [ROOT / "docker-compose.yml"], name, replicas)
            made.callback(
                laid_out, "--profile", "observability", "down", "--volumes", "--timeout=1"
            )
            return laid_out

        yield lay_out
