"""How the client of 0.1.x finds, starts and stops a daemon of its own."""

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 15.0


def find_binary(binary: str | None = None) -> str:
    """Where the daemon is: the argument, the variable, PATH, then a development layout."""
    for candidate in (binary, os.environ.get("AGENTKEEPER_BIN"), shutil.which("agentkeeper")):
        if candidate:
            return candidate
    local = Path("daemon/agentkeeper")
    if local.is_file():
        return str(local.resolve())
    raise FileNotFoundError("agentkeeper")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for_listener(port: int, process: subprocess.Popen[bytes]) -> None:
    """Waits until the daemon accepts TCP connections: what 0.1.x takes as "it can serve"."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        if process.poll() is not None:
            raise RuntimeError(f"the daemon exited with {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise
