"""The retry loop against a scripted transport."""

import asyncio

import grpc
import pytest

from agentkeeper import errors
from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.client import methods, retry
from agentkeeper.client.caller import MAX_REQUEST_BYTES, Caller, WaitOver
from agentkeeper.client.cluster import Cluster
from agentkeeper.client.core import Core
from agentkeeper.client.endpoints import Endpoints
from agentkeeper.client.transport import Failure
from agentkeeper.types import LeaderMoved

Code = grpc.StatusCode
TASK = pb.CreateTaskResponse(task=pb.Task(id="t"))
REQUEST = pb.CreateTaskRequest(type="x")


def said(code, definite, reason="", leader=""):
    return Failure(code, "details", definite=definite, reason=reason, leader=leader)


NO_LEADER = said(Code.UNAVAILABLE, True)
IN_DOUBT = said(Code.UNAVAILABLE, False)
FULL = said(Code.RESOURCE_EXHAUSTED, True, retry.OVERLOADED)
EXPIRED = said(Code.FAILED_PRECONDITION, True, retry.SESSION_EXPIRED)
WITHDRAWN = said(Code.ABORTED, True, retry.WITHDRAWN)


class Transport:
    """Answers each call with the next of the script; the last one stays."""

    def __init__(self, *script):
        self.script = list(script)
        self.calls = []
        self.sessions = 0

    async def call(self, endpoint, method, request, metadata, timeout_s):
        if method is methods.OPEN_SESSION:
            self.sessions += 1
            return pb.OpenSessionResponse(session_id=f"s{self.sessions}", window=16)
        if method is methods.CLOSE_SESSION:
            return pb.CloseSessionResponse()
        self.calls.append((endpoint, metadata, timeout_s))
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if callable(step):
            step = await step(endpoint, timeout_s)
        if isinstance(step, Failure):
            raise Failure(
                step.code,
                step.details,
                step.definite,
                step.reason,
                leader=step.leader,
                unreachable=step.unreachable,
            )
        return step

    async def close(self):
        pass

    @property
    def endpoints(self):
        return [endpoint[0] for endpoint, _, _ in self.calls]

    @property
    def numbers(self):
        return [
            (metadata.get("agentkeeper-session"), metadata.get("agentkeeper-request"))
            for _, metadata, _ in self.calls
        ]


async def hang(endpoint, timeout_s):
    await asyncio.sleep(timeout_s)
    return Failure(Code.DEADLINE_EXCEEDED, "too late", unreachable=True)


def make(transport, *names):
    loop = asyncio.get_running_loop()
    return Caller(transport, Endpoints(names or ("a", "b", "c"), loop.time, lambda ring: None))


async def test_retries_keep_the_number_and_change_the_endpoint():
    transport = Transport(IN_DOUBT, NO_LEADER, TASK)
    assert await make(transport).call(methods.CREATE_TASK, REQUEST, 5.0) == TASK
    assert transport.endpoints == ["a", "b", "c"]
    assert transport.numbers == [("s1", "1")] * 3


async def test_the_next_call_has_the_next_number_and_says_what_was_seen():
    transport = Transport(TASK)
    caller = make(transport)
    await caller.call(methods.CREATE_TASK, REQUEST, 5.0)
    await caller.call(methods.CREATE_TASK, REQUEST, 5.0)
    assert transport.numbers == [("s1", "1"), ("s1", "2")]
    assert transport.calls[1][1]["agentkeeper-seen"] == "1"


async def test_a_call_for_which_nobody_has_room_is_tried_again_until_its_time_is_over():
    transport = Transport(FULL, FULL, FULL, TASK)
    assert await make(transport).call(methods.CREATE_TASK, REQUEST, 5.0) == TASK
    assert transport.endpoints == ["a", "b", "c", "a"]
    assert transport.numbers == [("s1", "1")] * 4
    for after, kind in ((FULL, errors.Overloaded), (IN_DOUBT, errors.OutcomeUnknown)):
        transport = Transport(after, FULL)
        with pytest.raises(kind) as caught:
            await make(transport).call(methods.CREATE_TASK, REQUEST, 0.3)
        assert caught.value.reason == "overloaded"


async def test_reads_carry_no_number():
    transport = Transport(pb.FindResponse())
    await make(transport).call(methods.FIND, pb.FindRequest(), 5.0)
    assert transport.numbers == [(None, None)]
    assert transport.sessions == 0


async def test_the_leader_hint_is_followed():
    transport = Transport(said(Code.UNAVAILABLE, True, leader="c:7070"), TASK)
    await make(transport).call(methods.CREATE_TASK, REQUEST, 5.0)
    assert transport.endpoints == ["a", "c"]


