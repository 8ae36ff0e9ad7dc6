"""A stand-in for the daemon: a gRPC server whose answers a test decides."""

import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from agentkeeper.client import methods

METHODS = {
    method.path: method for method in vars(methods).values() if isinstance(method, methods.Method)
}
STREAMS = {methods.WATCH.path, methods.WATCH_ELECTION.path}


class FakeDaemon(grpc.GenericRpcHandler):
    """Serves `answers[name](request, context)`; records the metadata of every call."""

    def __init__(self):
        self.answers = {}
        self.calls = []
        self.address = None
        self._server = None
        self._lock = threading.Lock()

    def start(self, address="127.0.0.1:0"):
        options = [("grpc.http2.max_ping_strikes", 0), ("grpc.so_reuseport", 0)]
        self._server = grpc.server(ThreadPoolExecutor(16), options=options)
        self._server.add_generic_rpc_handlers((self,))
        port = self._server.add_insecure_port(self.address or address)
        self.address = f"127.0.0.1:{port}"
        self._server.start()
        return self

    def stop(self):
        self._server.stop(None).wait()

    def service(self, details):
        method = METHODS.get(details.method)
        if method is None:
            return None

        def answer(request, context):
            with self._lock:
                self.calls.append((method.name, dict(context.invocation_metadata())))
            if method.name in self.answers:
                return self.answers[method.name](request, context)
            if method.name == "OpenSession":
                return method.response(session_id=f"session@{self.address}", window=64)
            return method.response()

        make = (
            grpc.unary_stream_rpc_method_handler
            if method.path in STREAMS
            else grpc.unary_unary_rpc_method_handler
        )
        return make(answer, method.request.FromString, method.response.SerializeToString)

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
