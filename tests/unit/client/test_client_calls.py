"""The sync client against stand-ins for the daemon, over real connections."""

import socket
import threading
import time

import grpc
import pytest

from agentkeeper import AgentKeeperClient, errors
from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.types import PolicyEffect, TaskStatus

Code = grpc.StatusCode


@pytest.fixture
def connect():
    clients = []

    def open_client(*addresses, **options):
        clients.append(AgentKeeperClient(endpoints=addresses, **options))
        return clients[-1]

    yield open_client
    for client in clients:
        client.close()


@pytest.fixture
def closed_address():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"


@pytest.fixture
def silent_address():
    """Accepts connections (the kernel does) and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def test_a_host_and_a_port_are_enough(daemons):
    host, port = daemons().address.split(":")
    with AgentKeeperClient(host=host, port=int(port)) as client:
        assert client.find() == []


def test_endpoints_may_be_one_string(daemons):
    with AgentKeeperClient(endpoints=f"{daemons().address}, {daemons().address}") as client:
        assert client.list_policies() == []


def test_a_refused_connection_is_definite(connect, closed_address):
    begin = time.monotonic()
    with pytest.raises(errors.Unavailable, match="cannot connect") as caught:
        connect(closed_address).create_task("x", timeout=0.5)
    assert time.monotonic() - begin < 1.5
    assert caught.value.code() is Code.UNAVAILABLE
    assert isinstance(caught.value, grpc.RpcError)


@pytest.mark.parametrize("bad", ["closed_address", "silent_address"])
def test_a_bad_endpoint_costs_little_once(connect, daemons, bad, request):
    address = request.getfixturevalue(bad)
    daemon = daemons()
    daemon.answers["CreateTask"] = lambda r, c: pb.CreateTaskResponse(
        task=pb.Task(id="t", status=pb.TASK_STATUS_PENDING)
    )
    client = connect(address, daemon.address)
    begin = time.monotonic()
    assert client.create_task("x").status is TaskStatus.PENDING
    assert time.monotonic() - begin < 2.5
    begin = time.monotonic()
    client.create_task("x")
    assert time.monotonic() - begin < 0.5


def test_a_replica_that_hangs_in_a_call_is_left(connect, daemons):
    first, second = daemons(), daemons()
    release = threading.Event()
    asked = []

    def first_hangs(request, context):
        asked.append(context)
        if len(asked) == 1:
            release.wait(10)
        return pb.SetPolicyResponse(policy=request.policy)

    first.answers["SetPolicy"] = second.answers["SetPolicy"] = first_hangs
    client = connect(first.address, second.address)
    begin = time.monotonic()
    policy = client.set_policy("p", "s", "a", "r", PolicyEffect.DENY)
    assert policy.effect is PolicyEffect.DENY
    assert time.monotonic() - begin < 2.5
    release.set()
    numbers = first.numbers("SetPolicy") + second.numbers("SetPolicy")
    assert len(numbers) == 2
    assert len(set(numbers)) == 1


def test_a_call_lost_with_its_replica_is_retried_under_its_number(connect, daemons):
    first, second = daemons(), daemons()
    entered = threading.Event()

    def dies(request, context):
        entered.set()
        threading.Event().wait(5)
        return pb.SetPolicyResponse()

    def answers(request, context):
        return pb.SetPolicyResponse(policy=request.policy)

    first.answers["SetPolicy"] = second.answers["SetPolicy"] = lambda r, c: (
        answers(r, c) if entered.is_set() else dies(r, c)
    )
    client = connect(first.address, second.address)
    done = threading.Thread(target=client.set_policy, args=("p", "s", "a", "r", "ALLOW"))
    done.start()
    assert entered.wait(5)
    busy = first if first.numbers("SetPolicy") else second
    busy.stop()
    done.join(10)
    assert not done.is_alive()
    numbers = first.numbers("SetPolicy") + second.numbers("SetPolicy")
    assert len(numbers) == 2
    assert len(set(numbers)) == 1
    busy.start()


def test_refusals_are_typed(connect, daemons):
    daemon = daemons()
    daemon.answers["Register"] = lambda r, c: daemon.refuse(
        c, Code.INVALID_ARGUMENT, True, field="card.name", reason="bad_field"
    )
    with pytest.raises(errors.InvalidArgument) as caught:
        connect(daemon.address).register("", "", "")
    assert (caught.value.field, caught.value.reason) == ("card.name", "bad_field")
    assert "refused by the test" in caught.value.details()


def test_the_session_is_opened_again_when_the_cluster_has_forgotten_it(connect, daemons):
    daemon = daemons()
    refused = []

    def answer(request, context):
        if not refused:
            refused.append(1)
            daemon.refuse(context, Code.FAILED_PRECONDITION, True, reason="session_expired")
        return pb.ResignResponse()

    daemon.answers["Resign"] = answer
    connect(daemon.address).resign("g", "a")
    assert [name for name, _ in daemon.calls].count("OpenSession") == 2


def test_tasks_carry_the_token_of_the_client_s_own_claim(connect, daemons):
    daemon = daemons()
    tokens = []
    task = pb.Task(id="t", status=pb.TASK_STATUS_CLAIMED, claim_token=42)
    daemon.answers["ClaimTask"] = lambda r, c: pb.ClaimTaskResponse(task=task)

    def extend(request, context):
        tokens.append(request.claim_token)
        return pb.ExtendTaskResponse(task=task)

    def complete(request, context):
        tokens.append(request.claim_token)
        return pb.CompleteTaskResponse()

    daemon.answers.update(ExtendTask=extend, CompleteTask=complete)
    client = connect(daemon.address)
    assert client.claim_task("a", timeout=5).claim_token == 42
    client.extend_task("t", "a")
    client.extend_task("t", "somebody else")
    client.complete_task("t", "a", claim_token=7)
    client.complete_task("t", "a")
    assert tokens == [42, 0, 7, 0]


def test_a_claim_ends_with_its_timeout(connect, daemons):
    daemon = daemons()
    daemon.answers["ClaimTask"] = lambda r, c: threading.Event().wait(1) and None
    with pytest.raises(grpc.RpcError) as caught:
        connect(daemon.address).claim_task("a", timeout=0.2)
    assert caught.value.code() is Code.DEADLINE_EXCEEDED


def test_tasks_are_listed_page_by_page(connect, daemons):
    daemon = daemons()

    def page(request, context):
        number = int(request.page_token or 0)
        return pb.ListTasksResponse(
            tasks=[pb.Task(id=f"t{number}", status=pb.TASK_STATUS_DEAD)],
            next_page_token=str(number + 1) if number < 2 else "",
        )

    daemon.answers["ListTasks"] = page
    tasks = connect(daemon.address).list_tasks(TaskStatus.DEAD)
    assert [task.id for task in tasks] == ["t0", "t1", "t2"]


def test_a_daemon_of_an_earlier_version_may_give_more_than_it_was_asked_for(connect, daemons):
    daemon = daemons()
    policies = [pb.Policy(id=f"p{i:04}", effect=pb.POLICY_EFFECT_ALLOW) for i in range(1_200)]
    tasks = [pb.Task(id=f"t{i}") for i in range(1_200)]
    daemon.answers["ListPolicies"] = lambda r, c: pb.ListPoliciesResponse(policies=policies)
    daemon.answers["ListTasks"] = lambda r, c: pb.ListTasksResponse(tasks=tasks)
    client = connect(daemon.address)
    assert [policy.id for policy in client.list_policies()] == [p.id for p in policies]
    assert [task.id for task in client.list_tasks(limit=3)] == ["t0", "t1", "t2"]


def test_filters_hold_though_a_daemon_of_an_earlier_version_does_not_know_them(connect, daemons):
    daemon = daemons()
    tasks = [
        pb.Task(id=f"t{i}", type="xyz"[i % 3], claimed_by_agent_id="ann" if i % 2 else "")
        for i in range(60)
    ]
    asked = []

    def page(request, context):
        asked.append(request.limit)
        start = int(request.page_token or 0)
        end = start + request.limit
        token = str(end) if end < len(tasks) else ""
        return pb.ListTasksResponse(tasks=tasks[start:end], next_page_token=token)

    daemon.answers["ListTasks"] = page
    client = connect(daemon.address)
    assert [t.id for t in client.list_tasks(type="y")] == [f"t{i}" for i in range(1, 60, 3)]
    assert [t.id for t in client.list_tasks(claimed_by="ann")] == [f"t{i}" for i in range(1, 60, 2)]
    assert [t.id for t in client.list_tasks(type="x", claimed_by="ann", limit=4)] == [
        *("t3", "t9", "t15", "t21")
    ]
    asked.clear()
    assert [t.id for t in client.list_tasks(type="z", limit=2)] == ["t2", "t5"]
    assert len(asked) == 2, "more is asked for once it is seen that much does not fit"
    assert [t.id for t in client.list_tasks(claimed_by="bob", limit=1)] == []


@pytest.mark.parametrize("first_pages", [0, 1, 2])
def test_policies_are_listed_once_though_a_daemon_of_an_earlier_version_gives_the_rest(
    connect, daemons, first_pages, monkeypatch
):
    monkeypatch.setattr("agentkeeper.client.queries.PAGE", 3)
    daemon = daemons()
    policies = [pb.Policy(id=f"p{i}", effect=pb.POLICY_EFFECT_DENY) for i in range(8)]
    calls = []

    def page(request, context):
        calls.append(request)
        if len(calls) > first_pages:  # it knows neither limit nor page_token
            return pb.ListPoliciesResponse(policies=policies)
        rest = [policy for policy in policies if policy.id > request.page_token]
        found = rest[: request.limit]
        return pb.ListPoliciesResponse(policies=found, next_page_token=found[-1].id)

    daemon.answers["ListPolicies"] = page
    listed = connect(daemon.address).list_policies()
    assert [policy.id for policy in listed] == [policy.id for policy in policies]
    assert len(calls) == first_pages + 1


def test_agents_heartbeat_and_stop_when_dead(connect, daemons):
    daemon = daemons()
    daemon.answers["Register"] = lambda r, c: pb.RegisterResponse(agent_id="a")
    beats = threading.Semaphore(0)

    def beat(request, context):
        beats.release()
        daemon.refuse(context, Code.NOT_FOUND, True)

    daemon.answers["Heartbeat"] = beat
    agent = connect(daemon.address).register("n", "d", "v", ttl=2)
    assert beats.acquire(timeout=5)
    assert agent.lost.wait(timeout=5)
    agent.deregister()
    agent.deregister()
    assert [name for name, _ in daemon.calls].count("Deregister") == 1


def test_leaving_a_lease_that_was_lost_is_an_error(connect, daemons):
    daemon = daemons()
    daemon.answers["AcquireLease"] = lambda r, c: pb.AcquireLeaseResponse(
        acquired=True,
        lease=pb.Lease(task_id=r.task_id, holder_agent_id="a", token=pb.FencingToken(value=3)),
    )
    daemon.answers["ReleaseLease"] = lambda r, c: daemon.refuse(c, Code.PERMISSION_DENIED, True)
    client = connect(daemon.address)
    with pytest.raises(errors.PermissionDenied), client.acquire_lease("t", "a") as lease:
        assert lease.lease.token == 3
    with pytest.raises(ZeroDivisionError), client.acquire_lease("t", "a"):
        raise ZeroDivisionError


def test_a_lease_that_is_held_is_none(connect, daemons):
    assert connect(daemons().address).acquire_lease("t", "a") is None


def test_a_closed_client_says_so(daemons):
    client = AgentKeeperClient(endpoints=[daemons().address])
    client.close()
    client.close()
    with pytest.raises(errors.ClientClosed):
        client.find()


def test_closing_ends_a_call_under_way(daemons):
    daemon = daemons()
    entered, release = threading.Event(), threading.Event()

    def hold(request, context):
        entered.set()
        release.wait(10)
        return pb.ClaimTaskResponse()

    daemon.answers["ClaimTask"] = hold
    client = AgentKeeperClient(endpoints=[daemon.address])
    raised = []

    def claim():
        try:
            client.claim_task("a")
        except errors.AgentKeeperError as error:
            raised.append(error)

    thread = threading.Thread(target=claim)
    thread.start()
    assert entered.wait(5)
    client.close()
    thread.join(5)
    release.set()
    assert isinstance(raised[0], errors.ClientClosed)


def test_malformed_endpoints_are_refused_at_once():
    with pytest.raises(ValueError, match="endpoint"):
        AgentKeeperClient(endpoints=["host:port"])
    with pytest.raises(ValueError, match="at least one"):
        AgentKeeperClient(endpoints=[])
