"""A daemon of one's own, for development and tests: found, started and stopped by the SDK."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import sys
import tempfile
import time
import weakref
from pathlib import Path

from agentkeeper.client.child import Child, ChildFailed
from agentkeeper.client.ports import free_ports, is_free

BINARY_VARIABLE = "AGENTKEEPER_BIN"
START_TIMEOUT_S = 30.0
POLL_S = 0.02
STARTS = 3  # with other ports, when a port found free was taken meanwhile


def find_daemon(binary: str | os.PathLike[str] | None = None) -> list[str]:
    """Return the command that runs the daemon.

    In this order: `binary`, the variable AGENTKEEPER_BIN, `agentkeeper` on the PATH,
    ./daemon/agentkeeper in the working directory or the project that holds this package, and the
    daemon installed with this package. Raises FileNotFoundError, naming what was looked for.
    """
    for source, named in (("binary=", binary), (BINARY_VARIABLE, os.environ.get(BINARY_VARIABLE))):
        if named:
            found = shutil.which(os.fspath(named))
            if found is None:
                raise FileNotFoundError(f"{source} names no executable: {os.fspath(named)}")
            return [found]
    project = Path(__file__).resolve().parents[2]
    candidates = [
        "agentkeeper",
        *(str(p / "daemon" / "agentkeeper") for p in (Path.cwd(), project)),
    ]
    for candidate in candidates:
        found = shutil.which(candidate)
        if found is not None:
            return [found]
    if importlib.util.find_spec("agentkeeper.server") and sys.executable:
        return [sys.executable, "-m", "agentkeeper"]
    raise FileNotFoundError(
        f"no agentkeeper daemon: pass binary=, set {BINARY_VARIABLE}, or install it;"
        f" looked for {', '.join(candidates)}"
    )


class EmbeddedDaemon:
    """A daemon on a loopback port. `stop()` ends it; so does the end of this process."""

    def __init__(
        self,
        binary: str | os.PathLike[str] | None = None,
        port: int | None = None,
        data_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        """Start the daemon and wait until it accepts connections.

        Raises FileNotFoundError if there is none, ChildFailed if it does not come up.
        """
        command = find_daemon(binary)
        if port is not None and not is_free(port):
            raise ChildFailed(f"cannot start the daemon: port {port} is in use")
        self._pid = os.getpid()
        self._files = Path(tempfile.mkdtemp(prefix="agentkeeper-embedded-"))
        self._remove_files = weakref.finalize(self, _remove, self._files, self._pid)
        try:
            self._child, self.port = self._start(command, port, data_dir)
        except BaseException:
            self._remove_files()
            raise

    @property
    def pid(self) -> int:
        """Process id of the daemon."""
        return self._child.pid

    def stop(self) -> None:
        """Stop the daemon: SIGTERM, then SIGKILL. Harmless when repeated.

        Does nothing in a fork of the process that started it.
        """
        if self._pid == os.getpid():
            self._child.stop()
            self._remove_files()

    def _start(
        self, command: list[str], port: int | None, data_dir: str | os.PathLike[str] | None
    ) -> tuple[Child, int]:
        log_path = self._files / "daemon.log"
        data_arguments = [] if data_dir is None else [f"--data-dir={os.fspath(data_dir)}"]
        for last in range(STARTS - 1, -1, -1):
            chosen = port or free_ports(1)[0]
            child = Child([*command, f"--addr=127.0.0.1:{chosen}", *data_arguments], log_path)
            try:
                _wait_until_accepting(child, chosen)
            except ChildFailed:
                if port or not last:
                    raise
            except BaseException:
                child.kill()
                raise
            else:
                return child, chosen
        raise AssertionError("unreachable")


def _remove(files: Path, pid: int) -> None:
    if pid == os.getpid():
        shutil.rmtree(files, ignore_errors=True)


def _wait_until_accepting(child: Child, port: int) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        child.check_running("the daemon")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
        except OSError:
            if time.monotonic() > deadline:
                child.kill()
                raise ChildFailed(
                    f"the daemon did not accept connections within {START_TIMEOUT_S:.0f} s;"
                    f" the end of its log:\n{child.log_tail()}"
                ) from None
            time.sleep(POLL_S)
        else:
            child.check_running("the daemon")  # else somebody else answered
            return
