"""The PENDING tasks, by the tools they require, best first."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from agentkeeper.core.records import Task

ToolSet = tuple[str, ...]


class PendingQueue:
    """For each distinct set of required tools a heap of (-priority, order, task id).

    A claim looks at the best task of each set that the agent's tools cover, so its cost grows with
    the number of sets and not with the number of tasks. Derived from the tasks.
    """

    def __init__(self) -> None:
        self._heaps: dict[ToolSet, list[tuple[int, int, str]]] = {}

    def add(self, task: Task) -> None:
        """Queue a task that has just become PENDING."""
        heap = self._heaps.setdefault(task.required_tools, [])
        heapq.heappush(heap, (-task.priority, task.order, task.task_id))

    def take(self, tools: frozenset[str]) -> str | None:
        """Remove and return the id of the best task that `tools` cover; None if there is none."""
        fitting = [(heap[0], key) for key, heap in self._heaps.items() if tools.issuperset(key)]
        if not fitting:
            return None
        _, key = min(fitting)
        heap = self._heaps[key]
        task_id = heapq.heappop(heap)[2]
        if not heap:
            del self._heaps[key]
        return task_id

    def fits(self, tools: frozenset[str]) -> bool:
        """Whether any task is covered by `tools`."""
        return any(tools.issuperset(key) for key in self._heaps)

    def sets(self) -> Iterator[tuple[ToolSet, int]]:
        """The distinct sets of required tools, each with how many tasks wait under it."""
        for key, heap in self._heaps.items():
            yield key, len(heap)
