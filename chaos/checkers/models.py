"""Linearizability of each kind of object, key by key."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable
from typing import Any, TypeVar

from chaos.checkers import (
    election_model,
    lease_model,
    linearizability,
    policy_model,
    registry_model,
    task_model,
)
from chaos.checkers.election_model import ElectionModel
from chaos.checkers.lease_model import LeaseModel
from chaos.checkers.linearizability import BUDGET, Call, Step
from chaos.checkers.lives import Lives, may_have_effect
from chaos.checkers.registry_model import AgentModel
from chaos.checkers.task_model import TaskModel, passing_claims
from chaos.checkers.verdict import Findings, Verdict
from chaos.history import History, Operation, Outcome

S = TypeVar("S", bound=Hashable)
FINISHED_TASKS = 50_000
"""The cluster keeps as many; older ones are forgotten."""

Keyed = dict[str, list[Operation]]


def check_models(history: History, lives: Lives, budget: int = BUDGET) -> list[Verdict]:
    """All checks of linearizability. `budget` bounds the configurations looked at per key."""
    return [
        _leases(history, lives, budget),
        _elections(history, lives, budget),
        _tasks(history, lives, budget),
        _registry(history, lives, budget),
        _policies(history, budget),
    ]


def by_task(operations: Iterable[Operation]) -> Keyed:
    """The calls about each task, by its id: those that were told of it, or named it."""
    operations = list(operations)
    ids: dict[str, str] = {}
    for operation in operations:
        if operation.outcome is Outcome.OK and operation.call == "claim":
            ids[operation.value["type"]] = operation.value["id"]
        elif operation.outcome is Outcome.OK and operation.call == "create":
            ids[operation.key] = operation.value["id"]
    keyed: defaultdict[str, list[Operation]] = defaultdict(list)
    for operation in operations:
        match operation.call:
            case "claim" if operation.outcome is Outcome.OK:
                keyed[operation.value["id"]].append(operation)
            case "create" if operation.outcome is Outcome.OK:
                keyed[operation.value["id"]].append(operation)
            case "create" if operation.key in ids and may_have_effect(operation.outcome):
                keyed[ids[operation.key]].append(operation)
            case "complete" | "fail" | "extend" | "get":
                keyed[operation.key].append(operation)
    return keyed


class _Keys:
    """The findings over all keys of a kind."""

    def __init__(self, history: History, budget: int) -> None:
        self._findings = Findings(history)
        self._budget = budget

    def check(self, key: str, calls: list[Call[Any]], initial: S, step: Step[S, Any]) -> None:
        """Check one key."""
        result = linearizability.check(calls, initial, step, self._budget)
        self._findings.checked += len(calls)
        if result.undecided:
            self._findings.undecided += len(calls)
        elif result.blocked is not None:
            states = ", ".join(map(str, result.states[:3]))
            what = (
                f"{key!r}: {result.placed} calls can be put in an order, the next one to return "
                f"can't; the state was then one of {len(result.states)}, such as {states}"
            )
            source = result.blocked.source
            self._findings.add(what, *([] if source is None else [source]))

    def verdict(self, kind: str) -> Verdict:
        """The verdict over all of them."""
        about = (
            f"Every answer about {kind} is that of some order of the calls in which each takes "
            "effect once, between its start and its end."
        )
        return self._findings.verdict(f"linearizability of {kind}", about)


def _leases(history: History, lives: Lives, budget: int) -> Verdict:
    keys = _Keys(history, budget)
    for key, operations in _by_key(history.of("leases")).items():
        model = LeaseModel(operations, lives)
        keys.check(key, model.calls, lease_model.FREE, model.step)
    return keys.verdict("leases")


def _elections(history: History, lives: Lives, budget: int) -> Verdict:
    departures: dict[str, Operation] = {}
    for operation in history.operations:
        if operation.call == "deregister" and may_have_effect(operation.outcome):
            departures.setdefault(operation.key, operation)
    keys = _Keys(history, budget)
    for key, operations in _by_key(history.of("elections")).items():
        model = ElectionModel(operations, lives, departures)
        keys.check(key, model.calls, election_model.EMPTY, model.step)
    return keys.verdict("elections")


def _tasks(history: History, lives: Lives, budget: int) -> Verdict:
    operations = history.of("tasks")
    keyed = by_task(operations)
    forgettable = len(keyed) > FINISHED_TASKS
    passing = passing_claims(operations, lease_model.WITHDRAWAL_NS)
    keys = _Keys(history, budget)
    for task_id, of_task in keyed.items():
        model = TaskModel(of_task, lives, passing, forgettable)
        keys.check(task_id, model.calls, task_model.NOWHERE, model.step)
    return keys.verdict("tasks")


def _registry(history: History, lives: Lives, budget: int) -> Verdict:
    keyed: defaultdict[str, list[Operation]] = defaultdict(list)
    for operation in history.operations:
        if operation.call == "register":
            if operation.outcome is Outcome.OK:
                keyed[operation.value["agent"]].append(operation)
        elif operation.workload == "registry" or operation.call == "deregister":
            keyed[operation.key].append(operation)
    keys = _Keys(history, budget)
    for agent, operations in keyed.items():
        if any(operation.call == "register" for operation in operations):
            model = AgentModel(agent, operations, lives)
            keys.check(agent, model.calls, registry_model.NOWHERE, model.step)
    return keys.verdict("the registry")


def _policies(history: History, budget: int) -> Verdict:
    keys = _Keys(history, budget)
    for subject, operations in _by_key(history.of("policies")).items():
        calls = policy_model.calls_of(operations)
        initial: policy_model.Policies = ()
        keys.check(subject, calls, initial, policy_model.step)
    return keys.verdict("policies")


def _by_key(operations: Iterable[Operation]) -> Keyed:
    """By key, without the registrations of the actors' own agents."""
    keyed: defaultdict[str, list[Operation]] = defaultdict(list)
    for operation in operations:
        if operation.call not in ("register", "deregister"):
            keyed[operation.key].append(operation)
    return keyed
