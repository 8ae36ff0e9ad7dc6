"""A stand-in for the daemon: a gRPC server whose answers a test decides."""

import contextlib
import queue
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.client import methods
from agentkeeper.client.stream import PATH as EXCHANGE

METHODS = {
    method.path: method for method in vars(methods).values() if isinstance(method, methods.Method)
}
BY_NAME = {method.name: method for method in METHODS.values()}
STREAMS = {methods.WATCH.path, methods.WATCH_ELECTION.path, methods.SAVE_SNAPSHOT.path}
THREADS = 32


class FakeDaemon(grpc.GenericRpcHandler):
    """Serves `answers[name](request, context)`; records the metadata of every call.

    Calls come one by one or on the shared stream, of which `frames` has all that were received.
    The stream says where the `leader` is. Without `exchange` the server knows no such stream.
    """

    def __init__(self):
        self.answers = {}
        self.calls = []
        self.frames = []
        self.exchange = True
        self.leader = ""
        self.address = None
        self._server = None
        self._lock = threading.Lock()
        self._workers = ThreadPoolExecutor(THREADS)

    def start(self, address="127.0.0.1:0"):
        options = [("grpc.http2.max_ping_strikes", 0), ("grpc.so_reuseport", 0)]
        self._server = grpc.server(ThreadPoolExecutor(THREADS), options=options)
        self._server.add_generic_rpc_handlers((self,))
        port = self._server.add_insecure_port(self.address or address)
        self.address = f"127.0.0.1:{port}"
        self._server.start()
        return self

    def stop(self):
        self._server.stop(None).wait()

    def service(self, details):
        if details.method == EXCHANGE and self.exchange:
            return grpc.stream_stream_rpc_method_handler(
                self._exchange, pb.CallFrame.FromString, pb.AnswerFrame.SerializeToString
            )
        method = METHODS.get(details.method)
        if method is None:
            return None

        def answer(request, context):
            return self._answer(method, request, context)

        make = (
            grpc.unary_stream_rpc_method_handler
            if method.path in STREAMS
            else grpc.unary_unary_rpc_method_handler
        )
        return make(answer, method.request.FromString, method.response.SerializeToString)

    def _answer(self, method, request, context):
        with self._lock:
            self.calls.append((method.name, dict(context.invocation_metadata())))
        if method.name in self.answers:
            return self.answers[method.name](request, context)
        if method.name == "OpenSession":
            return method.response(session_id=f"session@{self.address}", window=64)
        return method.response()

    def _exchange(self, frames, context):
        """Serve one shared stream: each call on a thread of its own, answers as they come."""
        answers = queue.SimpleQueue()
        contexts = {}
        context.add_callback(lambda: answers.put(None))

        def serve(call):
            answer = self._answer_on_stream(call, contexts[call.id])
            if contexts.pop(call.id).is_active():
                answers.put(answer)

        def receive():
            with contextlib.suppress(grpc.RpcError):
                for frame in frames:
                    self.frames.append(frame)
                    for call in frame.calls:
                        contexts[call.id] = CallContext(call, context)
                        self._workers.submit(serve, call)
                    for call_id in frame.cancelled:
                        if call_id in contexts:
                            contexts[call_id].cancelled = True
            answers.put(None)

        threading.Thread(target=receive, daemon=True).start()
        yield pb.AnswerFrame(leader_endpoint=self.leader)
        while (answer := answers.get()) is not None:
            yield pb.AnswerFrame(answers=[answer])

    def _answer_on_stream(self, call, context):
        method = BY_NAME[call.method]
        try:
            response = self._answer(method, method.request.FromString(call.request), context)
            return pb.Answer(id=call.id, response=response.SerializeToString())
        except AbortError as ended:
            return pb.Answer(id=call.id, failure=ended.failure)
        except Exception as error:  # as gRPC reports it of a unary call
            failure = pb.CallFailure(code=grpc.StatusCode.UNKNOWN.value[0], message=str(error))
            return pb.Answer(id=call.id, failure=failure)

    @staticmethod
    def refuse(context, code, definite=None, **metadata):
        """End a call as the daemon does."""
        entries = [(f"agentkeeper-{key}", value) for key, value in metadata.items()]
        if definite is not None:
            entries.append(("agentkeeper-definite", "true" if definite else "false"))
        context.set_trailing_metadata(tuple(entries))
        context.abort(code, "refused by the test")

    def numbers(self, name):
        """Session and request number of every call of a method."""
        return [
            (metadata.get("agentkeeper-session"), metadata.get("agentkeeper-request"))
            for called, metadata in self.calls
            if called == name
        ]


class AbortError(Exception):
    def __init__(self, failure):
        self.failure = failure


class CallContext:
    """What of gRPC's context a call on the shared stream has."""

    def __init__(self, call, stream):
        self._call = call
        self._stream = stream
        self._trailer = {}
        self.cancelled = False

    def invocation_metadata(self):
        if not self._call.session_id:
            return ()
        return (
            ("agentkeeper-session", self._call.session_id),
            ("agentkeeper-request", str(self._call.request_number)),
            ("agentkeeper-seen", str(self._call.seen)),
        )

    def is_active(self):
        return not self.cancelled and self._stream.is_active()

    def set_trailing_metadata(self, entries):
        self._trailer = {key.removeprefix("agentkeeper-"): value for key, value in entries}

    def abort(self, code, details):
        raise AbortError(
            pb.CallFailure(
                code=code.value[0],
                message=details,
                definite=self._trailer.get("definite") == "true",
                reason=self._trailer.get("reason", ""),
                field=self._trailer.get("field", ""),
                oldest=int(self._trailer.get("oldest", 0)),
                leader_endpoint=self._trailer.get("leader", ""),
            )
        )


@pytest.fixture
def daemons():
    """Start any number of stand-ins; all are stopped at the end."""
    started = []

    def start():
        started.append(FakeDaemon().start())
        return started[-1]

    yield start
    for daemon in started:
        daemon.stop()
