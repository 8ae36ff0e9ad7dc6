"""Looks at every replica from time to time."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

from agentkeeper.client.status import leader_among
from chaos.backends import Backend
from chaos.report.facts import ReplicaSample, Sample

PERIOD_S = 0.5


class Sampler:
    """A thread that collects samples. A context manager."""

    def __init__(self, backend: Backend) -> None:
        self.samples: list[Sample] = []
        self._backend = backend
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="chaos-sampler")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(PERIOD_S):
            self.samples.append(self._look())

    def _look(self) -> Sample:
        at_ns = time.monotonic_ns()
        statuses = self._backend.statuses()
        leader = leader_among(list(statuses.values()))
        processes = self._backend.processes
        replicas = {
            name: ReplicaSample(
                role=status.role.value if status else "",
                term=status.term if status else 0,
                commit_index=status.commit_index if status else 0,
                ready=status is not None and not self._backend.unready_reason(name),
                memory_bytes=processes.memory_bytes(name) if processes else 0,
            )
            for name, status in statuses.items()
        }
        return Sample(at_ns=at_ns, leader=leader.node_id if leader else "", replicas=replicas)
