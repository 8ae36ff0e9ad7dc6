"""ClaimTask while it blocks: on another replica than where the task is created, and cancelled."""

import pytest

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.client import methods

from .conftest import await_calls, calls_of, freeze
from .waiting import PATIENCE_S
from .wire import ABORTED, NOT_FOUND, payload_of, refused


def begin_claim(node, wire, agent_id, **metadata):
    """Begin to wait for a task; the replica knows of it on return."""
    before = calls_of(node, "ClaimTask")
    request = pb.ClaimTaskRequest(agent_id=agent_id)
    call = wire.begin(methods.CLAIM_TASK, request, timeout=120, **metadata)
    await_calls(node, "ClaimTask", before + 1)
    return call


def test_a_task_created_anywhere_reaches_whoever_waits(cluster, wire, name):
    wires = {node: wire(node) for node in cluster.nodes.values()}
    for waiting, via in wires.items():
        for creating in wires.values():
            tool = name(f"tool-{waiting.name}-{creating.endpoint}")
            agent_id = via.register(name("worker"), tool)
            call = begin_claim(waiting, via, agent_id)
            task = creating.create_task("sum", tool)
            assert call.result(PATIENCE_S).task.id == task.id


def test_each_of_many_waiters_gets_another_task(cluster, wire, name):
    tool = name("tool")
    wires = [wire(node) for node in cluster.nodes.values()]
    agents = [wires[0].register(name(f"worker{i}"), tool) for i in range(9)]
    calls = [
        wires[i % 3].begin(methods.CLAIM_TASK, pb.ClaimTaskRequest(agent_id=agent_id))
        for i, agent_id in enumerate(agents)
    ]
    created = {wires[i % 3].create_task("sum", tool).id for i in range(9)}
    tasks = [call.result(PATIENCE_S).task for call in calls]
    assert {task.id for task in tasks} == created
    assert [task.claimed_by_agent_id for task in tasks] == agents


def test_a_waiter_whose_agent_dies_is_told(cluster, here, there, name):
    node = next(n for n in cluster.nodes.values() if n.endpoint == here.endpoint)
    agent_id = here.register(name("worker"), name("tool"))
    call = begin_claim(node, here, agent_id)
    there.call(methods.DEREGISTER, pb.DeregisterRequest(agent_id=agent_id))
    with refused(NOT_FOUND):
        call.result(PATIENCE_S)


def test_a_cancelled_waiter_leaves_tasks_to_the_next(cluster, here, there, name):
    node = next(n for n in cluster.nodes.values() if n.endpoint == here.endpoint)
    tool = name("tool")
    one, two = (here.register(name(stem), tool) for stem in ("one", "two"))
    first = begin_claim(node, here, one)
    here.cancel(first)
    second = begin_claim(node, here, two)
    task = there.create_task("sum", tool)
    assert second.result(PATIENCE_S).task.id == task.id


@pytest.mark.parametrize("with_session", [True, False])
def test_a_claim_cancelled_before_it_is_decided_is_given_back(rough, wire, name, with_session):
    leader, followers = rough.leader(), rough.followers()
    via = wire(leader)
    tool = name("tool")
    one, two = (via.register(name(stem), tool) for stem in ("one", "two"))
    metadata = via.open_session().metadata() if with_session else {}
    task = via.create_task("sum", tool, ttl_seconds=600)
    watch = via.watch_all("task.")
    for follower in followers:
        freeze(follower)
    call = begin_claim(leader, via, one, **metadata)
    via.cancel(call)
    for follower in followers:
        follower.resume()
    rough.wait_ready()
    requeued = payload_of(watch.wait_for("task.requeued", task.id))
    assert requeued.reason == "claim_withdrawn"
    claimed = via.call(methods.CLAIM_TASK, pb.ClaimTaskRequest(agent_id=two)).task
    assert claimed.id == task.id


@pytest.mark.parametrize("with_session", [True, False])
def test_a_claim_that_waits_in_vain_claims_nothing(here, there, name, with_session):
    tool = name("tool")
    one, two = (here.register(name(stem), tool) for stem in ("one", "two"))
    metadata = here.open_session().metadata() if with_session else {}
    request = pb.ClaimTaskRequest(agent_id=one, wait_ms=100)
    answer = here.call(methods.CLAIM_TASK, request, **metadata)
    assert not answer.HasField("task")
    task = there.create_task("sum", tool)
    if with_session:
        for via in (here, there):
            with refused(ABORTED, reason="withdrawn"):
                via.call(methods.CLAIM_TASK, request, **metadata)
    claimed = there.call(methods.CLAIM_TASK, pb.ClaimTaskRequest(agent_id=two, wait_ms=100)).task
    assert (claimed.id, claimed.expired_claims) == (task.id, 0)


def test_a_task_that_comes_while_a_claim_waits_is_claimed(cluster, here, there, name):
    tool = name("tool")
    agent_id = here.register(name("worker"), tool)
    node = next(n for n in cluster.nodes.values() if n.endpoint == here.endpoint)
    before = calls_of(node, "ClaimTask")
    request = pb.ClaimTaskRequest(agent_id=agent_id, wait_ms=60_000)
    call = here.begin(methods.CLAIM_TASK, request)
    await_calls(node, "ClaimTask", before + 1)
    task = there.create_task("sum", tool)
    assert call.result(PATIENCE_S).task.id == task.id
