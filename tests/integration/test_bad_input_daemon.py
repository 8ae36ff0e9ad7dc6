"""One daemon to be fed with bad input over raw gRPC; and that it serves others meanwhile."""

import http.client
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from sys import executable
from types import TracebackType
from typing import Any, Self

import grpc
import psutil
import pytest

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.client.child import Child
from agentkeeper.client.ports import free_ports

from .waiting import eventually

STREAMS = frozenset(
    {"RegistryService/Watch", "ElectionService/WatchElection", "ClusterService/SaveSnapshot"}
)
TIMEOUT_S = 20.0
ATTEMPTS = 50

Metadata = Iterable[tuple[str, str | bytes]]


def varint(value: int) -> bytes:
    """A number as protobuf writes it."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def in_message(number: int, payload: bytes) -> bytes:
    """A field of a message, by hand: string, bytes or a message in it."""
    return varint(number << 3 | 2) + varint(len(payload)) + payload


@dataclass(frozen=True)
class Outcome:
    """How a call ended."""

    code: str
    details: str
    metadata: dict[str, Any]
    response: bytes = b""


class Daemon:
    """A daemon alone, in memory, and a channel to it. It must outlive whatever it is sent."""

    def __init__(self, directory: Path) -> None:
        self.port, self.http_port = free_ports(2)
        self.log = directory / "log"
        self._child = Child(
            [
                *(executable, "-m", "agentkeeper", "--log-format=json"),
                *(f"--addr=127.0.0.1:{self.port}", f"--metrics-addr=127.0.0.1:{self.http_port}"),
            ],
            self.log,
        )
        self._channel = grpc.insecure_channel(
            f"127.0.0.1:{self.port}", options=[("grpc.max_send_message_length", -1)]
        )

    def __enter__(self) -> Self:
        eventually(self.ready, "the daemon is ready")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._channel.close()
        code = self._child.stop()
        if error is None:
            assert code == 0, self._child.log_tail()

    @property
    def pid(self) -> int:
        return self._child.pid

    def ready(self) -> bool:
        """Whether it serves, by its own word over HTTP."""
        self._child.check_running("the daemon")
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=TIMEOUT_S)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def call(
        self, method: str, data: bytes, metadata: Metadata = (), timeout_s: float = TIMEOUT_S
    ) -> Outcome:
        """Send bytes as a request. A watch is over once it is live."""
        path, given = f"/agentkeeper.v1.{method}", tuple(metadata)
        try:
            if method in STREAMS:
                stream = self._channel.unary_stream(path)(data, timeout_s, metadata=given)
                if "agentkeeper-index" in dict(stream.initial_metadata()):
                    stream.cancel()
                    return Outcome("OK", "", {})
                next(stream)
                raise AssertionError("a watch without headers")
            response, ended = self._channel.unary_unary(path).with_call(
                data, timeout_s, metadata=given
            )
            return Outcome("OK", "", dict(ended.trailing_metadata()), response)
        except grpc.RpcError as error:
            end: Any = error
            trailing = dict(end.trailing_metadata() or ())
            return Outcome(end.code().name, end.details() or "", trailing)

    def standing(self) -> tuple[int, str]:
        """How many entries are applied, and the digest of the state."""
        outcome = self.call("ClusterService/Status", b"")
        assert outcome.code == "OK", outcome
        status = pb.StatusResponse.FromString(outcome.response)
        return status.applied_index, status.digest

    def call_without_effect(self, method: str, data: bytes, metadata: Metadata = ()) -> Outcome:
        """As `call`, and nothing must have been applied meanwhile."""
        with self.unchanged() as attempts:
            for _ in attempts:
                outcome = self.call(method, data, metadata)
        return outcome

    @contextmanager
    def unchanged(self) -> Iterator[Iterable[None]]:
        """Loop over what this gives: until a round passes in which the state did not change.

        The clock is stamped into the log now and then; a round in which it was is repeated.
        """

        def rounds() -> Iterator[None]:
            for _ in range(ATTEMPTS):
                before = self.standing()
                yield
                if self.standing() == before:
                    return
            pytest.fail("the state has changed each time")

        yield rounds()

    def register(self, name: str) -> str:
        """Register an agent that lives as long as the tests."""
        request = pb.RegisterRequest(card=pb.AgentCard(name=name), ttl_seconds=3_600)
        outcome = self.call("RegistryService/Register", request.SerializeToString())
        assert outcome.code == "OK", outcome
        return pb.RegisterResponse.FromString(outcome.response).agent_id

    def resident_bytes(self) -> int:
        return int(psutil.Process(self.pid).memory_info().rss)

    def check_log(self) -> None:
        """Nothing in the log is an error of the daemon's own."""
        text = self.log.read_text(errors="replace")
        assert "Traceback" not in text, text[-4_000:]
        assert '"level": "error"' not in text, text[-4_000:]
        assert "never retrieved" not in text, text[-4_000:]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("busy")) as daemon:
        yield daemon
        daemon.check_log()


