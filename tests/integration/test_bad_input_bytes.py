"""Random and malicious bytes on the gRPC port and on the HTTP port do nothing."""

import random
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import psutil
import pytest

from agentkeeper._pb import agentkeeper_pb2 as pb

from .test_bad_input_daemon import TIMEOUT_S, Daemon
from .waiting import eventually

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\0\0\0\x04\0\0\0\0\0"
HEADERS, END_HEADERS, END_STREAM = 1, 4, 1


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("bytes")) as daemon:
        yield daemon
        daemon.check_log()


@pytest.fixture(autouse=True)
def _lives_unchanged(daemon: Daemon) -> Iterator[None]:
    """Whatever a test sends, the daemon serves after it and has applied nothing but time."""
    request = b""
    before = [
        daemon.call(method, request).response
        for method in ("RegistryService/Find", "TaskService/ListTasks")
    ]
    yield
    after = [
        daemon.call(method, request).response
        for method in ("RegistryService/Find", "TaskService/ListTasks")
    ]
    assert after == before
    assert daemon.ready()


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)


def exchange(port: int, data: bytes) -> bytes:
    """Send bytes and no more, and return all that comes back until the other side closes."""
    answer = bytearray()
    with closing(connect(port)) as link, suppress(OSError):
        link.sendall(data)
        link.shutdown(socket.SHUT_WR)
        while got := link.recv(65_536):
            answer += got
    return bytes(answer)


def garbage(seed: str) -> Iterator[bytes]:
    draw = random.Random(seed)
    for size in (1, 2, 3, 9, 17, 24, 100, 1_000, 70_000):
        for _ in range(6):
            yield draw.randbytes(size)


def test_random_bytes(daemon: Daemon) -> None:
    with daemon.unchanged() as attempts:
        for _ in attempts:
            for data in garbage("anything"):
                exchange(daemon.port, data)
                exchange(daemon.http_port, data)


def test_http2_with_garbage_behind_its_preface(daemon: Daemon) -> None:
    with daemon.unchanged() as attempts:
        for _ in attempts:
            for data in garbage("http2"):
                exchange(daemon.port, PREFACE + data)
                exchange(daemon.port, PREFACE + SETTINGS + data)


def test_http2_frames_filled_with_garbage(daemon: Daemon) -> None:
    """Every type of frame, on several streams, with the right length and nonsense in it."""
    draw = random.Random("frames")
    with daemon.unchanged() as attempts:
        for _ in attempts:
            for kind in range(12):
                frames = [
                    frame(kind, draw.randrange(256), draw.choice([0, 1, 3, 2**31 - 1]), body)
                    for body in (b"", draw.randbytes(4), draw.randbytes(300))
                ]
                exchange(daemon.port, PREFACE + SETTINGS + b"".join(frames))


def frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return len(body).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + body


def header(name: bytes, value: bytes) -> bytes:
    """A literal header that is not indexed and not compressed."""
    return b"\0" + _length(len(name)) + name + _length(len(value)) + value


def _length(value: int) -> bytes:
    if value < 127:
        return bytes([value])
    out, value = bytearray([127]), value - 127
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def call(path: bytes, *more: tuple[bytes, bytes], body: bytes = b"") -> bytes:
    """A whole gRPC call, by hand: headers as given and one message."""
    given = [
        *((b":method", b"POST"), (b":scheme", b"http"), (b":path", path), (b":authority", b"x")),
        *((b"content-type", b"application/grpc"), (b"te", b"trailers"), *more),
    ]
    block = b"".join(header(name, value) for name, value in given)
    message = b"\0" + len(body).to_bytes(4, "big") + body
    return frame(HEADERS, END_HEADERS, 1, block) + frame(0, END_STREAM, 1, message)


REGISTER = b"/agentkeeper.v1.RegistryService/Register"
A_CARD = b"\x0a\x03\x0a\x01a"


@pytest.mark.parametrize(
    "headers",
    [
        [(b"agentkeeper-session", b"\0\x01\xff")],  # with a number it might be a session's name
        [(b"agentkeeper-request", b"\xff\xfe"), (b"agentkeeper-session", b"s")],
        [(b"agentkeeper-consistency", b"\x80")],
        [(b"agentkeeper-session-bin", b"not base64!")],
        [(b"agentkeeper-session", b"s" * 60_000)],
        [(b"x-%d" % i, b"v" * 500) for i in range(60)],
    ],
    ids=["control", "not ascii", "high", "not base64", "huge", "many"],
)
def test_calls_with_illegal_headers(headers: list[tuple[bytes, bytes]], daemon: Daemon) -> None:
    with daemon.unchanged() as attempts:
        for _ in attempts:
            exchange(daemon.port, PREFACE + SETTINGS + call(REGISTER, *headers, body=A_CARD))


