"""The transport of shared streams over real connections, against stand-ins for the daemon."""

import asyncio
import math
import threading

import grpc
import pytest

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.client import methods
from agentkeeper.client.caller import Caller
from agentkeeper.client.endpoints import Endpoints
from agentkeeper.client.grpc_transport import GrpcTransport, StreamTransport
from agentkeeper.client.transport import Failure

Code = grpc.StatusCode
PATIENCE_S = 20.0


async def failure_of(call):
    with pytest.raises(Failure) as caught:
        async with asyncio.timeout(PATIENCE_S):
            await call
    return caught.value


@pytest.fixture
async def transport():
    transport = GrpcTransport()
    yield transport
    await transport.close()


def ask(transport, daemon, method=methods.LIST_POLICIES, timeout_s=PATIENCE_S):
    return asyncio.create_task(
        transport.call(daemon.address, method, method.request(), {}, timeout_s)
    )


def counted(daemon, name="ListPolicies"):
    return [called for called, _ in daemon.calls].count(name)


async def test_the_sdk_s_transport_is_the_stream():
    assert GrpcTransport is StreamTransport


async def test_many_calls_share_one_stream(transport, daemons):
    daemon = daemons()
    await asyncio.gather(*(ask(transport, daemon) for _ in range(200)))
    assert counted(daemon) == 200
    assert len(daemon.frames) < 20
    assert len({call.id for frame in daemon.frames for call in frame.calls}) == 200


async def test_a_server_that_dies_and_returns_gets_a_new_stream(transport, daemons):
    daemon = daemons()
    entered, release = threading.Event(), threading.Event()

    def hold(request, context):
        entered.set()
        release.wait(PATIENCE_S)
        return pb.ClaimTaskResponse()

    daemon.answers["ClaimTask"] = hold
    claim = ask(transport, daemon, methods.CLAIM_TASK, math.inf)
    assert await asyncio.to_thread(entered.wait, PATIENCE_S)
    await asyncio.to_thread(daemon.stop)
    failure = await failure_of(claim)
    assert failure.definite is None
    failure = await failure_of(ask(transport, daemon))
    assert (failure.definite, failure.unreachable) == (True, True)
    release.set()
    daemon.start()
    endpoints = Endpoints([daemon.address], asyncio.get_running_loop().time)
    await Caller(transport, endpoints).call(
        methods.LIST_POLICIES, pb.ListPoliciesRequest(), PATIENCE_S
    )
    assert counted(daemon) == 1


async def test_a_stream_that_is_refused_is_opened_anew_by_the_next_call(transport, daemons):
    daemon = daemons()
    full = [True]
    serve = daemon._exchange

    def exchange(frames, context):
        if full:
            full.pop()
            daemon.refuse(context, Code.UNAVAILABLE, True, leader="b:7070")
        yield from serve(frames, context)

    daemon._exchange = exchange
    failure = await failure_of(ask(transport, daemon))
    assert (failure.code, failure.definite) == (Code.UNAVAILABLE, True)
    assert (failure.leader, failure.unreachable) == ("b:7070", False)
    await ask(transport, daemon)


async def test_a_server_without_shared_streams_gets_unary_calls(transport, daemons):
    daemon = daemons()
    daemon.exchange = False
    await asyncio.gather(*(ask(transport, daemon) for _ in range(20)))
    await ask(transport, daemon)
    assert counted(daemon) == 21
    assert daemon.frames == []


async def test_a_hint_on_the_stream_reaches_the_endpoints(transport, daemons):
    home, leader = daemons(), daemons()
    home.leader = leader.address
    clock = asyncio.get_running_loop().time
    endpoints = Endpoints([home.address, leader.address], clock, lambda ring: None)
    caller = Caller(transport, endpoints)
    await caller.call(methods.LIST_POLICIES, pb.ListPoliciesRequest(), PATIENCE_S)
    await caller.call(methods.RESIGN, pb.ResignRequest(), PATIENCE_S)
    await caller.call(methods.LIST_POLICIES, pb.ListPoliciesRequest(), PATIENCE_S)
    assert (counted(home, "Resign"), counted(leader, "Resign")) == (0, 1)
    assert (counted(home), counted(leader)) == (2, 0)


async def test_many_calls_leave_a_server_that_hangs_together(transport, daemons):
    hung, fine = daemons(), daemons()
    release = threading.Event()
    hung.answers["ListPolicies"] = lambda r, c: (
        release.wait(PATIENCE_S) and pb.ListPoliciesResponse()
    )
    clock = asyncio.get_running_loop().time
    endpoints = Endpoints([hung.address, fine.address], clock, lambda ring: None)
    caller = Caller(transport, endpoints)
    request = pb.ListPoliciesRequest()
    await caller.call(methods.LIST_TASKS, pb.ListTasksRequest(), PATIENCE_S)  # all is connected
    calls = [caller.call(methods.LIST_POLICIES, request, PATIENCE_S) for _ in range(30)]
    await asyncio.gather(*calls)
    assert (counted(hung), counted(fine)) == (30, 30)
    await caller.call(methods.LIST_POLICIES, request, PATIENCE_S)
    assert (counted(hung), counted(fine)) == (30, 31)
    release.set()
    await asyncio.to_thread(fine.stop)
    await caller.call(methods.LIST_POLICIES, request, PATIENCE_S)
    assert (counted(hung), counted(fine)) == (31, 31)
    fine.start()
