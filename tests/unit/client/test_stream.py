"""The shared stream, against a scripted end of it."""

import asyncio
import math

import grpc
import grpc.aio
import pytest

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.client import methods, retry, stream
from agentkeeper.client.stream import FRAME_BYTES, FRAME_CALLS, SharedStream
from agentkeeper.client.transport import Failure

Code = grpc.StatusCode
PATIENCE_S = 20.0
NUMBERED = {"agentkeeper-session": "s", "agentkeeper-request": "7", "agentkeeper-seen": "5"}
TASK = pb.CreateTaskResponse(task=pb.Task(id="t"))


class Line:
    """The server's end of one stream, and the channel that opens it."""

    def __init__(self):
        self.frames = asyncio.Queue()
        self.room = asyncio.Event()
        self.room.set()
        self.cancelled = False
        self._answers = asyncio.Queue()
        self.say()  # the first frame comes without any call

    def stream_stream(self, path, request_serializer, response_deserializer):
        assert path == "/agentkeeper.v1.ExchangeService/Exchange"
        self._encode = request_serializer
        return lambda: self

    # What the client calls.

    def done(self):
        return self.cancelled

    def cancel(self):
        self.cancelled = True
        self._answers.put_nowait(None)

    async def write(self, frame):
        self.frames.put_nowait(pb.CallFrame.FromString(self._encode(frame)))
        await self.room.wait()

    async def __aiter__(self):
        while (answer := await self._answers.get()) is not None:
            if isinstance(answer, Exception):
                raise answer
            yield answer

    # What the test says.

    async def frame(self):
        async with asyncio.timeout(PATIENCE_S):
            return await self.frames.get()

    def say(self, **fields):
        self._answers.put_nowait(pb.AnswerFrame(**fields))

    def unsay(self):
        self._answers.get_nowait()

    def answer(self, call, response=TASK):
        self.say(answers=[pb.Answer(id=call.id, response=response.SerializeToString())])

    def end(self, code=None, **metadata):
        entries = [(f"agentkeeper-{key}", value) for key, value in metadata.items()]
        trailer = grpc.aio.Metadata(*entries)
        error = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailer, "over") if code else None
        self._answers.put_nowait(error)


@pytest.fixture
def line():
    return Line()


@pytest.fixture
def leaders():
    return []


@pytest.fixture
async def shared(line, leaders):
    shared = SharedStream(line, "a:7070", leaders.append)
    yield shared
    await shared.close()


def begin(shared, method=methods.CREATE_TASK, request=None, metadata=None, timeout_s=PATIENCE_S):
    request = request if request is not None else method.request()
    return asyncio.create_task(shared.call(method, request, metadata or {}, timeout_s))


def begin_sized(shared, size):
    return begin(shared, request=pb.CreateTaskRequest(type="x", input=b"x" * size))


async def failure_of(call):
    with pytest.raises(Failure) as caught:
        async with asyncio.timeout(PATIENCE_S):
            await call
    return caught.value


async def test_calls_that_wait_together_travel_in_one_frame(shared, line):
    calls = [begin(shared) for _ in range(50)]
    frame = await line.frame()
    assert len(frame.calls) == 50
    assert len({call.id for call in frame.calls}) == 50
    line.say(answers=[pb.Answer(id=c.id, response=TASK.SerializeToString()) for c in frame.calls])
    assert await asyncio.gather(*calls) == [TASK] * 50


async def test_what_comes_while_a_frame_is_written_goes_into_the_next(shared, line):
    line.room.clear()
    begin(shared)
    assert len((await line.frame()).calls) == 1
    for _ in range(10):
        begin(shared)
        await asyncio.sleep(0)
    line.room.set()
    assert len((await line.frame()).calls) == 10


async def test_a_frame_holds_so_many_calls(shared, line):
    for _ in range(FRAME_CALLS + 10):
        begin(shared)
    assert [len((await line.frame()).calls) for _ in range(2)] == [FRAME_CALLS, 10]


