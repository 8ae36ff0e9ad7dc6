"""The shared stream, through a follower and through the leader: as unary calls, only many."""

import functools
import random
import urllib.request

import pytest

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.client import methods
from agentkeeper.core import limits

from .conftest import await_calls, calls_of, freeze
from .test_bad_input_daemon import Daemon
from .test_clean_stop import await_exit, logged
from .waiting import eventually
from .wire import INVALID_ARGUMENT, RESOURCE_EXHAUSTED, UNAVAILABLE, Wire, refused, said

STREAMING = {"Watch", "WatchElection", "SaveSnapshot", "Exchange"}
WAIT_MS = 60_000


@pytest.fixture
def node(cluster, here):
    return next(n for n in cluster.nodes.values() if n.endpoint == here.endpoint)


@pytest.fixture
def stream(here):
    stream = here.share()
    yield stream
    stream.close()


class Both:
    """Makes each request twice, by a unary call and on the stream, under one request number."""

    def __init__(self, wire, stream):
        self.wire, self.stream = wire, stream
        self.session = wire.open_session()
        self.made = set()

    def __call__(self, method, request, passing=""):
        """`passing` names a field that differs from one moment to the next."""
        self.made.add(method.name)
        metadata = self.session.metadata()
        response = self.wire.call(method, request, **metadata)
        on_stream = self.stream.call(
            method,
            request,
            session_id=self.session.session_id,
            request_number=self.session.last,
            timeout_ms=30_000,
        )
        for one in (on_stream, response) if passing else ():
            *path, field = passing.split(".")
            functools.reduce(getattr, path, one).ClearField(field)
        assert on_stream == response, method.name
        return response


def test_every_unary_method_answers_the_same(here, stream, name):
    both = Both(here, stream)
    _agents_and_leases(both, name)
    _groups_and_policies(both, name)
    _tasks(both, name)
    both.made |= {"OpenSession", "CloseSession", "Status"}
    request = pb.OpenSessionRequest(ttl_seconds=77)
    sessions = [c.call(methods.OPEN_SESSION, request) for c in (here, stream)]
    assert {(s.ttl_seconds, s.window) for s in sessions} == {(77, limits.SESSION_WINDOW)}
    for caller, session in zip((stream, here), sessions, strict=True):
        close = pb.CloseSessionRequest(session_id=session.session_id)
        assert caller.call(methods.CLOSE_SESSION, close) == pb.CloseSessionResponse()
    both(methods.SUMMARY, pb.SummaryRequest(), passing="oldest_pending_ms")
    leader = pb.MoveLeaderRequest(to_node_id=here.status().leader_node_id)
    both(methods.MOVE_LEADER, leader)
    unary, shared = here.status(), stream.call(methods.STATUS, pb.StatusRequest())
    assert (unary.node_id, unary.version) == (shared.node_id, shared.version)
    services = pb.DESCRIPTOR.services_by_name.values()
    assert both.made == {m.name for s in services for m in s.methods} - STREAMING


def _agents_and_leases(both, name):
    card = pb.AgentCard(name=name("agent"), tools=[name("tool")])
    agent_id = both(methods.REGISTER, pb.RegisterRequest(card=card, ttl_seconds=600)).agent_id
    both(methods.HEARTBEAT, pb.HeartbeatRequest(agent_id=agent_id))
    both(methods.GET_AGENT, pb.GetAgentRequest(agent_id=agent_id))
    assert both(methods.FIND, pb.FindRequest(tools=[name("tool")])).agents
    assert both(methods.LIST_AGENTS, pb.ListAgentsRequest(tools=[name("tool")])).agents
    mine = {"task_id": name("key"), "agent_id": agent_id}
    lease = both(methods.ACQUIRE_LEASE, pb.AcquireLeaseRequest(**mine)).lease
    both(methods.RENEW_LEASE, pb.RenewLeaseRequest(**mine, token=lease.token))
    both(methods.GET_LEASE, pb.GetLeaseRequest(task_id=name("key")), "lease.remaining_ms")
    both(methods.LIST_LEASES, pb.ListLeasesRequest(task_id_prefix=name("no key")))
    verify = pb.VerifyTokenRequest(task_id=name("key"), token=lease.token)
    assert both(methods.VERIFY_TOKEN, verify).valid
    both(methods.RELEASE_LEASE, pb.ReleaseLeaseRequest(**mine, token=lease.token))
    both(methods.DEREGISTER, pb.DeregisterRequest(agent_id=agent_id))


