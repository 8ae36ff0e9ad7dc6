"""What became of tasks."""

from __future__ import annotations

from chaos.checkers.models import FINISHED_TASKS, by_task
from chaos.checkers.verdict import Findings, Verdict
from chaos.history import History, Operation, Outcome

_STATUSES = ("PENDING", "CLAIMED", "COMPLETED", "DEAD")


def check_work(history: History) -> Verdict:
    """Every task is completed once at most, and none is lost."""
    findings = Findings(history)
    keyed = by_task(history.of("tasks"))
    final = None
    if history.final is not None:
        final = {row["id"]: str(row["status"]).upper() for row in history.final.tasks}
    ids: dict[str, str] = {}
    for task_id, operations in keyed.items():
        findings.checked += 1
        for kind in {name for o in operations if (name := _type(o)) is not None}:
            if ids.setdefault(kind, task_id) != task_id:
                findings.add(f"two tasks of type {kind!r}: {ids[kind]}, {task_id}", *operations[:1])
        created = [o for o in operations if o.call == "create" and o.outcome is Outcome.OK]
        completing = [o for o in operations if o.call == "complete"]
        completed = [o for o in completing if o.outcome is Outcome.OK]
        if len(completed) > 1:
            findings.add(f"task {task_id} was completed twice", *completed[:2])
        if final is None:
            continue
        status = final.get(task_id)
        if status is None:
            if created and len(keyed) <= FINISHED_TASKS:
                findings.add(f"task {task_id} is gone", created[0])
        elif status not in _STATUSES:
            findings.add(f"task {task_id} is {status}")
        elif completed and status != "COMPLETED":
            findings.add(f"task {task_id} was completed, and is {status}", completed[0])
        elif status == "COMPLETED" and not any(_may_complete(o.outcome) for o in completing):
            findings.add(f"task {task_id} is COMPLETED, though nobody did", *operations[:1])
    return findings.verdict(
        "work done once",
        "No task is created or completed twice; none is lost, and what is completed stays so.",
    )


def _type(operation: Operation) -> str | None:
    """The type of the task that an answer named: each is given to one task only."""
    if operation.outcome is not Outcome.OK:
        return None
    if operation.call == "create":
        return operation.key
    return str(operation.value["type"]) if operation.call == "claim" else None


def _may_complete(outcome: Outcome) -> bool:
    return outcome in (Outcome.OK, Outcome.UNKNOWN, Outcome.BROKEN)
