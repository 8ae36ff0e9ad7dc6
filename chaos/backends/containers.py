"""Replicas in containers of a Docker engine: what can be done to them."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from docker import DockerClient
from docker.models.containers import Container

from chaos.backends import Unsupported

STOP_TIMEOUT_S = 30
LOG_TAIL_LINES = 60
DATA_DIR = "/var/lib/agentkeeper"
INITS = ("tini", "docker-init")
"""Programs that are process 1 of a container only to start, and to reap, the one that matters."""
VOLUME = Path(__file__).with_name("volume.py")


@dataclass(frozen=True)
class Place:
    """How a container is connected to a network."""

    network: str
    aliases: Sequence[str]
    """The names by which others find it there."""
    ipv4_address: str | None
    """None: the engine gives it any."""


class Containers:
    """The replicas' containers by node id, and what they were like before they were hurt.

    The engine starts none of them by itself from `hold` to `heal`, as their restart policies may
    say: a replica that refuses to start would do so again and again, and one that crashed would be
    back before anybody saw it. Who is killed meanwhile leaves them so.
    """

    def __init__(self) -> None:
        self._found: dict[str, Container] = {}
        self._policies: dict[str, Any] = {}
        self.places: dict[str, list[Place]] = {}

    def adopt(self, client: DockerClient, found: Mapping[str, Container]) -> None:
        """Take these for the replicas, in the state that they shall have again in the end."""
        self.client = client
        self._found = dict(found)
        for name, container in found.items():
            self._policies[name] = container.attrs["HostConfig"]["RestartPolicy"]
            self.places[name] = _places(container)

    def __getitem__(self, name: str) -> Container:
        """The container of a replica, as the engine sees it now."""
        container = self._found[name]
        container.reload()
        return container

    def at_once(self, act: Callable[[Container], Any], names: Sequence[str]) -> None:
        """Do something to several containers at the same time; raises what one of them raises."""
        if not names:
            return
        with ThreadPoolExecutor(len(names), "chaos-containers") as pool:
            for _ in pool.map(lambda name: act(self._found[name]), names):
                pass

    def hold(self) -> None:
        """Keep the engine from starting them."""
        never: Any = {"Name": "no"}
        for container in self._found.values():
            container.update(restart_policy=never)

    def heal(self) -> None:
        """Connect, resume and start all of them, as they were."""
        ContainerNetwork(self).heal()
        processes = ContainerProcesses(self)
        names = list(self._found)
        processes.resume(names)
        processes.start(names)
        for name, policy in self._policies.items():
            self._found[name].update(restart_policy=policy)


def _places(container: Container) -> list[Place]:
    networks = container.attrs["NetworkSettings"]["Networks"]
    return [
        Place(
            network,
            # The engine adds the container's own short id by itself.
            [alias for alias in said["Aliases"] or () if not str(container.id).startswith(alias)],
            (said["IPAMConfig"] or {}).get("IPv4Address"),
        )
        for network, said in networks.items()
    ]


class ContainerProcesses:
    """`Processes`: a container for each."""

    def __init__(self, containers: Containers) -> None:
        self._containers = containers

    def kill(self, names: Sequence[str]) -> None:
        """End all of them at once with SIGKILL, and wait until they are gone."""

        def kill(container: Container) -> None:
            container.kill()
            container.wait()

        self._containers.at_once(kill, [name for name in names if self.running(name)])

    def start(self, names: Sequence[str]) -> None:
        """Start those of them that do not run."""
        down = [name for name in names if not self.running(name)]
        self._containers.at_once(lambda container: container.start(), down)

    def stop(self, name: str) -> None:
        """End one in good order with SIGTERM, and wait until it is gone."""
        self.resume([name])
        self._containers[name].stop(timeout=STOP_TIMEOUT_S)

    def pause(self, names: Sequence[str]) -> None:
        """Freeze all their processes."""
        awake = [name for name in names if self._containers[name].status == "running"]
        self._containers.at_once(lambda container: container.pause(), awake)

    def resume(self, names: Sequence[str]) -> None:
        """Let paused ones go on."""
        asleep = [name for name in names if self._containers[name].status == "paused"]
        self._containers.at_once(lambda container: container.unpause(), asleep)

    def running(self, name: str) -> bool:
        """Whether it has not ended; a paused one has not."""
        return self._containers[name].status in ("running", "paused")

    def log_tail(self, name: str) -> str:
        """The end of what it has said."""
        return self._containers[name].logs(tail=LOG_TAIL_LINES).decode(errors="replace")

    def log(self, name: str) -> str:
        """All that it has said, as far as the engine keeps it."""
        return self._containers[name].logs().decode(errors="replace")

    def memory_bytes(self, name: str) -> int:
        """Resident memory of the daemon itself; 0 if it does not run."""
        container = self._containers[name]
        if container.status not in ("running", "paused"):
            return 0
        table = container.top(ps_args="-eo pid,ppid,rss,comm")["Processes"] or []
        return daemon_kib(table, container.attrs["State"]["Pid"]) * 1024


def daemon_kib(table: Sequence[Sequence[str]], first_pid: int) -> int:
    """Find the daemon among rows of pid, parent, KiB and command; 0 if it is not there.

    It is the container's first process, or the child of that if it is a mere init.
    """
    for pid, _, kib, command in table:
        if int(pid) == first_pid and command not in INITS:
            return int(kib)
    return next((int(kib) for _, parent, kib, _ in table if int(parent) == first_pid), 0)


class ContainerNetwork:
    """`Network`: containers are disconnected from their networks, and connected again.

    Clients outside reach containers by published ports, which go with the network: who is isolated
    here is cut off from clients, too. Who comes back may have another address, but its names.
    """

    def __init__(self, containers: Containers) -> None:
        self._containers = containers

    def isolate(self, name: str) -> None:
        """Disconnect it from everybody."""
        for network in self._connected(name):
            self._containers.client.networks.get(network).disconnect(self._containers[name])

    def heal(self) -> None:
        """Connect whoever is not connected, under its names."""
        for name, places in self._containers.places.items():
            connected = self._connected(name)
            for place in places:
                if place.network not in connected:
                    self._containers.client.networks.get(place.network).connect(
                        self._containers[name],
                        aliases=list(place.aliases),
                        ipv4_address=place.ipv4_address,
                    )

    def _connected(self, name: str) -> list[str]:
        return list(self._containers[name].attrs["NetworkSettings"]["Networks"])


class ContainerDisks:
    """`Disks`: what of a container is mounted from elsewhere, as another container can reach it."""

    def __init__(self, containers: Containers) -> None:
        self._containers = containers

    def fill(self, _: str) -> NoReturn:
        """Impossible. Raises Unsupported."""
        raise Unsupported("volumes of containers share a disk with everything: it can't be filled")

    def free(self, _: str) -> None:
        """Nothing was filled."""

    def cut_power(self, _: Sequence[str]) -> NoReturn:
        """Impossible. Raises Unsupported."""
        raise Unsupported("the power of containers can't be cut: what they wrote is the machine's")

    def flip(self, name: str, rng: random.Random) -> str:
        """Turn over a byte in a file of one that does not run; returns which."""
        return self._within("flip", name, rng.getrandbits(32))

    def tear(self, name: str, rng: random.Random) -> str:
        """Take some last bytes off the log of one that does not run; returns which file's."""
        return self._within("tear", name, rng.getrandbits(32))

    def wipe(self, name: str) -> None:
        """Remove all data of one that does not run."""
        self._within("wipe", name, 0)

    def _within(self, how: str, name: str, seed: int) -> str:
        """Run `volume.py` on the data of a replica, in a container of the same image."""
        container = self._containers[name]
        assert container.status not in ("running", "paused"), f"{name} runs"
        folder = environment_of(container).get("AGENTKEEPER_DATA_DIR", DATA_DIR)
        said: bytes = self._containers.client.containers.run(
            container.attrs["Image"],
            entrypoint=["python", "-c", VOLUME.read_text()],
            command=[how, folder, str(seed)],
            user="0",
            network_mode="none",
            volumes_from=[str(container.id)],
            remove=True,
        )
        return said.decode().strip()


def environment_of(container: Container) -> dict[str, str]:
    """The variables that a container was made with."""
    return dict(line.partition("=")[::2] for line in container.attrs["Config"]["Env"] or ())