def _groups_and_policies(both, name):
    agent_id = both.wire.register(name("candidate"))
    member = {"group": name("group"), "agent_id": agent_id}
    both(methods.CAMPAIGN, pb.CampaignRequest(**member))
    assert both(
        methods.GET_ELECTION, pb.GetElectionRequest(group=name("group"))
    ).election.candidates
    both(methods.LIST_ELECTIONS, pb.ListElectionsRequest(group_prefix=name("group")))
    both(methods.RESIGN, pb.ResignRequest(**member))
    policy = pb.Policy(id=name("p"), subject=name("s"), action="a", resource="r", effect=1)
    both(methods.SET_POLICY, pb.SetPolicyRequest(policy=policy))
    assert both(
        methods.LIST_POLICIES, pb.ListPoliciesRequest(subject_prefix=name("s"))
    ).policies == [policy]
    check = pb.CheckPolicyRequest(subject=name("s"), action="a", resource="r")
    assert both(methods.CHECK_POLICY, check).allowed
    explain = pb.ExplainPolicyRequest(subject=name("s"), action="a", resource="r")
    assert both(methods.EXPLAIN_POLICY, explain).matching == [policy]
    both(methods.DELETE_POLICY, pb.DeletePolicyRequest(id=name("p")))


def _tasks(both, name):
    agent_id = both.wire.register(name("worker"), name("only"))
    create = pb.CreateTaskRequest(type="t", input=b"in", required_tools=[name("only")])
    task_id = both(methods.CREATE_TASK, create).task.id
    task = both(methods.CLAIM_TASK, pb.ClaimTaskRequest(agent_id=agent_id)).task
    assert (task.id, task.input) == (task_id, b"in")
    mine = {"task_id": task_id, "agent_id": agent_id}
    both(methods.EXTEND_TASK, pb.ExtendTaskRequest(**mine))
    both(methods.FAIL_TASK, pb.FailTaskRequest(**mine, reason="no"))
    both(methods.REQUEUE_TASK, pb.RequeueTaskRequest(task_id=task_id))
    both(methods.CLAIM_TASK, pb.ClaimTaskRequest(agent_id=agent_id))
    both(methods.COMPLETE_TASK, pb.CompleteTaskRequest(**mine, output=b"out"))
    assert both(methods.GET_TASK, pb.GetTaskRequest(task_id=task_id)).task.output == b"out"
    both(methods.LIST_TASKS, pb.ListTasksRequest(limit=5))


REFUSALS = {
    "NOT_FOUND": (methods.GET_AGENT, pb.GetAgentRequest(agent_id="nobody"), {}),
    "INVALID_ARGUMENT": (methods.REGISTER, pb.RegisterRequest(), {}),
    "FAILED_PRECONDITION": (
        methods.CREATE_TASK,
        pb.CreateTaskRequest(type="t"),
        {"session_id": "no such session", "request_number": 1},
    ),
}


@pytest.mark.parametrize("code", REFUSALS)
def test_a_refusal_says_the_same(here, stream, code):
    method, request, fields = REFUSALS[code]
    keys = {"session_id": "agentkeeper-session", "request_number": "agentkeeper-request"}
    error = here.begin(method, request, **{keys[k]: v for k, v in fields.items()}).exception()
    failure, told = stream.refusal(method, request, **fields), said(error)
    assert error.code().name == code
    assert (failure.code, failure.message) == (error.code().value[0], error.details())
    assert failure.definite == (told["agentkeeper-definite"] == "true")
    assert failure.reason == told["agentkeeper-reason"]
    assert failure.field == told.get("agentkeeper-field", "")
    assert failure.leader_endpoint == told["agentkeeper-leader"] == stream.leader_endpoint


def test_what_is_no_unary_method_is_refused_and_no_label(node, stream):
    for name in ("Nope", "Watch", "Exchange", "", "RegistryService/Find"):
        failure = stream.refusal(name)
        assert (failure.reason, failure.field) == ("no_such_method", "method")
        assert failure.definite
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://{node.metrics_addr}/metrics", timeout=10) as response:
        text = response.read().decode()
    assert "Nope" not in text
    assert "Exchange" not in text


def test_calls_are_counted_by_method(node, stream):
    before = calls_of(node, "GetAgent")
    request = pb.GetAgentRequest(agent_id="nobody")
    calls = [stream.new(methods.GET_AGENT, request) for _ in range(50)]
    stream.send(*calls)
    for call in calls:
        stream.failure(call.id)
    assert calls_of(node, "GetAgent") == before + 50


def test_answers_reflect_the_index_they_name(here, there, stream, name):
    policy = pb.Policy(id=name("p"), subject="s", action="a", resource="r", effect=1)
    for _ in range(20):
        call_id = stream.begin(methods.SET_POLICY, pb.SetPolicyRequest(policy=policy))
        stream.answer(call_id)
        frame = next(f for f in stream.frames if call_id in [a.id for a in f.answers])
        read = pb.ListPoliciesRequest()
        metadata = {
            "agentkeeper_consistency": "stale",
            "agentkeeper_min_index": str(frame.log_index),
        }
        assert policy in there.call(methods.LIST_POLICIES, read, **metadata).policies
        there.call(methods.DELETE_POLICY, pb.DeletePolicyRequest(id=name("p")))