async def test_large_requests_split_frames_and_the_largest_go_alone(shared, line):
    sizes = [FRAME_BYTES * 2 // 5] * 5 + [3 * FRAME_BYTES] + [10]
    for size in sizes:
        begin_sized(shared, size)
    frames = [await line.frame() for _ in range(5)]
    assert [len(frame.calls) for frame in frames] == [2, 2, 1, 1, 1]
    sent = [call.request for frame in frames for call in frame.calls]
    assert [len(pb.CreateTaskRequest.FromString(request).input) for request in sent] == sizes


async def test_a_call_carries_what_a_unary_one_does(shared, line):
    begin(shared, request=pb.CreateTaskRequest(type="x"), metadata=NUMBERED, timeout_s=12.5)
    [call] = (await line.frame()).calls
    assert call.method == "CreateTask"
    assert pb.CreateTaskRequest.FromString(call.request).type == "x"
    assert (call.session_id, call.request_number, call.seen) == ("s", 7, 5)
    assert 12_000 <= call.timeout_ms <= 12_500
    stale = {"agentkeeper-consistency": "stale", "agentkeeper-min-index": "9"}
    begin(shared, methods.FIND, metadata=stale)
    [call] = (await line.frame()).calls
    assert (call.session_id, call.stale, call.min_index) == ("", True, 9)


@pytest.mark.parametrize("timeout_s", [math.inf, 1e9])
async def test_for_ever_is_no_time_on_the_wire(shared, line, timeout_s):
    begin(shared, timeout_s=timeout_s)
    assert (await line.frame()).calls[0].timeout_ms == 0


async def test_a_short_time_is_not_taken_for_none(shared, line):
    call = begin(shared, timeout_s=1e-9)
    frame = await line.frame()
    assert [call.timeout_ms for call in frame.calls] in ([1], [])  # or it had ended before
    await failure_of(call)


async def test_answers_come_in_any_order(shared, line):
    calls = [begin(shared) for _ in range(5)]
    sent = (await line.frame()).calls
    for number, call in reversed(list(enumerate(sent))):
        line.answer(call, pb.CreateTaskResponse(task=pb.Task(id=str(number))))
    assert [answer.task.id for answer in await asyncio.gather(*calls)] == list("01234")


async def test_a_call_that_waits_holds_up_none(shared, line):
    claim = begin(shared, methods.CLAIM_TASK, timeout_s=math.inf)
    await line.frame()
    for _ in range(10):
        call = begin(shared)
        line.answer((await line.frame()).calls[0])
        assert await call == TASK
    assert not claim.done()


async def test_a_failure_is_that_call_s_alone(shared, line):
    refused, fine = begin(shared), begin(shared)
    first, second = (await line.frame()).calls
    failure = pb.CallFailure(
        code=Code.OUT_OF_RANGE.value[0],
        message="gone",
        definite=True,
        reason="compacted",
        field="after",
        oldest=23,
        leader_endpoint="b:7070",
    )
    line.say(answers=[pb.Answer(id=first.id, failure=failure)])
    line.answer(second)
    assert await fine == TASK
    assert await failure_of(refused) == Failure(
        Code.OUT_OF_RANGE, "gone", True, "compacted", "after", "b:7070", 23
    )


@pytest.mark.parametrize("outcome", [{}, {"response": b"\xff"}])
async def test_an_answer_that_makes_no_sense_says_nothing(shared, line, outcome):
    call = begin(shared)
    line.say(answers=[pb.Answer(id=(await line.frame()).calls[0].id, **outcome)])
    failure = await failure_of(call)
    assert (failure.code, failure.definite) == (Code.INTERNAL, None)


async def test_cancelling_travels_and_its_answer_is_ignored(shared, line):
    call, other = begin(shared), begin(shared)
    sent = (await line.frame()).calls
    call.cancel()
    assert (await line.frame()).cancelled == [sent[0].id]
    line.answer(sent[0])
    line.answer(sent[1])
    assert await other == TASK


async def test_a_call_cancelled_before_it_was_written_is_never_sent(shared, line):
    line.room.clear()
    begin(shared)
    first = (await line.frame()).calls[0]
    call = begin(shared)
    await asyncio.sleep(0)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    line.room.set()
    begin(shared)
    frame = await line.frame()
    assert len(frame.calls) == 1
    assert frame.calls[0].id > first.id + 1
    assert frame.cancelled == []


async def test_each_call_has_its_own_deadline(shared, line):
    late, patient = begin(shared, timeout_s=0.05), begin(shared)
    sent = (await line.frame()).calls
    failure = await failure_of(late)
    assert (failure.code, failure.definite) == (Code.DEADLINE_EXCEEDED, None)
    assert not failure.unreachable, "so short a time proves nothing"
    assert (await line.frame()).cancelled == [sent[0].id]
    line.answer(sent[1])
    assert await patient == TASK


async def test_a_call_that_could_not_be_written_in_time_did_nothing(shared, line):
    line.room.clear()
    begin(shared)
    await line.frame()
    failure = await failure_of(begin(shared, timeout_s=0.05))
    assert (failure.code, failure.definite) == (Code.UNAVAILABLE, True)
    line.room.set()
    begin(shared)
    assert len((await line.frame()).calls) == 1


@pytest.mark.parametrize("code", [Code.UNAVAILABLE, Code.INTERNAL, Code.CANCELLED])
async def test_a_break_leaves_open_what_became_of_written_calls_only(shared, line, code):
    line.room.clear()
    written = begin(shared)
    await line.frame()
    unwritten = begin(shared)
    await asyncio.sleep(0)
    line.end(code)
    for call, definite in ((written, None), (unwritten, True)):
        failure = await failure_of(call)
        assert (failure.code, failure.definite) == (Code.UNAVAILABLE, definite)
        assert failure.unreachable
    assert shared.ended


@pytest.fixture
def unwelcome(line):
    line.unsay()


@pytest.mark.usefixtures("unwelcome")
async def test_nothing_is_sent_before_the_daemon_serves_the_stream(shared, line):
    late, call = begin(shared, timeout_s=0.05), begin(shared)
    failure = await failure_of(late)
    assert (failure.code, failure.definite) == (Code.UNAVAILABLE, True)
    assert line.frames.empty()
    line.say()
    line.answer((await line.frame()).calls[0])
    assert await call == TASK


@pytest.mark.usefixtures("unwelcome")
async def test_a_stream_that_breaks_before_it_is_served_leaves_nothing_open(shared, line):
    call = begin(shared)
    await asyncio.sleep(0)
    line.end(Code.UNAVAILABLE)
    failure = await failure_of(call)
    assert (failure.code, failure.definite, failure.unreachable) == (Code.UNAVAILABLE, True, True)


async def test_a_stream_that_the_daemon_ends_with_a_word_is_not_at_fault(shared, line):
    calls = [begin(shared) for _ in range(2)]
    await line.frame()
    line.end(Code.UNAVAILABLE, definite="true", leader="b:7070")
    for call in calls:
        failure = await failure_of(call)
        assert (failure.code, failure.definite) == (Code.UNAVAILABLE, True)
        assert failure.leader == "b:7070"
        assert not failure.unreachable


async def test_a_stream_that_there_is_no_room_for_leaves_its_calls_to_others(shared, line):
    call = begin(shared)
    await line.frame()
    line.end(Code.RESOURCE_EXHAUSTED, definite="true", reason="overloaded")
    failure = await failure_of(call)
    assert (failure.code, failure.definite) == (Code.RESOURCE_EXHAUSTED, True)
    assert retry.judge(failure) is retry.Verdict.TRY_AGAIN


async def test_the_end_of_a_stream_is_no_verdict_on_what_was_under_way(shared, line):
    line.room.clear()
    written = begin(shared)
    await line.frame()
    unwritten = begin(shared)
    await asyncio.sleep(0)
    line.end(Code.RESOURCE_EXHAUSTED, definite="false")
    for call, definite in ((written, False), (unwritten, True)):
        failure = await failure_of(call)
        assert (failure.code, failure.definite) == (Code.UNAVAILABLE, definite)


async def test_an_end_without_an_error_is_an_end_too(shared, line):
    call = begin(shared)
    await line.frame()
    line.end()
    failure = await failure_of(call)
    assert (failure.code, failure.definite) == (Code.UNAVAILABLE, None)


async def test_closing_fails_the_calls(shared, line):
    call = begin(shared, methods.CLAIM_TASK, timeout_s=math.inf)
    await line.frame()
    await shared.close()
    assert (await failure_of(call)).code is Code.UNAVAILABLE
    assert line.cancelled


async def test_the_leader_is_passed_on_as_it_is_told(shared, line, leaders):
    line.say(leader_endpoint="b:7070")
    line.say(log_index=7)
    line.say(leader_endpoint="")
    call = begin(shared)
    line.answer((await line.frame()).calls[0])
    await call
    assert leaders == ["b:7070", ""]


# ---------------------------------------------------------------- streams that hang


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(stream, "SILENCE_S", 0.1)


@pytest.mark.usefixtures("impatient")
async def test_a_silent_stream_is_left_by_all_when_one_has_waited_in_vain(shared, line):
    claim = begin(shared, methods.CLAIM_TASK, timeout_s=math.inf)
    others = [begin(shared) for _ in range(10)]
    begin(shared, timeout_s=0.2)
    await line.frame()
    for call in (claim, *others):
        failure = await failure_of(call)
        assert (failure.code, failure.definite) == (Code.UNAVAILABLE, None)
        assert failure.unreachable
    assert shared.ended
    assert line.cancelled


@pytest.mark.usefixtures("impatient")
async def test_a_slow_call_on_a_live_stream_hurts_no_other(shared, line):
    slow = begin(shared, timeout_s=0.2)
    await line.frame()
    claim = begin(shared, methods.CLAIM_TASK, timeout_s=math.inf)
    await line.frame()
    line.say(log_index=7)
    assert (await failure_of(slow)).code is Code.DEADLINE_EXCEEDED
    assert not shared.ended
    assert not claim.done()


async def test_a_short_time_proves_nothing_either(shared, line):
    call = begin(shared, timeout_s=0.05)
    await line.frame()
    await failure_of(call)
    assert not shared.ended
