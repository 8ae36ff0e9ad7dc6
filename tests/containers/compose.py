"""A project of containers that docker compose runs, as tests see and hurt it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from integration.waiting import eventually

from agentkeeper.client import AgentKeeperClient
from agentkeeper.client.status import leader_among, replica_statuses
from agentkeeper.types import ReplicaStatus

ROOT = Path(__file__).parents[2]
PUBLISHED = "127.0.7.70"
"""On the loopback, and nobody else's: tests need no port that a developer's cluster has."""
IMAGE = "agentkeeper-tests"
COMMAND_TIMEOUT_S = 600
PATIENCE_S = 90.0


def run(*command: str, **options: Any) -> str:
    """Run a command to its end; what it said is in the error if it fails."""
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False, **options
    )
    if done.returncode:
        raise AssertionError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


def docker(*arguments: str) -> str:
    return run("docker", *arguments)


class Project:
    """What one compose file has brought up. `client`, `nodes` and `statuses` as a launched cluster
    has them, so that the same loads run on both."""

    def __init__(
        self, tool: Sequence[str], files: Sequence[Path], name: str, replicas: int
    ) -> None:
        self._command = [*tool, *(f"--file={file}" for file in files), f"--project-name={name}"]
        self._environment = {**os.environ, "PUBLISH_ADDR": PUBLISHED, "IMAGE": IMAGE}
        self.name = name
        self.network = f"{name}_agentkeeper"
        self.names = [f"agentkeeper-{number}" for number in range(1, replicas + 1)]
        self.endpoints = [f"{PUBLISHED}:{7070 + number}" for number in range(1, replicas + 1)]
        self.nodes = {
            name: SimpleNamespace(name=name, endpoint=endpoint, running=True)
            for name, endpoint in zip(self.names, self.endpoints, strict=True)
        }

    def __call__(self, *arguments: str) -> str:
        """Run a subcommand of compose."""
        return run(*self._command, *arguments, cwd=ROOT, env=self._environment)

    def client(self, *, timeout: float = 60.0) -> AgentKeeperClient:
        """A client on this machine, of all replicas."""
        return AgentKeeperClient(endpoints=self.endpoints, timeout=timeout)

    def statuses(self) -> dict[str, ReplicaStatus | None]:
        return replica_statuses(self.endpoints)

    def leader(self) -> str:
        """The name of the replica that leads, once one does."""
        found = eventually(lambda: leader_among(list(self.statuses().values())), "a leader")
        return found.node_id

    def container(self, name: str) -> str:
        """The id of a service's container, whether it runs or not."""
        return self("ps", "-a", "-q", name).strip()

    def containers(self) -> list[str]:
        """The ids of all containers, those that have ended too."""
        label = f"label=com.docker.compose.project={self.name}"
        return docker("ps", "-a", "-q", "--filter", label).split()

    def inspect(self, name: str) -> Any:
        """What the engine says of a service's container."""
        return json.loads(docker("inspect", self.container(name)))[0]

    def inside(self, name: str, *command: str) -> str:
        """Run a command beside a replica."""
        return self("exec", "-T", name, *command)

    def address(self, name: str) -> str:
        """The address of a container on the project's network."""
        return self.inspect(name)["NetworkSettings"]["Networks"][self.network]["IPAddress"]

    def await_healthy(self, names: Sequence[str] = ()) -> None:
        """Wait until replicas, all by default, are healthy in the engine's eyes."""

        def healthy() -> bool:
            states = [self.inspect(name)["State"] for name in names or self.names]
            return all(state.get("Health", {}).get("Status") == "healthy" for state in states)

        try:
            eventually(healthy, "all healthy", PATIENCE_S)
        except BaseException:
            print(self("logs", "--no-color", "--tail=40"))
            raise