class Line:
    """A lease that is held, and calls on the stream that wait for it."""

    def __init__(self, wire, stream, node, name):
        self.wire, self.stream, self.node, self.key = wire, stream, node, name("key")
        self.agents = [wire.register(name(stem)) for stem in ("holder", "leaving", "staying")]
        self.lease = wire.acquire(self.key, self.agents[0]).lease

    def ask(self, agent_id):
        return pb.AcquireLeaseRequest(task_id=self.key, agent_id=agent_id, wait_ms=WAIT_MS)

    def join(self, begin, **fields):
        """Begin to wait; the request is in line on return."""
        before = calls_of(self.node, "AcquireLease")
        begun = begin(methods.ACQUIRE_LEASE, self.ask(self.agents[1]), **fields)
        await_calls(self.node, "AcquireLease", before + 1)
        self.wire.set_policy("behind it")
        return begun

    def check_withdrawn(self):
        """Whoever asks next is granted the lease once it is free."""
        staying = self.wire.begin(methods.ACQUIRE_LEASE, self.ask(self.agents[2]))
        self.wire.release(self.lease)
        lease = staying.result().lease
        assert lease.holder_agent_id == self.agents[2]


@pytest.mark.parametrize("with_session", [True, False])
def test_a_cancelled_wait_is_withdrawn(here, stream, node, name, with_session):
    line = Line(here, stream, node, name)
    session = here.open_session()
    fields = {"session_id": session.session_id, "request_number": 1} if with_session else {}
    waiting = line.join(stream.begin, **fields)
    stream.send(cancelled=[waiting])
    stream.settle()
    line.check_withdrawn()
    assert waiting not in stream.answers


def test_a_wait_whose_time_is_up_is_withdrawn(here, stream, node, name):
    line = Line(here, stream, node, name)
    failure = stream.failure(line.join(stream.begin, timeout_ms=300))
    assert (failure.code, failure.definite) == (4, False)
    line.check_withdrawn()


def test_a_client_that_goes_away_withdraws_its_waits(here, stream, node, name):
    line = Line(here, stream, node, name)
    leaving = here.share()
    line.join(leaving.begin)
    leaving.cancel()
    for _ in range(3):  # on the same connection, so behind the news of the stream's end
        here.status()
    line.check_withdrawn()


def test_a_blocked_call_holds_up_nobody_and_is_answered_in_the_end(here, stream, node, name):
    line = Line(here, stream, node, name)
    waiting = line.join(stream.begin)
    for _ in range(10):
        stream.call(methods.STATUS, pb.StatusRequest())
    assert waiting not in stream.answers
    here.release(line.lease)
    answer = pb.AcquireLeaseResponse.FromString(stream.answer(waiting).response)
    assert answer.lease.holder_agent_id == line.agents[1]


def test_a_client_that_sends_no_more_gets_its_answers(here, stream, node, name):
    line = Line(here, stream, node, name)
    leaving = here.share()
    waiting = line.join(leaving.begin)
    leaving.close()
    here.release(line.lease)
    leaving.answer(waiting)
    assert leaving.ended() is None


@pytest.mark.parametrize(
    ("data", "field"),
    [
        (b"\xff", "request"),
        (b"\x0a\x03\x12\x01\xff", "calls[0].method"),
        (pb.CallFrame(calls=[pb.Call(method="Status")]).SerializeToString(), "calls[0].id"),
        (b"\x0a\x00" * 2_000_000, "calls"),
    ],
    ids=["garbage", "not UTF-8", "no id", "millions of calls"],
)
def test_a_frame_at_fault_ends_the_stream(here, stream, data, field):
    bad = here.share()
    bad.send_bytes(data)
    with refused(INVALID_ARGUMENT, reason="bad_field") as told:
        raise bad.ended()
    assert told["agentkeeper-field"] == field
    stream.call(methods.STATUS, pb.StatusRequest())


@pytest.fixture(scope="module")
def large_task_id(cluster):
    """One for all: other tests list the tasks of this cluster in one message."""
    wire = Wire(cluster.endpoints[0])
    yield wire.create_task("large", input=bytes(limits.BLOB_BYTES)).id
    wire.close()