def led_by(leader, *script):
    """A caller at home at "a", and its transport, which has told who leads."""
    transport = Transport(*script)
    caller = make(transport)
    transport.on_leader(leader)
    return caller, transport


async def test_writes_go_to_the_leader_and_all_else_stays_at_home():
    caller, transport = led_by("c:7070", TASK)
    await caller.call(methods.CREATE_TASK, REQUEST, 5.0)
    await caller.call(methods.FIND, pb.FindRequest(), 5.0)
    await caller.call(methods.CLAIM_TASK, pb.ClaimTaskRequest(), 5.0, hold_s=20.0)
    await caller.call(methods.ACQUIRE_LEASE, pb.AcquireLeaseRequest(wait_ms=5), 5.0, hold_s=0.005)
    await caller.call(methods.ACQUIRE_LEASE, pb.AcquireLeaseRequest(), 5.0)
    assert transport.endpoints == ["c", "a", "a", "a", "c"]


async def test_a_write_that_the_leader_refuses_leaves_home_where_it_is():
    caller, transport = led_by("c:7070", said(Code.NOT_FOUND, True))
    for method, request in ((methods.CREATE_TASK, REQUEST), (methods.FIND, pb.FindRequest())):
        with pytest.raises(errors.NotFound):
            await caller.call(method, request, 5.0)
    assert transport.endpoints == ["c", "a"]


async def test_a_leader_that_answers_slowly_is_left_for_home():
    now_s = 0.0

    async def step(endpoint, timeout_s):
        nonlocal now_s
        now_s += 0.02 if endpoint == "c:7070" else 0.01
        return TASK

    transport = Transport(step)
    caller = Caller(transport, Endpoints(["a", "b", "c"], lambda: now_s, lambda ring: None))
    transport.on_leader("c:7070")
    for _ in range(140):
        await caller.call(methods.CREATE_TASK, REQUEST, 5.0)
    assert transport.endpoints[:63] == ["c"] * 63
    assert transport.endpoints[-10:] == ["a"] * 10


async def test_a_refusal_is_raised_at_once():
    transport = Transport(said(Code.NOT_FOUND, True))
    with pytest.raises(errors.NotFound):
        await make(transport).call(methods.CREATE_TASK, REQUEST, 5.0)
    assert len(transport.calls) == 1


async def test_nothing_but_definite_failures_end_as_unavailable():
    transport = Transport(NO_LEADER)
    with pytest.raises(errors.Unavailable, match="CreateTask"):
        await make(transport).call(methods.CREATE_TASK, REQUEST, 0.3)
    assert len(transport.calls) > 3
    assert set(transport.endpoints) == {"a", "b", "c"}


async def test_one_doubtful_attempt_makes_the_outcome_unknown():
    transport = Transport(IN_DOUBT, NO_LEADER)
    with pytest.raises(errors.OutcomeUnknown):
        await make(transport).call(methods.CREATE_TASK, REQUEST, 0.3)


async def test_reads_never_end_as_unknown():
    transport = Transport(IN_DOUBT)
    with pytest.raises(errors.Unavailable):
        await make(transport).call(methods.FIND, pb.FindRequest(), 0.3)


async def test_a_session_that_is_gone_is_replaced_if_nothing_can_have_happened():
    transport = Transport(NO_LEADER, EXPIRED, TASK)
    await make(transport).call(methods.CREATE_TASK, REQUEST, 5.0)
    assert transport.numbers == [("s1", "1"), ("s1", "1"), ("s2", "1")]


async def test_a_session_that_is_gone_with_the_answer_makes_the_outcome_unknown():
    transport = Transport(IN_DOUBT, EXPIRED, TASK)
    with pytest.raises(errors.OutcomeUnknown, match="session"):
        await make(transport).call(methods.CREATE_TASK, REQUEST, 5.0)
    assert len(transport.calls) == 2


async def test_a_claim_may_be_run_anew():
    claim = pb.ClaimTaskResponse(task=pb.Task(id="t"))
    transport = Transport(IN_DOUBT, EXPIRED, claim)
    assert await make(transport).call(methods.CLAIM_TASK, pb.ClaimTaskRequest(), 5.0) == claim


async def test_a_withdrawn_request_is_made_anew_under_the_next_number():
    transport = Transport(IN_DOUBT, WITHDRAWN, TASK)
    await make(transport).call(methods.CREATE_TASK, REQUEST, 5.0)
    assert transport.numbers == [("s1", "1"), ("s1", "1"), ("s1", "2")]