def _hostile_calls() -> list[tuple[str, bytes]]:
    many = pb.RegisterRequest(card=pb.AgentCard(name="a", tools=["aa"] * 1_000_000))
    blob = pb.CreateTaskRequest(type="t", input=bytes(4_000_000))
    query = pb.FindRequest(query="q" * 4_000_000)
    return [
        ("RegistryService/Register", many.SerializeToString()),
        ("TaskService/CreateTask", blob.SerializeToString()),
        ("RegistryService/Find", query.SerializeToString()),
        ("RegistryService/Register", in_message(1, in_message(1, b"\xff" * 4_000_000))),
        ("RegistryService/Watch", in_message(1, b"\0" * 1_000_000)),
        ("RegistryService/Register", b"\xff" * 4_000_000),
        ("RegistryService/Register", in_message(1, in_message(5, b"") * 2_000_000)),
        ("RegistryService/Register", in_message(99, b"\xff" * 4_000_000)),
        ("EntitlementsService/CheckPolicy", in_message(1, b"*" * 4_000_000)),
        ("LeaseService/AcquireLease", b"x" * 5_000_000),
    ]


def test_hostile_calls_cost_bounded_memory_and_others_are_served(daemon: Daemon) -> None:
    """Several hundred calls of 4 MB, from four callers, must not add up to anything."""
    calls = _hostile_calls()

    def bombard(rounds: int) -> None:
        for _ in range(rounds):
            for method, data in calls:
                outcome = daemon.call(method, data)
                assert outcome.code in ("INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"), outcome

    bombard(2)
    before = daemon.resident_bytes()
    failures: list[BaseException] = []

    def caller() -> None:
        try:
            bombard(8)
        except BaseException as error:
            failures.append(error)

    callers = [threading.Thread(target=caller, daemon=True) for _ in range(4)]
    for thread in callers:
        thread.start()
    served = 0
    while served < 20 or any(thread.is_alive() for thread in callers):
        agent_id = daemon.register(f"served-{served}")
        request = pb.GetAgentRequest(agent_id=agent_id)
        assert daemon.call("RegistryService/GetAgent", request.SerializeToString()).code == "OK"
        served += 1
    assert not failures, failures[0]
    grown = daemon.resident_bytes() - before
    assert grown < 200 * 2**20, f"{grown} bytes after {4 * 8 * len(calls)} calls"


def test_reads_of_a_far_future_index_are_bounded(daemon: Daemon) -> None:
    """Stale reads that wait for an index that never comes end with their deadline."""
    request = pb.GetAgentRequest(agent_id="nobody").SerializeToString()
    metadata = [("agentkeeper-consistency", "stale"), ("agentkeeper-min-index", str(2**53 - 1))]
    with daemon.unchanged() as attempts:
        for _ in attempts:
            outcome = daemon.call("RegistryService/GetAgent", request, metadata, 0.2)
            assert outcome.code in ("DEADLINE_EXCEEDED", "UNAVAILABLE"), outcome
    assert daemon.ready()


def test_an_answer_too_large_for_a_message_is_refused(daemon: Daemon) -> None:
    long = [pb.Capability(name="c", description="d" * 8_192)] * 7
    card = pb.AgentCard(name="large", capabilities=long, tools=["large-card"])
    for _ in range(80):
        data = pb.RegisterRequest(card=card, ttl_seconds=3_600).SerializeToString()
        assert daemon.call("RegistryService/Register", data).code == "OK"
    find = pb.FindRequest(tools=["large-card"], limit=1_000).SerializeToString()
    outcome = daemon.call_without_effect("RegistryService/Find", find)
    assert outcome.code == "RESOURCE_EXHAUSTED", outcome
    assert outcome.metadata["agentkeeper-reason"] == "too_large"
    assert outcome.metadata["agentkeeper-definite"] == "true"
    few = pb.FindRequest(tools=["large-card"], limit=50).SerializeToString()
    assert daemon.call("RegistryService/Find", few).code == "OK"
