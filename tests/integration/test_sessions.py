"""Sessions over raw gRPC: a retry takes effect once, on whichever replica it lands."""

import pytest

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.client import methods

from .waiting import PATIENCE_S, eventually
from .wire import (
    ABORTED,
    FAILED_PRECONDITION,
    INVALID_ARGUMENT,
    NOT_FOUND,
    RESOURCE_EXHAUSTED,
    refused,
)


def create(wire, type, metadata):
    request = pb.CreateTaskRequest(type=type, required_tools=["nobody has this"])
    return wire.call(methods.CREATE_TASK, request, **metadata).task


def tasks_of(wire, type):
    return [task.id for task in wire.list_tasks() if task.type == type]


def test_a_retry_gets_the_first_answer_on_any_replica(cluster, here, wire, name):
    session = here.open_session(ttl_seconds=60)
    assert session.window > 0
    metadata = session.metadata()
    task = create(here, name("first"), metadata)
    for node in cluster.nodes.values():
        assert create(wire(node), name("first"), metadata) == task
    assert tasks_of(here, name("first")) == [task.id]
    lease = here.acquire(name("key"), here.register(name("agent"))).lease
    request = pb.ReleaseLeaseRequest(
        task_id=lease.task_id, agent_id=lease.holder_agent_id, token=lease.token
    )
    metadata = session.metadata()
    for node in cluster.nodes.values():  # the first answer, not the NOT_FOUND of a second release
        wire(node).call(methods.RELEASE_LEASE, request, **metadata)


def test_a_refusal_is_an_answer_too(here, there, name):
    metadata = here.open_session().metadata()
    request = pb.DeletePolicyRequest(id=name("policy"))
    with refused(NOT_FOUND):
        here.call(methods.DELETE_POLICY, request, **metadata)
    there.set_policy(name("policy"))
    with refused(NOT_FOUND):
        there.call(methods.DELETE_POLICY, request, **metadata)
    there.call(methods.DELETE_POLICY, request)


def test_copies_that_race_take_effect_once(cluster, here, wire, name):
    session = here.open_session()
    request = pb.CreateTaskRequest(type=name("raced"), required_tools=["nobody has this"])
    wires = [wire(node) for node in cluster.nodes.values()]
    for _ in range(10):
        metadata = session.metadata()
        calls = [w.begin(methods.CREATE_TASK, request, **metadata) for w in wires * 2]
        assert len({call.result(PATIENCE_S).task.id for call in calls}) == 1
    assert len(tasks_of(here, name("raced"))) == 10


def test_an_answer_that_was_seen_is_unknown(here, there, name):
    session = here.open_session()
    first = session.metadata()
    create(here, name("first"), first)
    session.seen = 1
    create(here, name("second"), session.metadata())
    for metadata in (first, {**first, "agentkeeper-seen": "1"}):
        with refused(ABORTED, definite=False, reason="outcome_unknown"):
            create(there, name("first"), metadata)
    assert len(tasks_of(there, name("first"))) == 1


def test_a_number_is_for_one_request(here, there, name):
    metadata = here.open_session().metadata()
    task = create(here, name("first"), metadata)
    with refused(FAILED_PRECONDITION, reason="number_reused"):
        create(there, name("second"), metadata)
    assert tasks_of(here, name("second")) == []
    assert create(here, name("first"), metadata) == task


def test_requests_beyond_the_window_are_refused(here, there, name):
    session = here.open_session()
    last = session.metadata(session.window)
    create(here, name("last"), last)
    beyond = session.metadata(session.window + 1)
    with refused(RESOURCE_EXHAUSTED, reason="limit"):
        create(there, name("beyond"), beyond)
    assert tasks_of(here, name("beyond")) == []
    session.seen = 1
    create(there, name("beyond"), session.metadata(session.window + 1))
    assert create(here, name("last"), last).type == name("last")


def test_an_unknown_session_is_refused(here, name):
    metadata = {"agentkeeper-session": "f" * 32, "agentkeeper-request": "1"}
    with refused(FAILED_PRECONDITION, definite=False, reason="session_expired"):
        create(here, name("task"), metadata)
    assert tasks_of(here, name("task")) == []


def test_a_closed_session_is_refused(here, there, name):
    session = here.open_session()
    metadata = session.metadata()
    create(here, name("task"), metadata)
    close = pb.CloseSessionRequest(session_id=session.session_id)
    there.call(methods.CLOSE_SESSION, close)
    with refused(FAILED_PRECONDITION, definite=False, reason="session_expired"):
        create(here, name("task"), metadata)
    assert len(tasks_of(here, name("task"))) == 1
    with refused(NOT_FOUND):
        here.call(methods.CLOSE_SESSION, close)


def test_an_expired_session_is_refused_and_use_keeps_one_alive(here, there, name):
    idle, used = here.open_session(ttl_seconds=1), here.open_session(ttl_seconds=1)
    create(here, name("task"), idle.metadata())
    began_ms = there.status().cluster_time_ms

    def two_ttls_later():
        used.seen = used.last
        create(here, name("used"), used.metadata())
        return there.status().cluster_time_ms > began_ms + 2_000

    eventually(two_ttls_later, "cluster time to pass")
    with refused(FAILED_PRECONDITION, definite=False, reason="session_expired"):
        create(there, name("task"), idle.metadata(1))
    assert len(tasks_of(here, name("task"))) == 1


@pytest.mark.parametrize(
    "metadata",
    [
        {"agentkeeper-session": "s"},
        {"agentkeeper-session": "s", "agentkeeper-request": "-1"},
        {"agentkeeper-session": "s", "agentkeeper-request": "1", "agentkeeper-seen": "x"},
    ],
)
def test_malformed_metadata_is_bad_input(here, name, metadata):
    with refused(INVALID_ARGUMENT) as told:
        create(here, name("task"), metadata)
    assert told["agentkeeper-field"].startswith("agentkeeper-")