def test_a_client_that_never_reads_is_cut(here, stream, node, large_task_id):
    before = len(logged(node, "stream cut"))
    deaf = here.share(reading=False)
    request = pb.GetTaskRequest(task_id=large_task_id)
    deaf.send(*(deaf.new(methods.GET_TASK, request) for _ in range(200)))
    eventually(lambda: len(logged(node, "stream cut")) > before, "its end")
    stream.call(methods.STATUS, pb.StatusRequest())
    with refused(RESOURCE_EXHAUSTED, definite=False, reason="slow_reader"):
        raise deaf.ended()


@pytest.fixture
def daemon(tmp_path):
    with Daemon(tmp_path) as daemon:
        yield daemon
        daemon.check_log()


def test_hostile_streams_do_nothing_and_leave_nothing_behind(daemon):
    """Random frames, and clients that go away at any moment, also in the midst of large answers."""
    draw = random.Random("streams")
    wire = Wire(f"127.0.0.1:{daemon.port}")
    for _ in range(3):
        wire.create_task("large", input=bytes(limits.BLOB_BYTES))
    status, every = pb.StatusRequest(), pb.ListTasksRequest()
    frame = pb.CallFrame(
        calls=[pb.Call(id=1, method="Status"), pb.Call(id=2, method="ListTasks", timeout_ms=5)],
        cancelled=[1, 7],
    ).SerializeToString()
    frames = [frame[:cut] for cut in range(len(frame))]
    frames += [draw.randbytes(draw.randrange(1, 60)) for _ in range(60)]
    for data in frames:
        stream = wire.share()
        stream.send_bytes(data)
        stream.close()
        error = stream.ended()
        if error is not None:
            assert error.code() is INVALID_ARGUMENT, (data, error)
            assert said(error)["agentkeeper-field"]
    before = daemon.resident_bytes()
    for i in range(60):
        stream = wire.share(reading=i % 2 == 0)
        calls = [stream.new(methods.LIST_TASKS, every, timeout_ms=i) for _ in range(15)]
        stream.send(*calls, stream.new(methods.STATUS, status))
        if i % 3 == 0:
            wire.status()
        stream.cancel()
    wire.call(methods.STATUS, status)
    grown = daemon.resident_bytes() - before
    assert grown < 200 * 2**20, f"{grown} bytes after 60 streams"
    wire.close()
    assert daemon.ready()


def test_the_leader_is_told_to_clients_that_ask_for_nothing(rough, wire):
    follower, leader = rough.followers()[0], rough.leader()
    stream = wire(follower).share()
    assert stream.leader_endpoint == leader.endpoint
    leader.request_stop()
    assert await_exit(leader) == 0
    eventually(
        lambda: stream.leader_endpoint not in ("", leader.endpoint), "another leader is told"
    )
    assert stream.leader_endpoint == rough.leader().endpoint
    assert stream.answers == {}
    stream.close()


@pytest.mark.parametrize("role", ["leader", "follower"])
def test_a_replica_that_stops_answers_what_waits_and_then_ends_its_streams(rough, wire, name, role):
    node = rough.leader() if role == "leader" else rough.followers()[0]
    survivor = next(n for n in rough.nodes.values() if n is not node)
    elsewhere, via = wire(survivor), wire(node)
    stream, idle = via.share(), via.share()
    line = Line(elsewhere, stream, node, name)
    waiting = line.join(stream.begin)
    node.request_stop()
    failure = stream.failure(waiting)
    assert (failure.reason, failure.definite) == ("shutting_down", True)
    for open_stream in (stream, idle):
        with refused(UNAVAILABLE, reason="shutting_down"):
            raise open_stream.ended()
    assert await_exit(node) == 0


def test_a_replica_that_stops_finishes_the_calls_of_its_streams(rough, wire, name):
    leader, followers = rough.leader(), rough.followers()
    stream = wire(leader).share()
    stream.settle()
    before = calls_of(leader, "CreateTask")
    for follower in followers:
        freeze(follower)
    create = pb.CreateTaskRequest(type=name("task"), required_tools=["x"])
    write = stream.begin(methods.CREATE_TASK, create)
    await_calls(leader, "CreateTask", before + 1)
    stops = len(logged(leader, "stopping"))
    leader.request_stop()
    eventually(lambda: len(logged(leader, "stopping")) > stops, "that it is about to stop")
    failure = stream.refusal(methods.STATUS, pb.StatusRequest())
    assert (failure.reason, failure.definite) == ("shutting_down", True)
    with refused(UNAVAILABLE, reason="shutting_down"):
        wire(leader).share()
    for follower in followers:
        follower.resume()
    task = pb.CreateTaskResponse.FromString(stream.answer(write).response).task
    with refused(UNAVAILABLE, reason="shutting_down"):
        raise stream.ended()
    assert await_exit(leader) == 0
    rough.wait_ready(nodes=followers)
    assert wire(followers[0]).get_task(task.id).type == name("task")
