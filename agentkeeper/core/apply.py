"""The state machine's one entrance: `apply` takes a batch and returns results and events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from agentkeeper.core import (
    commands as c,
)
from agentkeeper.core import (
    elections,
    epoch,
    leases,
    limits,
    policies,
    refusals,
    registry,
    sessions,
    tasks,
)
from agentkeeper.core.codec import fingerprint
from agentkeeper.core.deadlines import Kind
from agentkeeper.core.records import DONE, Answer, Event, Replica, Result
from agentkeeper.core.state import State

Handler = Callable[[State, Any], Result]


def apply(state: State, batch: c.Batch) -> tuple[list[Result], list[Event]]:
    """Advance time, do what is due of old, run the batch's commands.

    Returns one result per command, and all events in order. Total: a command that can't be done
    is answered with a refusal and changes nothing.
    """
    state.emitted = []
    state.time_ms = max(state.time_ms, batch.time_ms)
    state.wall_ms = batch.wall_ms
    if state.epoch_due:
        epoch.begin(state)  # before anything can be given out
    work_off(state)
    results = [_run(state, command) for command in batch.commands]
    state.fold_digest()
    return results, state.emitted


def work_off(state: State) -> None:
    """Do what is due, in (deadline, kind, id) order, a bounded amount of it.

    What is left over counts as expired for every command all the same (`settled` in each module).
    """
    for _ in range(limits.DUE_WORK_PER_ENTRY):
        due = state.deadlines.next()
        if due is None or not state.expired(due[0]):
            return
        _fall_due(state, due[1], due[2])


def _fall_due(state: State, kind: Kind, key: str) -> None:
    if kind is Kind.AGENT:
        agent = state.agents.get(key)
        if agent is not None:
            registry.miss_deadline(state, agent)
    elif kind is Kind.LEASE:
        lease = state.leases.get(key)
        if lease is not None:
            leases.expire(state, lease)
    elif kind is Kind.WAITER:
        session_id, _, number = key.rpartition("/")
        leases.drop_waiters(state, [(session_id, int(number))])
    elif kind is Kind.CLAIM:
        task = state.tasks.get(key)
        if task is not None:
            tasks.expire_claim(state, task)
    elif kind is Kind.SESSION:
        session = state.sessions.get(key)
        if session is not None:
            sessions.end(state, session)
    else:
        _FORGET[kind](state, key)


_FORGET: Final[dict[Kind, Callable[[State, str], None]]] = {
    Kind.DEAD_AGENT: registry.forget,
    Kind.FINISHED_TASK: tasks.forget,
    Kind.EMPTY_GROUP: elections.forget,
}


def _run(state: State, command: c.Command) -> Result:
    body = command.body
    if isinstance(body, c.OpenSession):
        return sessions.open_session(state, body, command.identity)
    if not command.session_id:
        return _handle(state, command)
    mark = fingerprint(body)
    answer = sessions.admit(state, command, mark)
    if answer is not None:
        return answer
    result = _handle(state, command)
    if command.session_id in state.sessions:
        key = (command.session_id, command.number)
        state.answers.put(key, Answer(result, mark, command.attempt))
    return result


def _handle(state: State, command: c.Command) -> Result:
    body = command.body
    if isinstance(body, c.AcquireLease):
        return leases.acquire(state, body, command.session_id, command.number)
    if isinstance(body, c.CloseSession):
        return sessions.close_session(state, body, command.identity)
    return _HANDLERS[type(body)](state, body)


def _takeover(state: State, command: c.Takeover) -> Result:
    # What had expired stays so; what a former grace still protects is protected on.
    if state.time_ms >= state.grace_until_ms:
        state.grace_from_ms = state.time_ms
    state.grace_until_ms = max(state.grace_until_ms, state.time_ms + command.grace_ms)
    return DONE


def _announce(state: State, command: c.Announce) -> Result:
    if command.node_id not in state.replicas and len(state.replicas) >= limits.REPLICAS:
        return refusals.limit("replicas", limits.REPLICAS)
    state.replicas.put(command.node_id, Replica(*command))
    return DONE


def _raise_version(state: State, command: c.RaiseVersion) -> Result:
    state.cluster_version = max(state.cluster_version, command.version)
    return DONE


_HANDLERS: Final[dict[type[Any], Handler]] = {
    c.Register: registry.register,
    c.Heartbeat: registry.heartbeat,
    c.Deregister: registry.deregister,
    c.RenewLease: leases.renew,
    c.ReleaseLease: leases.release,
    c.Campaign: elections.campaign,
    c.Resign: elections.resign,
    c.SetPolicy: policies.set_policy,
    c.DeletePolicy: policies.delete_policy,
    c.CreateTask: tasks.create,
    c.ClaimTask: tasks.claim,
    c.CompleteTask: tasks.complete,
    c.FailTask: tasks.fail,
    c.ExtendTask: tasks.extend,
    c.RequeueTask: tasks.requeue,
    c.Withdraw: sessions.withdraw,
    c.Takeover: _takeover,
    c.Announce: _announce,
    c.RaiseVersion: _raise_version,
}