async def test_a_hanging_endpoint_costs_little_and_is_avoided_afterwards():
    loop = asyncio.get_running_loop()

    async def step(endpoint, timeout_s):
        return await hang(endpoint, timeout_s) if endpoint == "a:7070" else TASK

    transport = Transport(step)
    caller = make(transport)
    begin = loop.time()
    await caller.call(methods.CREATE_TASK, REQUEST, 30.0)
    assert loop.time() - begin < 2.0
    await caller.call(methods.CREATE_TASK, REQUEST, 30.0)
    assert transport.endpoints == ["a", "b", "b"]


async def test_a_short_call_too_leaves_a_hanging_endpoint_in_time():
    async def step(endpoint, timeout_s):
        return await hang(endpoint, timeout_s) if endpoint == "a:7070" else TASK

    await make(Transport(step)).call(methods.CREATE_TASK, REQUEST, 0.6)


async def test_the_deadline_holds_when_everything_hangs():
    loop = asyncio.get_running_loop()
    begin = loop.time()
    with pytest.raises(errors.OutcomeUnknown) as caught:
        await make(Transport(hang)).call(methods.CREATE_TASK, REQUEST, 0.5)
    assert 0.4 < loop.time() - begin < 0.8
    assert caught.value.code() is Code.DEADLINE_EXCEEDED


async def test_a_retry_waits_only_for_what_is_left_of_the_wait():
    granted = pb.AcquireLeaseResponse(acquired=True)

    async def lost(endpoint, timeout_s):
        await asyncio.sleep(0.2)
        return IN_DOUBT

    transport = Transport(lost, granted)
    request = pb.AcquireLeaseRequest(task_id="k", wait_ms=50_000)
    answer = await make(transport).call(methods.ACQUIRE_LEASE, request, 80.0, hold_s=50.0)
    assert answer == granted
    first_s, second_s = (timeout_s for _, _, timeout_s in transport.calls)
    assert second_s <= first_s - 0.15
    assert transport.numbers == [("s1", "1")] * 2


async def test_a_retry_without_an_answer_ends_with_the_wait():
    too_late = Failure(Code.DEADLINE_EXCEEDED, "too late", unreachable=True)
    transport = Transport(too_late)
    request = pb.AcquireLeaseRequest(task_id="k", wait_ms=1)

    async def past_the_wait(endpoint, timeout_s):
        await asyncio.sleep(0.01)
        return too_late

    transport.script = [past_the_wait]
    with pytest.raises(WaitOver):
        await make(transport).call(methods.ACQUIRE_LEASE, request, 80.0, hold_s=0.001)
    assert transport.endpoints == ["a", "b"]


async def test_after_a_wait_without_an_answer_one_more_question_tells():
    """Had it been granted, the holder would be granted it again."""

    async def past_the_wait(endpoint, timeout_s):
        await asyncio.sleep(0.01)
        return Failure(Code.DEADLINE_EXCEEDED, "too late", unreachable=True)

    loop = asyncio.get_running_loop()
    for asked_again, acquired in ((False, None), (True, "k")):
        answer = pb.AcquireLeaseResponse(acquired=asked_again, lease=pb.Lease(task_id="k"))
        transport = Transport(past_the_wait, past_the_wait, answer)
        core = Core(transport, Endpoints(["a", "b"], loop.time), loop.time)
        lease = await core.acquire_lease(
            "k", "agent", 10, wait_s=0.001, exclusive=False, timeout_s=80.0
        )
        assert (lease and lease.task_id) == acquired
        assert [number for _, number in transport.numbers] == ["1", "1", "2"]


async def test_a_request_beyond_the_bound_is_refused_before_it_is_sent():
    transport = Transport(TASK)
    request = pb.CreateTaskRequest(type="x", input=b"x" * MAX_REQUEST_BYTES)
    with pytest.raises(errors.InvalidArgument, match=str(MAX_REQUEST_BYTES)):
        await make(transport).call(methods.CREATE_TASK, request, 5.0)
    assert transport.calls == []


async def test_all_pages_of_a_list_share_one_timeout():
    async def page(endpoint, timeout_s):
        await asyncio.sleep(0.05)
        return pb.ListTasksResponse(next_page_token="more")

    transport = Transport(page)
    clock = asyncio.get_running_loop().time
    core = Core(transport, Endpoints(["a"], clock), clock)
    with pytest.raises(errors.Unavailable):
        await core.queries.list_tasks(None, "", "", None, 0.3)
    assert all(timeout_s <= 0.3 for _, _, timeout_s in transport.calls)


