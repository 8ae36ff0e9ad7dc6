"""The way of a proposal with nothing in it: what any engine of this shape needs at the least.

One thread hands over to another; that sends to two processes, syncs its own file and waits for the
first answer of a process that has synced its file; then it hands back. No log, no terms, no checks.
"""

from __future__ import annotations

import contextlib
import os
import queue
import selectors
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

ANSWER = b"stored"
FOLLOWERS = 2


class BarePath:
    """The end that is handed the payloads. `links` lead to processes that store and answer."""

    def __init__(self, links: list[socket.socket], file: Path) -> None:
        self._links = links
        self._file = os.open(file, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        self._handed: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._stored = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def store(self, payload: bytes) -> None:
        """Return once `payload` is on two disks."""
        self._stored.clear()
        self._handed.put(payload)
        self._stored.wait()

    def _serve(self) -> None:
        owed = dict.fromkeys(self._links, 0)  # bytes of answers, as one process lags behind
        with selectors.DefaultSelector() as selector:
            for link in self._links:
                selector.register(link, selectors.EVENT_READ)
            while payload := self._handed.get():
                for link in self._links:
                    link.sendall(payload)
                    owed[link] += len(ANSWER)
                os.write(self._file, payload)
                os.fdatasync(self._file)
                while all(owed.values()):
                    for key, _ in selector.select():
                        link = key.fileobj  # type: ignore[assignment]  # the sockets from above
                        owed[link] -= len(link.recv(65536))
                self._stored.set()

    def close(self) -> None:
        """End the thread."""
        self._handed.put(b"")


@contextlib.contextmanager
def bare_path(folder: Path, size: int) -> Iterator[BarePath]:
    """One whose payloads have `size` bytes, with two processes to store them in `folder` too."""
    with contextlib.ExitStack() as opened, socket.create_server(("127.0.0.1", 0)) as server:
        links = []
        for number in range(FOLLOWERS):
            command = [sys.executable, "-m", "benchmarks.bare_path"]
            file = str(folder / f"bare-{number}")
            port = str(server.getsockname()[1])
            process = opened.enter_context(subprocess.Popen([*command, port, file, str(size)]))
            link, _ = server.accept()
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            opened.callback(process.kill)
            links.append(opened.enter_context(link))
        path = BarePath(links, folder / "bare")
        opened.callback(path.close)
        yield path


def main() -> None:
    """Store what comes, and answer each payload."""
    port, file, size = sys.argv[1:]
    descriptor = os.open(file, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    with (
        contextlib.suppress(ConnectionResetError),  # how it ends, if an answer was not awaited
        socket.create_connection(("127.0.0.1", int(port))) as link,
    ):
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while payload := link.recv(int(size), socket.MSG_WAITALL):
            os.write(descriptor, payload)
            os.fdatasync(descriptor)
            link.sendall(ANSWER)


if __name__ == "__main__":
    main()