@pytest.mark.parametrize("path", [b"", b"/", b"//", b"/" + b"a" * 9_000, REGISTER[1:]])
def test_calls_of_illegal_paths(path: bytes, daemon: Daemon) -> None:
    with daemon.unchanged() as attempts:
        for _ in attempts:
            exchange(daemon.port, PREFACE + SETTINGS + call(path, body=A_CARD))


def test_a_path_that_is_not_utf8_does_not_end_the_server(tmp_path: Path) -> None:
    """Some versions of grpcio end the server for it. The daemon then listens anew."""
    with Daemon(tmp_path) as daemon:
        agent_id = daemon.register("before")
        request = pb.GetAgentRequest(agent_id=agent_id).SerializeToString()
        for _ in range(3):
            exchange(daemon.port, PREFACE + SETTINGS + call(b"/\xff\xfe", body=A_CARD))
            eventually(
                lambda: daemon.call("RegistryService/GetAgent", request, timeout_s=1).code == "OK",
                "the daemon serves again",
            )


def test_messages_that_are_not_what_they_say(daemon: Daemon) -> None:
    whole = call(REGISTER, body=A_CARD)
    claims_more = whole.replace(b"\0\0\0\0\x05" + A_CARD, b"\0\x7f\xff\xff\xff" + A_CARD)
    zipped = call(REGISTER, (b"grpc-encoding", b"gzip"), body=A_CARD)
    compressed = zipped.replace(b"\0\0\0\0\x05" + A_CARD, b"\x01\0\0\0\x05" + A_CARD)
    with daemon.unchanged() as attempts:
        for _ in attempts:
            for data in (claims_more, compressed):
                assert data not in (whole, zipped)
                exchange(daemon.port, PREFACE + SETTINGS + data)


HTTP = [
    b"\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"\0\0\0\0 / HTTP/1.1\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: \0\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost x\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /healthz HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    b"POST /healthz HTTP/1.1\r\nContent-Length: 999999999999\r\n\r\nx",
    b"DELETE /metrics HTTP/1.1\r\n\r\n",
    b"GET /%00%ff/../../etc/passwd HTTP/1.1\r\n\r\n",
    b"GET http://[::1/ HTTP/1.1\r\n\r\n",
    b"GET //[ HTTP/1.1\r\n\r\n",
    b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 50_000 + b"\r\n",
    b"GET /healthz HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\xff\xff",
    b"GET /healthz HTTP/1.1\r\nExpect: the worst\r\n\r\n",
    b"\xff\xfe GET / HTTP/1.1\r\n\r\n",
]


@pytest.mark.parametrize("data", HTTP, ids=lambda data: repr(data[:36]))
def test_malformed_http(data: bytes, daemon: Daemon) -> None:
    with daemon.unchanged() as attempts:
        for _ in attempts:
            answer = exchange(daemon.http_port, data)
            exchange(daemon.port, data)
    assert b" 500 " not in answer.partition(b"\r\n")[0], answer[:300]
    assert b"Traceback" not in answer
    assert b"root:" not in answer


def test_slow_and_partial_requests_hold_up_nobody(daemon: Daemon) -> None:
    """Callers that begin and never end, many at a time, and others that are served meanwhile."""
    starts = [
        (daemon.port, b""),
        (daemon.port, PREFACE[:7]),
        (daemon.port, PREFACE + SETTINGS),
        (daemon.port, PREFACE + SETTINGS + call(REGISTER, body=A_CARD)[:-4]),
        (daemon.http_port, b""),
        (daemon.http_port, b"GET /hea"),
        (daemon.http_port, b"POST /healthz HTTP/1.1\r\nContent-Length: 100\r\n\r\nslow"),
    ]
    with ExitStack() as held, daemon.unchanged() as attempts:
        links = [(held.enter_context(closing(connect(port))), data) for port, data in starts * 40]
        for _ in attempts:
            for link, data in links:
                with suppress(OSError):
                    link.sendall(data[:1])
            assert daemon.ready()
            assert daemon.call("RegistryService/Find", b"").code == "OK"
        for link, data in links:
            with suppress(OSError):
                link.sendall(data[1:])
        assert daemon.ready()


def test_many_connections_leave_nothing_behind(daemon: Daemon) -> None:
    process = psutil.Process(daemon.pid)
    exchange(daemon.port, PREFACE)
    exchange(daemon.http_port, b"GET /healthz HTTP/1.0\r\n\r\n")
    before = process.num_fds()
    for _ in range(5):
        with ExitStack() as held:
            for port in (daemon.port, daemon.http_port) * 60:
                held.enter_context(closing(connect(port)))
            assert daemon.ready()
    eventually(lambda: process.num_fds() <= before + 10, "all connections are closed")
