"""Raw gRPC, without the SDK: one channel to one replica, nothing retried, metadata in the open."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.client import methods
from agentkeeper.client.methods import Method

from .shared_stream import SharedStream
from .waiting import PATIENCE_S, background, eventually

OPTIONS = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0))

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
NOT_FOUND = grpc.StatusCode.NOT_FOUND
PERMISSION_DENIED = grpc.StatusCode.PERMISSION_DENIED
ALREADY_EXISTS = grpc.StatusCode.ALREADY_EXISTS
FAILED_PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
INVALID_ARGUMENT = grpc.StatusCode.INVALID_ARGUMENT
RESOURCE_EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
ABORTED = grpc.StatusCode.ABORTED
OUT_OF_RANGE = grpc.StatusCode.OUT_OF_RANGE

PAYLOADS = {
    message.DESCRIPTOR.full_name: message
    for message in (
        *(pb.AgentInfo, pb.AgentRecovered, pb.Lease, pb.ElectionState),
        *(pb.TaskChanged, pb.PolicyChanged),
    )
}


@dataclass
class Session:
    """A client's session: hands out request numbers, and tells nobody that answers were seen."""

    session_id: str
    window: int = 0
    last: int = 0
    seen: int = 0

    def metadata(self, number: int | None = None) -> dict[str, str]:
        """Metadata of a new request, or of a retry of `number`."""
        if number is None:
            self.last += 1
            number = self.last
        return {
            "agentkeeper-session": self.session_id,
            "agentkeeper-request": str(number),
            "agentkeeper-seen": str(self.seen),
        }