async def test_the_endpoint_is_picked_when_the_session_is_open():
    transport = Transport(TASK)
    caller = make(transport)
    original = transport.call

    async def call(endpoint, method, request, metadata, timeout_s):
        if method is methods.OPEN_SESSION and endpoint == "a:7070":
            raise Failure(Code.UNAVAILABLE, "down", definite=True, unreachable=True)
        return await original(endpoint, method, request, metadata, timeout_s)

    transport.call = call
    await caller.call(methods.CREATE_TASK, REQUEST, 5.0)
    assert transport.endpoints == ["b"]


async def test_a_cancelled_call_frees_its_number():
    entered = asyncio.Event()

    async def for_ever(endpoint, timeout_s):
        entered.set()
        await asyncio.Event().wait()

    transport = Transport(for_ever, TASK)
    caller = make(transport)
    call = asyncio.create_task(caller.call(methods.CREATE_TASK, REQUEST, 5.0))
    await entered.wait()
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    await caller.call(methods.CREATE_TASK, REQUEST, 5.0)
    assert transport.calls[1][1]["agentkeeper-seen"] == "1"


async def test_closing_closes_the_sessions():
    transport = Transport(TASK)
    closed = []
    caller = make(transport)
    await caller.call(methods.CREATE_TASK, REQUEST, 5.0)
    original = transport.call

    async def call(endpoint, method, request, metadata, timeout_s):
        if method is methods.CLOSE_SESSION:
            closed.append(request.session_id)
        return await original(endpoint, method, request, metadata, timeout_s)

    transport.call = call
    await caller.close()
    assert closed == ["s1"]


# ---- replicas of several versions

OLD = said(Code.UNIMPLEMENTED, True, "no_such_method")
AGENTS = pb.ListAgentsResponse(next_page_token="1")


async def list_agents(transport, *names, method=methods.LIST_AGENTS):
    return await make(transport, *names).call(method, method.request(), 5.0)


async def test_what_one_replica_does_not_know_is_asked_of_the_others():
    transport = Transport(OLD, Failure(Code.UNIMPLEMENTED, "no word of the daemon's"), AGENTS)
    assert await list_agents(transport) == AGENTS
    assert transport.endpoints == ["a", "b", "c"]


async def test_what_no_replica_knows_is_refused_once_all_were_asked():
    transport = Transport(OLD)
    with pytest.raises(errors.Refused) as caught:
        await list_agents(transport)
    assert caught.value.code() is Code.UNIMPLEMENTED
    assert transport.endpoints == ["a", "b", "c"]


async def test_what_the_only_replicas_left_do_not_know_is_refused():
    gone = Failure(Code.UNAVAILABLE, "gone", unreachable=True)
    transport = Transport(OLD, gone, OLD)
    with pytest.raises(errors.Refused) as caught:
        await list_agents(transport)
    assert caught.value.code() is Code.UNIMPLEMENTED
    assert transport.endpoints == ["a", "b", "c"]


async def test_one_that_knows_and_can_not_now_is_waited_for():
    transport = Transport(OLD, NO_LEADER, OLD, NO_LEADER, NO_LEADER, AGENTS)
    assert await list_agents(transport) == AGENTS
    assert transport.endpoints == ["a", "b", "c", "b", "b", "b"]


async def test_a_replica_that_does_not_know_says_nothing_of_what_another_may_have_done():
    transport = Transport(IN_DOUBT, OLD)
    with pytest.raises(errors.OutcomeUnknown):
        await list_agents(transport, method=methods.MOVE_LEADER)
    assert transport.endpoints == ["a", "b", "c", "a"]


@pytest.mark.parametrize(
    ("to", "attempts", "outcome"), [("b", 2, None), ("", 1, errors.OutcomeUnknown)]
)
async def test_a_move_to_anyone_is_not_asked_for_twice(to, attempts, outcome):
    transport = Transport(IN_DOUBT, pb.MoveLeaderResponse(leader_node_id="b", term=3))
    moving = Cluster(make(transport)).move_leader(to, 5.0)
    if outcome is None:
        assert await moving == LeaderMoved("b", 3)
    else:
        with pytest.raises(outcome):
            await moving
    assert len(transport.calls) == attempts


async def test_a_move_that_was_not_begun_is_asked_for_again():
    transport = Transport(NO_LEADER, pb.MoveLeaderResponse(leader_node_id="b", term=3))
    assert await Cluster(make(transport)).move_leader("", 5.0) == LeaderMoved("b", 3)
