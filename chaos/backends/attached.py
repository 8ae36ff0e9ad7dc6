"""Any deployment that runs already: its endpoints, and the commands that hurt and heal it."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from agentkeeper.client.endpoints import parse_endpoint
from agentkeeper.client.status import replica_statuses
from agentkeeper.types import ReplicaStatus
from chaos.backends import Unsupported
from chaos.backends.actions import ActionFailed, Actions, load


class Attached:
    """The replicas that were found, the commands for them, and what has to be undone."""

    def __init__(self, actions: Actions) -> None:
        self.actions = actions
        self.endpoints: dict[str, str] = {}
        """By node id."""
        self.down: set[str] = set()
        self.paused: set[str] = set()
        self.filled: set[str] = set()
        self.shifted: set[str] = set()
        self.cut = False

    def do(self, command: str, names: Sequence[str], **words: object) -> list[str]:
        """Run a command for each of the replicas, all at once; returns what each run said.

        Where it names none of them it is run once for all. Raises ActionFailed, Unsupported.
        """
        hosts = {name: _host(endpoint) for name, endpoint in self.endpoints.items()}
        texts = dict.fromkeys(
            self.actions.fill(
                command,
                name=name,
                host=hosts[name],
                other_hosts=[host for other, host in hosts.items() if other != name],
                **words,
            )
            for name in names
        )
        return self._run(list(texts))

    def do_between(self, command: str, source: str, target: str, **words: object) -> None:
        """Run a command for one way between two replicas. Raises ActionFailed, Unsupported."""
        hosts = {"source_host": self.host(source), "target_host": self.host(target)}
        text = self.actions.fill(command, source=source, target=target, **hosts, **words)
        self.cut = True
        self._run([text])

    def host(self, name: str) -> str:
        """A replica's endpoint without the port."""
        return _host(self.endpoints[name])

    def heal(self) -> None:
        """Undo all that is not undone. Raises what one of the steps raises, after all of them."""
        with contextlib.ExitStack() as steps:  # the last one first, and each whatever others do
            clocks, network = AttachedClocks(self), AttachedNetwork(self)
            disks, processes = AttachedDisks(self), AttachedProcesses(self)
            for name in sorted(self.shifted):
                steps.callback(clocks.shift, name, 0.0)
            steps.callback(processes.start, sorted(self.down))
            steps.callback(processes.resume, sorted(self.paused))
            for name in sorted(self.filled):
                steps.callback(disks.free, name)
            steps.callback(network.heal)

    def _run(self, texts: list[str]) -> list[str]:
        if not texts:
            return []
        with ThreadPoolExecutor(len(texts), "chaos-actions") as pool:
            return list(pool.map(self.actions.run, texts))


def _host(endpoint: str) -> str:
    return parse_endpoint(endpoint).rpartition(":")[0].strip("[]")


class AttachedProcesses:
    """`Processes`, by commands. What is to be undone is noted before it is done."""

    def __init__(self, attached: Attached) -> None:
        self._attached = attached

    def kill(self, names: Sequence[str]) -> None:
        """End all of them at once with SIGKILL."""
        self._end("processes.kill", names)

    def start(self, names: Sequence[str]) -> None:
        """Start those of them that were ended, or do not answer."""
        down = [name for name in names if name in self._attached.down or not self.running(name)]
        self._attached.do("processes.start", down)
        self._attached.down.difference_update(down)

    def stop(self, name: str) -> None:
        """End one in good order with SIGTERM."""
        self._end("processes.stop", [name])

    def pause(self, names: Sequence[str]) -> None:
        """Stop them with SIGSTOP."""
        if "processes.pause" in self._attached.actions.commands:
            self._attached.paused.update(names)
        self._attached.do("processes.pause", names)

    def resume(self, names: Sequence[str]) -> None:
        """Let paused ones go on."""
        paused = [name for name in names if name in self._attached.paused]
        self._attached.do("processes.resume", paused)
        self._attached.paused.difference_update(paused)

    def running(self, name: str) -> bool:
        """Whether it answers, or is paused: no more can be known of it from here."""
        endpoint = self._attached.endpoints[name]
        return name in self._attached.paused or replica_statuses([endpoint])[endpoint] is not None

    def log_tail(self, name: str) -> str:
        """What the command `log` says; nothing without it."""
        if "processes.log" not in self._attached.actions.commands:
            return ""
        return "\n".join(self._attached.do("processes.log", [name]))

    def memory_bytes(self, name: str) -> int:
        """What the command `memory` says; 0 without it, or if that is no number."""
        if "processes.memory" not in self._attached.actions.commands:
            return 0
        try:
            (said,) = self._attached.do("processes.memory", [name])
            return int(said)
        except (ActionFailed, ValueError):  # as where it does not run
            return 0

    def _end(self, command: str, names: Sequence[str]) -> None:
        if command in self._attached.actions.commands:
            self._attached.down.update(names)
        self._attached.do(command, names)
        self._attached.paused.difference_update(names)


class AttachedNetwork:
    """`Network`, by commands. Whether clients are cut off, too, is up to these."""

    def __init__(self, attached: Attached) -> None:
        self._attached = attached

    def isolate(self, name: str) -> None:
        """Cut one off from all other replicas."""
        if "network.isolate" in self._attached.actions.commands:
            self._attached.cut = True
        self._attached.do("network.isolate", [name])

    def heal(self) -> None:
        """Let everything pass everywhere, if anything was cut."""
        if self._attached.cut:
            self._attached.do("network.heal", list(self._attached.endpoints))
            self._attached.cut = False


