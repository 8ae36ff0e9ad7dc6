"""Replicas as processes of this machine, on loopback."""

from __future__ import annotations

import shutil
import string
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from agentkeeper.launcher import LocalCluster
from agentkeeper.types import ReplicaStatus
from chaos.backends import Clocks, Disks, Links, Network, Processes, Setup
from chaos.backends.clock import LocalClocks
from chaos.backends.disk import MIB, LocalDisks, unmount_leftovers
from chaos.backends.nodes import LocalProcesses, kill

DISK_BYTES = 96 * MIB


class LocalBackend:
    """A local cluster. Disks and clocks of their own are made for replicas if they are needed."""

    def __init__(self, setup: Setup) -> None:
        """Lay out the cluster in `setup.folder`; what a former run has left there goes.

        Raises Unsupported.
        """
        self._folder = setup.folder.resolve()
        data_dir = self._folder / "replicas"
        unmount_leftovers(data_dir)
        shutil.rmtree(data_dir, ignore_errors=True)
        self._folder.mkdir(parents=True, exist_ok=True)
        names = names_of(setup)
        clocks = None
        if "clocks" in setup.needs:
            clocks = LocalClocks(names, self._folder / "clocks")
        self._cluster = self._lay_out(
            replicas=setup.replicas,
            data_dir=data_dir,
            python=setup.python or sys.executable,
            extra_args=setup.settings,
            env={"AGENTKEEPER_MODEL": "none", **setup.environment},
            node_env={name: clocks.environment(name) for name in names} if clocks else None,
        )
        self._disks = None
        if "disks" in setup.needs:
            self._disks = LocalDisks(self._cluster, self._folder, DISK_BYTES)
        self._files = ExitStack()
        self.replicas: Sequence[str] = names
        self.endpoints: Sequence[str] = self._cluster.endpoints
        self.processes: Processes | None = LocalProcesses(self._cluster)
        self.network: Network | None = None
        self.links: Links | None = None
        self.disks: Disks | None = self._disks
        self.clocks: Clocks | None = clocks

    def statuses(self) -> dict[str, ReplicaStatus | None]:
        """What each replica says of itself, by name; None for one that is silent."""
        return self._cluster.statuses()

    def unready_reason(self, name: str) -> str:
        """Why a replica can't serve linearizable calls; empty if it can."""
        return self._cluster.nodes[name].unready_reason()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._surround(stack)
            if self._disks is not None:
                stack.enter_context(self._disks)
            stack.enter_context(self._cluster)
            stack.callback(kill, self._cluster.nodes.values())  # paused ones end in no good order
            self._files = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._files.close()

    def _lay_out(self, **settings: Any) -> LocalCluster:
        return LocalCluster(**settings)

    def _surround(self, stack: ExitStack) -> None:
        """Enter what must be there before the replicas are started."""


def names_of(setup: Setup) -> list[str]:
    """The replicas' names, as a local cluster gives them."""
    return list(string.ascii_lowercase[: setup.replicas])
