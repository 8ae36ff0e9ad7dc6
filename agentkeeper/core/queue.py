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
        self._since_ms: dict[str, int] = {}
        """When each task in the queue was added, by id."""
        self._by_age: list[tuple[int, str]] = []
        """A heap of (since, task id) of them, and of some that were taken meanwhile."""

    def __len__(self) -> int:
        return len(self._since_ms)

    def add(self, task: Task, now_ms: int) -> None:
        """Queue a task that has just become PENDING, by the wall clock at `now_ms`."""
        heap = self._heaps.setdefault(task.required_tools, [])
        heapq.heappush(heap, (-task.priority, task.order, task.task_id))
        self._since_ms[task.task_id] = now_ms
        heapq.heappush(self._by_age, (now_ms, task.task_id))
        if len(self._by_age) > 64 and len(self._by_age) > 2 * len(self._since_ms):
            self._by_age[:] = [(since_ms, task_id) for task_id, since_ms in self._since_ms.items()]
            heapq.heapify(self._by_age)

    def take(self, tools: frozenset[str]) -> str | None:
        """Remove and return the id of the best task that `tools` cover; None if there is none."""
        fitting = [(heap[0], key) for key, heap in self._heaps.items() if tools.issuperset(key)]
        if not fitting:
            return None
        _, key = min(fitting)
        heap = self._heaps[key]
        task_id = heapq.heappop(heap)[2]
        del self._since_ms[task_id]
        if not heap:
            del self._heaps[key]
        return task_id

    def waits_since_ms(self) -> int | None:
        """When the task that has waited longest was added; None if there is none."""
        while self._by_age and self._since_ms.get(self._by_age[0][1]) != self._by_age[0][0]:
            heapq.heappop(self._by_age)
        return self._by_age[0][0] if self._by_age else None

    def fits(self, tools: frozenset[str]) -> bool:
        """Whether any task is covered by `tools`."""
        return any(tools.issuperset(key) for key in self._heaps)

    def sets(self) -> Iterator[tuple[ToolSet, int]]:
        """The distinct sets of required tools, each with how many tasks wait under it."""
        for key, heap in self._heaps.items():
            yield key, len(heap)