class AttachedLinks:
    """`Links`, by commands."""

    def __init__(self, attached: Attached) -> None:
        self._attached = attached

    def cut(self, source: str, target: str) -> None:
        """Let nothing pass from one to the other."""
        self._attached.do_between("links.cut", source, target)

    def slow(self, source: str, target: str, delay_ms: float) -> None:
        """Delay every packet of one way."""
        self._attached.do_between("links.slow", source, target, delay_ms=delay_ms)

    def lossy(self, source: str, target: str, share: float) -> None:
        """Drop this share of the packets of one way."""
        self._attached.do_between("links.lossy", source, target, share=share)


class AttachedDisks:
    """`Disks`, by commands."""

    def __init__(self, attached: Attached) -> None:
        self._attached = attached

    def fill(self, name: str) -> None:
        """Take all room that is left."""
        if "disks.fill" in self._attached.actions.commands:
            self._attached.filled.add(name)
        self._attached.do("disks.fill", [name])

    def free(self, name: str) -> None:
        """Give back what `fill` took."""
        if name in self._attached.filled:
            self._attached.do("disks.free", [name])
            self._attached.filled.discard(name)

    def cut_power(self, names: Sequence[str]) -> None:
        """Lose what was not synced, on all of them at once, and end their daemons."""
        if "disks.cut_power" in self._attached.actions.commands:
            self._attached.down.update(names)
        self._attached.do("disks.cut_power", names)

    def flip(self, name: str, rng: random.Random) -> str:
        """Turn over a byte in a file of one that does not run; returns what the command said."""
        return "\n".join(self._attached.do("disks.flip", [name], seed=rng.getrandbits(32)))

    def tear(self, name: str, rng: random.Random) -> str:
        """Take some last bytes off the log of one that does not run; likewise."""
        return "\n".join(self._attached.do("disks.tear", [name], seed=rng.getrandbits(32)))

    def wipe(self, name: str) -> None:
        """Remove all data of one that does not run."""
        self._attached.do("disks.wipe", [name])


class AttachedClocks:
    """`Clocks`, by commands."""

    def __init__(self, attached: Attached) -> None:
        self._attached = attached

    def shift(self, name: str, offset_s: float) -> None:
        """Let a replica's wall clock be this far off the true time."""
        if "clocks.shift" in self._attached.actions.commands:
            self._attached.shifted.add(name)
        self._attached.do("clocks.shift", [name], offset_s=offset_s)
        if not offset_s:
            self._attached.shifted.discard(name)


class AttachedBackend:
    """`Backend` of whatever runs: it has the means that its file of actions has commands for.

    Without a file only clients can be hurt. A fault for which single commands are missing raises
    Unsupported before anything is done. All that was done to it is undone in the end; that is not
    waited for.
    """

    def __init__(self, endpoints: Sequence[str], actions: Path | None = None) -> None:
        """Nobody is asked yet. Raises Unsupported if the file can't be used."""
        said = load(actions) if actions else Actions()
        if bool(endpoints) == bool(said.replicas):
            raise Unsupported(
                "name the replicas' endpoints either in the file of actions or beside"
            )
        self._given = list(endpoints) or list(said.replicas.values())
        self._attached = attached = Attached(said)
        self.replicas: Sequence[str] = ()
        self.endpoints: Sequence[str] = ()
        self.processes = AttachedProcesses(attached) if said.has("processes") else None
        self.network = AttachedNetwork(attached) if said.has("network") else None
        self.links = AttachedLinks(attached) if said.has("links") else None
        self.disks = AttachedDisks(attached) if said.has("disks") else None
        self.clocks = AttachedClocks(attached) if said.has("clocks") else None

    def statuses(self) -> dict[str, ReplicaStatus | None]:
        """What each replica says of itself; None for one that is silent."""
        said = replica_statuses(self.endpoints)
        return dict(zip(self.replicas, (said[at] for at in self.endpoints), strict=True))

    def unready_reason(self, name: str) -> str:
        """Why it can't serve linearizable calls; empty if it can."""
        endpoint = self._attached.endpoints[name]
        status = replica_statuses([endpoint])[endpoint]
        return f"no answer on {endpoint}" if status is None else status.not_ready_reason

    def __enter__(self) -> Self:
        """Ask the replicas who they are. Raises Unsupported if they are not one whole cluster."""
        found: dict[str, str] = {}
        for endpoint, status in replica_statuses(self._given).items():
            if status is None:
                raise Unsupported(f"no replica answers on {endpoint}")
            others = {view.node_id for view in status.replicas}
            if len(others) > len(self._given):
                raise Unsupported(f"name all replicas of the cluster: {', '.join(sorted(others))}")
            found[status.node_id] = endpoint
        named = self._attached.actions.replicas
        for name, endpoint in named.items():
            if found.get(name) != endpoint:
                raise Unsupported(f"the replica on {endpoint} does not call itself {name!r}")
        if len(found) < len(self._given):
            raise Unsupported("two endpoints are the same replica's")
        self._attached.endpoints = dict(sorted(found.items()))
        self.replicas = list(self._attached.endpoints)
        self.endpoints = list(self._attached.endpoints.values())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Undo what is not undone."""
        self._attached.heal()
