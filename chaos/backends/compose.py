"""A project of docker compose: one that is started for the run, or one that runs already."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import docker
import yaml
from docker import DockerClient
from docker.errors import DockerException
from docker.models.containers import Container

from agentkeeper.client.status import replica_statuses
from agentkeeper.types import ReplicaStatus
from chaos.backends import Setup, Unsupported
from chaos.backends.containers import (
    ContainerDisks,
    ContainerNetwork,
    ContainerProcesses,
    Containers,
    environment_of,
)

ROOT = Path(__file__).parents[2]
FILES = {3: ROOT / "docker-compose.yml", 5: ROOT / "cluster/compose.five.yml"}
TOOLS = (("docker", "compose"), ("docker-compose",))
IMAGE = "agentkeeper-chaos"
"""The image that is built where none is given."""
PUBLISH_ADDR = "127.0.7.71"
"""On the loopback, and nobody else's: another project may use the same ports elsewhere."""
CLIENT_PORT = "7070/tcp"
ANY_ADDRESS = ("", "0.0.0.0", "::")
ENGINE_TIMEOUT_S = 120
COMMAND_TIMEOUT_S = 1200
READY_TIMEOUT_S = 120.0
POLL_S = 0.2


class ComposeBackend:
    """`Backend` of containers.

    Without `project`, one with a name of its own is started on `publish_addr`, and removed in the
    end with its volumes; its logs stay in the folder of the setup. `image` is used if given, or
    the variable IMAGE; otherwise one is built from this tree, without the model. With `project`,
    that one is used as it is, whatever the setup says, and is neither started nor removed; in the
    end all its replicas are connected, resumed and started again. What they have lost by then
    (files that were damaged or wiped) they have got from each other.
    """

    links = None
    clocks = None

    def __init__(
        self,
        setup: Setup,
        *,
        project: str | None = None,
        image: str | None = None,
        publish_addr: str = PUBLISH_ADDR,
    ) -> None:
        """Nothing is started yet. Raises Unsupported if the setup can't be had from compose."""
        if project is None:
            if setup.replicas not in FILES:
                raise Unsupported(f"there are compose files for {sorted(FILES)} replicas only")
            if setup.python:
                raise Unsupported("another interpreter can't be had in containers")
        self._setup = setup
        self._started_here = project is None
        self._name = project or f"agentkeeper-chaos-{uuid.uuid4().hex[:8]}"
        self._image = image or os.environ.get("IMAGE", "")
        self._publish_addr = publish_addr
        self._undo = contextlib.ExitStack()
        self._containers = Containers()
        self.processes = ContainerProcesses(self._containers)
        self.network = ContainerNetwork(self._containers)
        self.disks = ContainerDisks(self._containers)
        self.replicas: Sequence[str] = ()
        self.endpoints: Sequence[str] = ()

    def statuses(self) -> dict[str, ReplicaStatus | None]:
        """What each replica says of itself; None for one that is silent."""
        said = replica_statuses(self.endpoints)
        return dict(zip(self.replicas, (said[at] for at in self.endpoints), strict=True))

    def unready_reason(self, name: str) -> str:
        """Why it can't serve linearizable calls; empty if it can."""
        endpoint = self.endpoints[self.replicas.index(name)]
        status = replica_statuses([endpoint])[endpoint]
        return f"no answer on {endpoint}" if status is None else status.not_ready_reason

    def __enter__(self) -> Self:
        """Start the project, or find it, and wait until all serve.

        Raises Unsupported, TimeoutError.
        """
        with contextlib.ExitStack() as undo:
            try:
                client: DockerClient = docker.from_env(timeout=ENGINE_TIMEOUT_S)
                undo.callback(client.close)
                client.ping()
            except DockerException as error:
                raise Unsupported(f"there is no Docker engine: {error}") from None
            if self._started_here:
                self._start(undo)
            found = replicas_among(
                client.containers.list(
                    all=True, filters={"label": f"com.docker.compose.project={self._name}"}
                )
            )
            if not found:
                raise Unsupported(f"the project {self._name} has no replicas of AgentKeeper")
            self.endpoints = [published(container, name) for name, container in found.items()]
            self.replicas = list(found)
            self._containers.adopt(client, found)
            if self._started_here:
                undo.callback(self._keep_logs)
            else:
                undo.callback(self._containers.heal)
            self._containers.hold()
            self._await_ready()
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Remove the project, or heal all that was done to it."""
        self._undo.close()

    def _start(self, undo: contextlib.ExitStack) -> None:
        if not self._image:
            dockerfile = str(ROOT / "cluster/Dockerfile")
            _run("docker", "build", "-f", dockerfile, "--build-arg=EXTRAS=", "-t", IMAGE, str(ROOT))
        file = FILES[self._setup.replicas]
        own = self._setup.folder / "compose.yml"
        own.parent.mkdir(parents=True, exist_ok=True)
        own.write_text(yaml.safe_dump(overrides(file, self._setup)))
        project = (f"--file={file}", f"--file={own}", f"--project-name={self._name}")
        command = (*_tool(), *project)
        variables = {"IMAGE": self._image or IMAGE, "PUBLISH_ADDR": self._publish_addr}
        undo.callback(_run, *command, "down", "--volumes", "--timeout=1", variables=variables)
        _run(*command, "up", "-d", variables=variables)

    def _await_ready(self) -> None:
        give_up = time.monotonic() + READY_TIMEOUT_S
        while reasons := {n: why for n in self.replicas if (why := self.unready_reason(n))}:
            if time.monotonic() > give_up:
                said = "\n".join(
                    f"{name}: {why}; the end of its log:\n{self.processes.log_tail(name)}"
                    for name, why in reasons.items()
                )
                raise TimeoutError(f"not ready within {READY_TIMEOUT_S:g} s:\n{said}")
            time.sleep(POLL_S)

    def _keep_logs(self) -> None:
        for name in self.replicas:
            (self._setup.folder / f"{name}.log").write_text(self.processes.log(name))


def overrides(file: Path, setup: Setup) -> dict[str, object]:
    """What a second compose file must say to give every replica the settings that are wanted."""
    replica = {"command": ["serve", *setup.settings], "environment": dict(setup.environment)}
    services = yaml.safe_load(file.read_text())["services"]
    names = [name for name, it in services.items() if "AGENTKEEPER_NODE_ID" in _variables(it)]
    return {"services": dict.fromkeys(names, replica)}


def _variables(service: Mapping[str, object]) -> Mapping[str, object]:
    variables = service.get("environment", {})
    assert isinstance(variables, dict)
    return variables


def replicas_among(containers: Sequence[Container]) -> dict[str, Container]:
    """Find the containers that run replicas, by node id, in order."""
    by_name = {
        name: container
        for container in containers
        if (name := environment_of(container).get("AGENTKEEPER_NODE_ID"))
    }
    return dict(sorted(by_name.items()))


def published(container: Container, name: str) -> str:
    """Where a container's port for clients is published. Raises Unsupported if it is not."""
    for binding in container.attrs["NetworkSettings"]["Ports"].get(CLIENT_PORT) or ():
        host = binding["HostIp"]
        return f"{'127.0.0.1' if host in ANY_ADDRESS else host}:{binding['HostPort']}"
    raise Unsupported(f"{name} does not run, or does not publish its port {CLIENT_PORT}")


def _tool() -> tuple[str, ...]:
    for tool in TOOLS:
        with contextlib.suppress(Unsupported):
            _run(*tool, "version")
            return tool
    raise Unsupported("there is neither `docker compose` nor `docker-compose` here")


def _run(*command: str, variables: Mapping[str, str] | None = None) -> None:
    """Run a command to its end. Raises Unsupported with what it said if it fails."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env={**os.environ, **(variables or {})},
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
    except FileNotFoundError:
        raise Unsupported(f"there is no {command[0]} here") from None
    if done.returncode:
        raise Unsupported(f"`{' '.join(command)}` failed:\n{done.stdout}{done.stderr}")
