"""A synchronous client with the surface of 0.1.x, on plain gRPC channels.

It does what clients of that time do and no more: unary calls without retries, heartbeats and
watches in background threads, one endpoint. `crash`, `ready` and `call` are for tests.
"""

import subprocess
import threading
from collections.abc import Callable
from typing import Any, Self

import grpc

from . import legacy_types as types
from .legacy_embedded import find_binary, free_port, stop, wait_for_listener
from .legacy_proto import CLASSES, PACKAGE, SERVICES, STREAMS, enum_number
from .legacy_types import PolicyEffect, TaskStatus, WatchEvent


class AgentHandle:
    """A registered agent; it heartbeats until deregistered."""

    def __init__(self, client: "AgentKeeperClient", agent_id: str, ttl: int) -> None:
        self.agent_id = agent_id
        self._client = client
        self._ended = threading.Event()
        self._gone = False
        self._thread = threading.Thread(target=self._beat, args=(max(1, ttl // 2),), daemon=True)
        self._thread.start()

    def _beat(self, interval_s: int) -> None:
        while not self._ended.wait(interval_s):
            try:
                self._client.call("Heartbeat", agent_id=self.agent_id)
            except grpc.RpcError as error:
                if error.code() == grpc.StatusCode.NOT_FOUND:
                    return
            except ValueError:  # the channel is closed
                return

    def deregister(self) -> None:
        self.crash()
        if not self._gone:
            self._gone = True
            self._client.call("Deregister", agent_id=self.agent_id)

    def crash(self) -> None:
        """Falls silent without a word."""
        self._ended.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.deregister()


class LeaseHandle:
    """A lease that this client holds."""

    def __init__(self, client: "AgentKeeperClient", lease: types.Lease) -> None:
        self.lease = lease
        self._client = client

    def _key(self) -> dict[str, Any]:
        return {
            "task_id": self.lease.task_id,
            "agent_id": self.lease.holder_agent_id,
            "token": CLASSES["FencingToken"](value=self.lease.token),
        }

    def renew(self, ttl: int | None = None) -> types.Lease:
        response = self._client.call("RenewLease", **self._key(), ttl_seconds=ttl or 0)
        self.lease = types.lease(response.lease)
        return self.lease

    def release(self) -> None:
        self._client.call("ReleaseLease", **self._key())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class Subscription:
    """A watch whose callback runs in a thread of its own."""

    def __init__(self, stream: Any, callback: Callable[[Any], None]) -> None:
        self._stream = stream
        self._callback = callback
        self._live = threading.Event()
        self.error: grpc.RpcError | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._stream.initial_metadata()
            self._live.set()
            for message in self._stream:
                self._callback(types.watch_event(message))
        except grpc.RpcError as error:
            self.error = error
            self._live.set()

    def ready(self, timeout_s: float = 10.0) -> Self:
        """Waits until the daemon has taken the subscription up."""
        assert self._live.wait(timeout_s), "no response headers: the subscription is not live"
        assert self.error is None, self.error
        return self

    def cancel(self) -> None:
        self._stream.cancel()
        if threading.current_thread() is not self._thread:
            self._thread.join(5)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()


class AgentKeeperClient:
    """Everything an agent or orchestrator of 0.1.x calls."""

    def __init__(self, host: str = "localhost", port: int = 7070) -> None:
        self.port = port
        self._process: subprocess.Popen[bytes] | None = None
        self._channel = grpc.insecure_channel(
            f"{host}:{port}", options=[("grpc.enable_http_proxy", 0)]
        )
        self._methods = {
            method: self._stub(service, method)
            for service, methods in SERVICES.items()
            for method in methods.split()
        }

    def _stub(self, service: str, method: str) -> Any:
        path = f"/{PACKAGE}.{service}/{method}"
        encode = CLASSES[f"{method}Request"].SerializeToString
        if method in STREAMS:
            return self._channel.unary_stream(path, encode, CLASSES["Event"].FromString)
        return self._channel.unary_unary(path, encode, CLASSES[f"{method}Response"].FromString)

    def call(self, method: str, **fields: Any) -> Any:
        """One call with the fields given, whatever they are."""
        return self._methods[method](CLASSES[f"{method}Request"](**fields))

    @classmethod
    def embedded(
        cls, binary: str | None = None, port: int | None = None, data_dir: str | None = None
    ) -> Self:
        """Starts a daemon for this client alone."""
        port = port or free_port()
        command = [find_binary(binary), f"--addr=127.0.0.1:{port}"]
        if data_dir:
            command.append(f"--data-dir={data_dir}")
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            wait_for_listener(port, process)
        except BaseException:
            stop(process)
            raise
        client = cls("127.0.0.1", port)
        client._process = process
        return client

    def close(self) -> None:
        self._channel.close()
        if self._process is not None:
            stop(self._process)
            self._process = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- registry

    def register(  # noqa: PLR0917
        self,
        name: str,
        description: str,
        version: str,
        tools: list[str] | None = None,
        metadata: dict[str, str] | None = None,
        ttl: int = 30,
    ) -> AgentHandle:
        card = CLASSES["AgentCard"](
            name=name, description=description, version=version, tools=tools, metadata=metadata
        )
        response = self.call("Register", card=card, ttl_seconds=ttl)
        return AgentHandle(self, response.agent_id, ttl)

    def get_agent(self, agent_id: str) -> types.AgentInfo:
        return types.agent_info(self.call("GetAgent", agent_id=agent_id).agent)

    def find(
        self, query: str = "", tools: list[str] | None = None, limit: int = 10
    ) -> list[types.AgentInfo]:
        response = self.call("Find", query=query, tools=tools, limit=limit)
        return [types.agent_info(agent) for agent in response.agents]

    # ---- leases

    def acquire_lease(self, task_id: str, agent_id: str, ttl: int = 60) -> LeaseHandle | None:
        response = self.call("AcquireLease", task_id=task_id, agent_id=agent_id, ttl_seconds=ttl)
        return LeaseHandle(self, types.lease(response.lease)) if response.acquired else None

    # ---- elections

    def campaign(self, group: str, agent_id: str) -> types.ElectionState:
        response = self.call("Campaign", group=group, agent_id=agent_id)
        return types.election_state(response.state)

    def resign(self, group: str, agent_id: str) -> None:
        self.call("Resign", group=group, agent_id=agent_id)

    # ---- entitlements

    def set_policy(
        self, id: str, subject: str, action: str, resource: str, effect: PolicyEffect
    ) -> types.Policy:
        policy = CLASSES["Policy"](
            id=id,
            subject=subject,
            action=action,
            resource=resource,
            effect=enum_number("PolicyEffect", effect.value),
        )
        return types.policy(self.call("SetPolicy", policy=policy).policy)

    def delete_policy(self, id: str) -> None:
        self.call("DeletePolicy", id=id)

    def list_policies(self, subject_prefix: str = "") -> list[types.Policy]:
        response = self.call("ListPolicies", subject_prefix=subject_prefix)
        return [types.policy(policy) for policy in response.policies]

    def check_policy(self, subject: str, action: str, resource: str) -> types.CheckResult:
        response = self.call("CheckPolicy", subject=subject, action=action, resource=resource)
        return types.CheckResult(response.allowed, response.reason)

    # ---- tasks

    def create_task(
        self,
        type: str,
        input: bytes = b"",
        required_tools: list[str] | None = None,
        max_retries: int = 0,
        ttl: int = 60,
    ) -> types.Task:
        response = self.call(
            "CreateTask",
            type=type,
            input=input,
            required_tools=required_tools,
            max_retries=max_retries,
            ttl_seconds=ttl,
        )
        return types.task(response.task)

    def claim_task(self, agent_id: str) -> types.Task:
        return types.task(self.call("ClaimTask", agent_id=agent_id).task)

    def complete_task(self, task_id: str, agent_id: str, output: bytes = b"") -> None:
        self.call("CompleteTask", task_id=task_id, agent_id=agent_id, output=output)

    def fail_task(self, task_id: str, agent_id: str, reason: str = "") -> None:
        self.call("FailTask", task_id=task_id, agent_id=agent_id, reason=reason)

    def get_task(self, task_id: str) -> types.Task:
        return types.task(self.call("GetTask", task_id=task_id).task)

    def list_tasks(self, status: TaskStatus | None = None) -> list[types.Task]:
        number = enum_number("TaskStatus", status.value if status else "UNSPECIFIED")
        return [types.task(task) for task in self.call("ListTasks", status=number).tasks]

    # ---- events

    def watch(self, topics: list[str], callback: Callable[[WatchEvent], None]) -> Subscription:
        return Subscription(self.call("Watch", topics=topics), callback)

    def watch_election(
        self, group: str, callback: Callable[[types.ElectionState], None]
    ) -> Subscription:
        stream = self.call("WatchElection", group=group)
        return Subscription(stream, lambda event: callback(event.payload))
