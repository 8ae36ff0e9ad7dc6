"""TaskService through a follower and through the leader."""

import pytest

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.client import methods

from .waiting import eventually
from .wire import FAILED_PRECONDITION, NOT_FOUND, PERMISSION_DENIED, refused


def claim(wire, agent_id):
    return wire.call(methods.CLAIM_TASK, pb.ClaimTaskRequest(agent_id=agent_id)).task


def complete(wire, task, **fields):
    request = pb.CompleteTaskRequest(
        task_id=task.id, agent_id=task.claimed_by_agent_id, claim_token=task.claim_token, **fields
    )
    wire.call(methods.COMPLETE_TASK, request)


def fail(wire, task, reason="broken"):
    request = pb.FailTaskRequest(
        task_id=task.id,
        agent_id=task.claimed_by_agent_id,
        reason=reason,
        claim_token=task.claim_token,
    )
    wire.call(methods.FAIL_TASK, request)


def extend(wire, task, ttl=0):
    request = pb.ExtendTaskRequest(
        task_id=task.id,
        agent_id=task.claimed_by_agent_id,
        claim_token=task.claim_token,
        ttl_seconds=ttl,
    )
    return wire.call(methods.EXTEND_TASK, request).task


def requeue(wire, task):
    return wire.call(methods.REQUEUE_TASK, pb.RequeueTaskRequest(task_id=task.id)).task


def test_a_task_is_created_claimed_and_completed(here, there, name):
    tool = name("tool")
    agent_id = here.register(name("worker"), tool)
    task = here.create_task("sum", tool, input=b"1 2", ttl_seconds=90)
    for wire in (here, there):
        assert wire.get_task(task.id) == task
    claimed = claim(there, agent_id)
    assert (claimed.id, claimed.input) == (task.id, b"1 2")
    assert (claimed.status, claimed.claimed_by_agent_id) == (pb.TASK_STATUS_CLAIMED, agent_id)
    assert claimed.claim_token > 0
    assert extend(here, claimed, 120).status == pb.TASK_STATUS_CLAIMED
    complete(here, claimed, output=b"3")
    for wire in (here, there):
        done = wire.get_task(task.id)
        assert (done.status, done.output) == (pb.TASK_STATUS_COMPLETED, b"3")
    with refused(FAILED_PRECONDITION):
        complete(there, claimed)


def test_failures_are_retried_then_the_task_is_dead_and_can_be_requeued(here, there, name):
    tool = name("tool")
    agent_id = here.register(name("worker"), tool)
    task = here.create_task("sum", tool, max_retries=1)
    with refused(FAILED_PRECONDITION):
        requeue(here, task)
    fail(here, claim(here, agent_id))
    pending = there.get_task(task.id)
    assert (pending.status, pending.retry_count) == (pb.TASK_STATUS_PENDING, 1)
    fail(there, claim(there, agent_id), "again")
    dead = here.get_task(task.id)
    assert (dead.status, dead.failure_reason) == (pb.TASK_STATUS_DEAD, "again")
    fresh = requeue(here, task)
    assert (fresh.status, fresh.retry_count) == (pb.TASK_STATUS_PENDING, 0)
    complete(here, claim(there, agent_id))


def test_an_old_claim_wins_nothing(here, there, name):
    tool = name("tool")
    one, two = (here.register(name(stem), tool) for stem in ("one", "two"))
    watch = there.watch_all("task.")
    task = here.create_task("sum", tool, ttl_seconds=1)
    former = claim(here, one)
    watch.wait_for("task.requeued", task.id)
    present = claim(there, two)
    assert (present.id, present.expired_claims) == (task.id, 1)
    assert present.claim_token > former.claim_token
    for call in (complete, fail, extend):
        with refused(PERMISSION_DENIED):
            call(here, former)
    present = extend(here, present, 90)
    complete(here, present)


def test_tasks_come_by_priority_then_age_to_agents_that_have_the_tools(here, there, name):
    tool = name("tool")
    agent_id = here.register(name("worker"), tool)
    here.create_task("too much", tool, name("other"), priority=9)
    old, young, urgent = (
        wire.create_task("sum", tool, priority=p).id
        for wire, p in ((here, 0), (there, 0), (here, 5))
    )
    assert [claim(there, agent_id).id for _ in range(3)] == [urgent, old, young]


def test_an_idempotency_key_names_one_task(here, there, name):
    task = here.create_task("sum", input=b"first", idempotency_key=name("key"))
    again = there.create_task("sum", input=b"second", idempotency_key=name("key"))
    assert (again.id, again.input) == (task.id, b"first")


def test_the_death_of_the_claimant_requeues(here, there, name):
    tool = name("tool")
    one, two = (here.register(name(stem), tool) for stem in ("one", "two"))
    task = here.create_task("sum", tool)
    assert claim(here, one).id == task.id
    there.call(methods.DEREGISTER, pb.DeregisterRequest(agent_id=one))
    assert claim(there, two).id == task.id


def test_tasks_are_listed_by_age_status_and_page(here, there, name):
    tool = name("tool")
    agent_id = here.register(name("worker"), tool)
    ids = [here.create_task("sum", tool).id for _ in range(7)]
    claimed = claim(here, agent_id)
    assert claimed.id == ids[0]
    for wire in (here, there):
        for limit in (0, 1, 3, 1_000):
            mine = [
                task.id for task in wire.list_tasks(limit=limit) if task.required_tools == [tool]
            ]
            assert mine == ids
        pending = [task.id for task in wire.list_tasks(pb.TASK_STATUS_PENDING)]
        assert [task_id for task_id in pending if task_id in ids] == ids[1:]
        held = {task.id for task in wire.list_tasks(pb.TASK_STATUS_CLAIMED, limit=1)}
        assert held & set(ids) == {claimed.id}


def test_pages_of_large_tasks_stay_within_a_message(here, name):
    tool = name("tool")
    ids = [here.create_task("large", tool, input=bytes(1_000_000)).id for _ in range(5)]
    mine = [task.id for task in here.list_tasks(limit=1_000) if task.required_tools == [tool]]
    assert mine == ids
    agent_id = here.register(name("worker"), tool)
    for _ in ids:  # out of the way of tests that list everything at once
        fail(here, claim(here, agent_id))


@pytest.mark.parametrize("call", [complete, fail, extend, requeue])
def test_nobody_knows_a_stranger(here, name, call):
    agent_id = here.register(name("worker"))
    with refused(NOT_FOUND):
        call(here, pb.Task(id=name("task"), claimed_by_agent_id=agent_id))
    with refused(NOT_FOUND):
        here.get_task(name("task"))
    with refused(NOT_FOUND):
        claim(here, "0" * 32)


def test_finished_tasks_tell_when(here, name):
    tool = name("tool")
    agent_id = here.register(name("worker"), tool)
    here.create_task("sum", tool)
    task = claim(here, agent_id)
    complete(here, task)
    done = eventually(lambda: here.get_task(task.id), "the task")
    assert done.created_at.ToNanoseconds() <= done.claimed_at.ToNanoseconds()
    assert done.claimed_at.ToNanoseconds() <= done.completed_at.ToNanoseconds()