class Stream:
    """A watch that is read in the background; live once made."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self.events: list[pb.Event] = []
        self.headers = dict(call.initial_metadata())
        self._reading = background(self._read)

    def _read(self) -> None:
        for event in self._call:
            self.events.append(event)  # seen one by one by other threads

    @property
    def sequences(self) -> list[int]:
        return [event.sequence_number for event in list(self.events)]

    def wait_for(self, topic: str, subject: str = "") -> pb.Event:
        """The first event of the topic about a subject, past or future."""

        def find() -> pb.Event | None:
            for event in list(self.events):
                if event.topic == topic and subject in ("", subject_of(event)):
                    return event
            if self._reading.done():
                pytest.fail(f"no {topic} of {subject}: the watch ended: {self._reading}")
            return None

        return eventually(find, f"{topic} of {subject} among {self.events}")

    def ended(self) -> grpc.RpcError:
        """Wait for the server to end the stream; how it did."""
        error = self._reading.exception(PATIENCE_S)
        assert isinstance(error, grpc.RpcError), error
        return error

    def cancel(self) -> None:
        self._call.cancel()


@dataclass
class Wire:
    """Calls to one replica."""

    endpoint: str
    _channel: Any = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self._channel = grpc.insecure_channel(self.endpoint, options=OPTIONS)

    def begin(
        self, method: Method, request: Any, timeout: float = PATIENCE_S, **metadata: str
    ) -> Any:
        """Start a call; its `result()` waits for the answer. A keyword `a_b` is metadata `a-b`."""
        stub = self._channel.unary_unary(
            method.path,
            request_serializer=method.request.SerializeToString,
            response_deserializer=method.response.FromString,
        )
        return stub.future(request, timeout=timeout, metadata=_pairs(metadata))

    def call(
        self, method: Method, request: Any, timeout: float = PATIENCE_S, **metadata: str
    ) -> Any:
        """Call and wait for the answer."""
        return self.begin(method, request, timeout, **metadata).result()

    def stream(self, method: Method, request: Any, **metadata: str) -> Any:
        """Open a stream, to be iterated over."""
        stub = self._channel.unary_stream(
            method.path,
            request_serializer=method.request.SerializeToString,
            response_deserializer=method.response.FromString,
        )
        return stub(request, metadata=_pairs(metadata))

    def watch(self, method: Method, request: Any, **metadata: str) -> Stream:
        """Open a watch; it is live on return."""
        return Stream(self.stream(method, request, **metadata))

    def watch_all(self, *topics: str, after: int | None = None) -> Stream:
        """Watch topics (all of them, if none is named)."""
        return self.watch(methods.WATCH, pb.WatchRequest(topics=topics, after_sequence=after))

    def share(self, *, reading: bool = True) -> SharedStream:
        """Open a stream that carries many calls."""
        return SharedStream(self._channel, reading=reading)

    def open_session(self, ttl_seconds: int = 0) -> Session:
        answer = self.call(methods.OPEN_SESSION, pb.OpenSessionRequest(ttl_seconds=ttl_seconds))
        return Session(answer.session_id, answer.window)

    def status(self, timeout: float = 5.0) -> pb.StatusResponse:
        return self.call(methods.STATUS, pb.StatusRequest(), timeout)

    def cancel(self, call: Any) -> None:
        """Cancel a call that has no answer yet; the replica knows of it on return."""
        call.cancel()
        with pytest.raises(grpc.FutureCancelledError):
            call.result(PATIENCE_S)
        for _ in range(3):  # on the same connection, so behind the news of the call's end
            self.status()

    def close(self) -> None:
        self._channel.close()

    # What tests do all the time, in short.

    def register(self, name: str, *tools: str, ttl: int = 3_600) -> str:
        card = pb.AgentCard(name=name, description="For tests", version="1", tools=tools)
        request = pb.RegisterRequest(card=card, ttl_seconds=ttl)
        return self.call(methods.REGISTER, request).agent_id

    def acquire(self, task_id: str, agent_id: str, ttl: int = 600, **fields: Any) -> Any:
        request = pb.AcquireLeaseRequest(
            task_id=task_id, agent_id=agent_id, ttl_seconds=ttl, **fields
        )
        return self.call(methods.ACQUIRE_LEASE, request)

    def release(self, lease: pb.Lease) -> None:
        request = pb.ReleaseLeaseRequest(
            task_id=lease.task_id, agent_id=lease.holder_agent_id, token=lease.token
        )
        self.call(methods.RELEASE_LEASE, request)

    def create_task(self, type: str, *tools: str, **fields: Any) -> pb.Task:
        """Create a task; without tools, one that no agent of any test can claim."""
        tools = tools or ("nobody has this",)
        request = pb.CreateTaskRequest(type=type, required_tools=tools, **fields)
        return self.call(methods.CREATE_TASK, request).task

    def get_task(self, task_id: str, **metadata: str) -> pb.Task:
        return self.call(methods.GET_TASK, pb.GetTaskRequest(task_id=task_id), **metadata).task

    def list_tasks(self, status: int = 0, limit: int = 1_000, **metadata: str) -> list[pb.Task]:
        """All tasks of a status, page by page unless the limit is 0."""
        tasks: list[pb.Task] = []
        token = ""
        while True:
            request = pb.ListTasksRequest(status=status, limit=limit, page_token=token)
            page = self.call(methods.LIST_TASKS, request, **metadata)
            assert limit == 0 or len(page.tasks) <= limit
            tasks.extend(page.tasks)
            token = page.next_page_token
            if not token:
                return tasks

    def set_policy(self, id: str, subject: str = "somebody", effect: int = 1) -> pb.Policy:
        policy = pb.Policy(id=id, subject=subject, action="do", resource="*", effect=effect)
        return self.call(methods.SET_POLICY, pb.SetPolicyRequest(policy=policy)).policy

    def check(self, subject: str, timeout: float = PATIENCE_S, **metadata: str) -> Any:
        request = pb.CheckPolicyRequest(subject=subject, action="do", resource="anything")
        return self.call(methods.CHECK_POLICY, request, timeout, **metadata)


def _pairs(metadata: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((key.replace("_", "-"), str(value)) for key, value in metadata.items())


def payload_of(event: pb.Event) -> Any:
    """The message packed in an event."""
    payload = PAYLOADS[event.payload.TypeName()]()
    assert event.payload.Unpack(payload)
    return payload


def subject_of(event: pb.Event) -> str:
    """What an event is about: an agent, a lease's key, a group, a task, a policy."""
    payload = payload_of(event)
    if isinstance(payload, pb.AgentRecovered):
        payload = payload.agent
    elif isinstance(payload, pb.TaskChanged):
        return payload.task.id
    elif isinstance(payload, pb.PolicyChanged):
        return payload.policy.id
    for name in ("task_id", "group", "agent_id"):
        if hasattr(payload, name):
            return getattr(payload, name)
    raise AssertionError(f"an event about nothing: {event}")


def said(error: grpc.RpcError) -> dict[str, str]:
    """The trailing metadata of a refusal."""
    return dict(error.trailing_metadata() or ())


@contextmanager
def refused(
    code: grpc.StatusCode, *, definite: bool = True, reason: str = ""
) -> Iterator[dict[str, str]]:
    """The block ends with this status, and the replica says whether that is definite."""
    told: dict[str, str] = {}
    with pytest.raises(grpc.RpcError) as caught:
        yield told
    error: Any = caught.value
    told.update(said(error))
    assert error.code() is code, error
    assert told.get("agentkeeper-definite") == ("true" if definite else "false"), error
    assert told["agentkeeper-reason"], error
    assert reason in ("", told["agentkeeper-reason"]), error
