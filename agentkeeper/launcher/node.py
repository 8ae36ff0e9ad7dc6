"""One replica of a local cluster: a daemon process and its files."""

from __future__ import annotations

import http.client
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from agentkeeper import errors
from agentkeeper.client.child import Child
from agentkeeper.client.status import replica_status
from agentkeeper.types import ReplicaStatus

PROBE_TIMEOUT_S = 1.0
GRACE_S = 10.0


class Node:
    """A replica that can be started, killed, paused and started again on the same data."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        addr: str,
        metrics_addr: str,
        data_dir: Path,
        log_path: Path,
        endpoint: str = "",
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        """Its node id in the cluster."""
        self.command = list(command)
        self.addr = addr
        """Where it listens for clients."""
        self.endpoint = endpoint or addr
        """Where clients reach it: elsewhere, if something stands between."""
        self.metrics_addr = metrics_addr
        self.data_dir = data_dir
        self.log_path = log_path
        self._env = env
        self._child: Child | None = None

    @property
    def running(self) -> bool:
        """Whether its process lives (a paused one does)."""
        return self._child is not None and self._child.exit_code is None

    @property
    def pid(self) -> int | None:
        """Process id of the last start, None before the first."""
        return None if self._child is None else self._child.pid

    @property
    def exit_code(self) -> int | None:
        """How its last process ended (negative: by that signal); None while it runs."""
        return None if self._child is None else self._child.exit_code

    def start(self) -> None:
        """Start the daemon, on the data that a former run has left. Raises OSError."""
        if self.running:
            raise RuntimeError(f"replica {self.name} is running")
        self._child = Child(self.command, self.log_path, env=self._env)

    def kill(self) -> None:
        """End it at once with SIGKILL, and wait until it is gone."""
        if self._child is not None:
            self._child.kill()

    def pause(self) -> None:
        """Stop its process with SIGSTOP: it keeps its connections and answers nothing."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused process go on."""
        self._signal(signal.SIGCONT)

    def terminate(self, grace_s: float = GRACE_S) -> int | None:
        """Ask it to stop with SIGTERM, insist after `grace_s` with SIGKILL; return its exit code.

        None if it was never started.
        """
        return None if self._child is None else self._child.stop(grace_s)

    def request_stop(self) -> None:
        """Send SIGTERM and return at once."""
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)

    def check_running(self) -> None:
        """Raise ChildFailed, showing the end of its log, if its process has ended."""
        if self._child is not None:
            self._child.check_running(f"replica {self.name}")

    def log_tail(self) -> str:
        """Return the end of its log."""
        return "" if self._child is None else self._child.log_tail()

    def ready(self) -> bool:
        """Whether it says, over HTTP, that it can serve linearizable calls."""
        return self.unready_reason() == ""

    def unready_reason(self) -> str:
        """Return why it can't serve linearizable calls; empty if it can."""
        connection = http.client.HTTPConnection(self.metrics_addr, timeout=PROBE_TIMEOUT_S)
        try:
            connection.request("GET", "/readyz")
            response = connection.getresponse()
            text = response.read().decode(errors="replace").strip()
        except (OSError, http.client.HTTPException) as error:
            return f"no answer on {self.metrics_addr}: {error or type(error).__name__}"
        finally:
            connection.close()
        return "" if response.status == http.HTTPStatus.OK else text or "not ready"

    def status(self, timeout_s: float = PROBE_TIMEOUT_S) -> ReplicaStatus | None:
        """Return what it says about itself, or None if it does not answer."""
        try:
            return replica_status(self.addr, timeout_s)
        except errors.Unavailable:
            return None

    def _signal(self, number: signal.Signals) -> None:
        if self._child is not None:
            self._child.signal(number)

    def __repr__(self) -> str:
        return f"<Node {self.name} {self.endpoint} pid={self.pid}>"
