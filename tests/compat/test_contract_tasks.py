"""Tasks: a claim that blocks, what requeues a task, what ends it."""

from collections.abc import Callable, Iterator

import grpc
import pytest

from .helpers import PATIENCE_S, background, newer_fields, refused
from .legacy_client import AgentHandle, AgentKeeperClient
from .legacy_types import TaskStatus

Name = Callable[[str], str]
NOBODY = "0" * 32


@pytest.fixture
def tool(name: Name) -> str:
    """Keeps the tasks of a test to its own agents."""
    return name("tool")


@pytest.fixture
def one(client: AgentKeeperClient, name: Name, tool: str) -> Iterator[AgentHandle]:
    with client.register(name("one"), "Works", "1.0.0", tools=[tool, name("more")]) as agent:
        yield agent


@pytest.fixture
def two(client: AgentKeeperClient, name: Name, tool: str) -> Iterator[AgentHandle]:
    with client.register(name("two"), "Works too", "1.0.0", tools=[tool]) as agent:
        yield agent


def test_a_task_from_creation_to_completion(
    client: AgentKeeperClient, tool: str, one: AgentHandle
) -> None:
    created = client.create_task("resize", b"\x00in\xff", [tool], max_retries=2, ttl=30)
    assert created.id
    assert (created.type, created.status) == ("resize", TaskStatus.PENDING)
    assert (created.input, created.output, created.required_tools) == (b"\x00in\xff", b"", [tool])
    assert (created.max_retries, created.retry_count) == (2, 0)
    assert (created.claimed_by_agent_id, created.failure_reason) == ("", "")
    assert (created.claimed_at, created.completed_at) == (None, None)
    claimed = client.claim_task(one.agent_id)
    assert (claimed.id, claimed.status) == (created.id, TaskStatus.CLAIMED)
    assert (claimed.claimed_by_agent_id, claimed.input) == (one.agent_id, b"\x00in\xff")
    assert claimed.claimed_at is not None
    client.complete_task(created.id, one.agent_id, output=b"out\x00")
    done = client.get_task(created.id)
    assert (done.status, done.output) == (TaskStatus.COMPLETED, b"out\x00")
    assert done.completed_at is not None


def test_a_task_without_ttl_has_sixty_seconds(client: AgentKeeperClient, tool: str) -> None:
    created = client.call("CreateTask", type="job", required_tools=[tool]).task
    assert newer_fields(created)[18] == 60


def test_a_claim_blocks_until_a_task_fits(
    client: AgentKeeperClient, name: Name, tool: str, one: AgentHandle, two: AgentHandle
) -> None:
    claim = background(client.claim_task, two.agent_id)
    beyond = client.create_task("job", required_tools=[tool, name("more")])
    assert not claim.done()
    fitting = client.create_task("job", required_tools=[tool])
    assert claim.result(PATIENCE_S).id == fitting.id
    assert client.claim_task(one.agent_id).id == beyond.id


def test_each_task_goes_to_one_agent(
    client: AgentKeeperClient, tool: str, one: AgentHandle, two: AgentHandle
) -> None:
    claims = [background(client.claim_task, agent.agent_id) for agent in (one, two) * 3]
    created = {client.create_task("job", required_tools=[tool]).id for _ in range(6)}
    assert {claim.result(PATIENCE_S).id for claim in claims} == created


def test_tasks_are_claimed_in_the_order_of_their_creation(
    client: AgentKeeperClient, tool: str, one: AgentHandle
) -> None:
    created = [client.create_task("job", required_tools=[tool]).id for _ in range(5)]
    assert [client.claim_task(one.agent_id).id for _ in range(5)] == created


def test_a_claim_that_outlives_its_ttl_is_requeued(
    client: AgentKeeperClient, tool: str, one: AgentHandle, two: AgentHandle
) -> None:
    task = client.create_task("job", required_tools=[tool], ttl=1)
    assert client.claim_task(one.agent_id).id == task.id
    again = client.claim_task(two.agent_id)
    assert (again.id, again.claimed_by_agent_id) == (task.id, two.agent_id)
    with refused(grpc.StatusCode.PERMISSION_DENIED):
        client.complete_task(task.id, one.agent_id, b"too late")


def test_a_failed_task_is_requeued_until_its_retries_are_used_up(
    client: AgentKeeperClient, tool: str, one: AgentHandle
) -> None:
    task = client.create_task("job", required_tools=[tool], max_retries=2)
    for failures in (1, 2):
        client.claim_task(one.agent_id)
        client.fail_task(task.id, one.agent_id, reason=f"attempt {failures}")
        requeued = client.get_task(task.id)
        assert (requeued.status, requeued.retry_count) == (TaskStatus.PENDING, failures)
        assert requeued.failure_reason == f"attempt {failures}"
    client.claim_task(one.agent_id)
    client.fail_task(task.id, one.agent_id, reason="the last")
    dead = client.get_task(task.id)
    assert (dead.status, dead.failure_reason) == (TaskStatus.DEAD, "the last")


def test_a_task_without_retries_dies_of_its_first_failure(
    client: AgentKeeperClient, tool: str, one: AgentHandle
) -> None:
    task = client.create_task("job", required_tools=[tool])
    client.claim_task(one.agent_id)
    client.fail_task(task.id, one.agent_id)
    assert client.get_task(task.id).status is TaskStatus.DEAD


def test_only_the_claimant_ends_a_task(
    client: AgentKeeperClient, tool: str, one: AgentHandle, two: AgentHandle
) -> None:
    task = client.create_task("job", required_tools=[tool])
    client.claim_task(one.agent_id)
    for end in (client.complete_task, client.fail_task):
        with refused(grpc.StatusCode.PERMISSION_DENIED):
            end(task.id, two.agent_id)
    assert client.get_task(task.id).status is TaskStatus.CLAIMED
    client.complete_task(task.id, one.agent_id)


def test_list_tasks_by_status(client: AgentKeeperClient, tool: str, one: AgentHandle) -> None:
    first, second, third = (client.create_task("job", required_tools=[tool]) for _ in range(3))
    client.claim_task(one.agent_id)
    client.claim_task(one.agent_id)
    client.complete_task(first.id, one.agent_id)

    def mine(status: TaskStatus | None = None) -> list[str]:
        tasks = client.list_tasks(status)
        return [task.id for task in tasks if task.required_tools == [tool]]

    assert mine() == [first.id, second.id, third.id]
    assert mine(TaskStatus.PENDING) == [third.id]
    assert mine(TaskStatus.CLAIMED) == [second.id]
    assert mine(TaskStatus.COMPLETED) == [first.id]
    assert mine(TaskStatus.DEAD) == []


def test_unknown_tasks_are_not_found(client: AgentKeeperClient, one: AgentHandle) -> None:
    for call in (
        lambda: client.get_task(NOBODY),
        lambda: client.complete_task(NOBODY, one.agent_id),
        lambda: client.fail_task(NOBODY, one.agent_id),
    ):
        with refused(grpc.StatusCode.NOT_FOUND):
            call()


def test_bad_input_is_an_invalid_argument(client: AgentKeeperClient, tool: str) -> None:
    for fields in ({"type": ""}, {"type": "job", "ttl": 2**32 - 1}, {"type": "x" * 10_000}):
        with refused(grpc.StatusCode.INVALID_ARGUMENT):
            client.create_task(required_tools=[tool], **fields)
    with refused(grpc.StatusCode.INVALID_ARGUMENT):
        client.call("ListTasks", status=77)
    assert [task for task in client.list_tasks() if tool in task.required_tools] == []
