"""Asks the daemon in this container for a page and fails unless the answer is 200.

It runs every few seconds for as long as the container does, so it imports next to nothing.
"""

import os
import socket
import sys

TIMEOUT_S = 2.5


def main() -> None:
    """`probe.py /readyz`: exit code 0, or 1 with what the daemon says on standard output."""
    host, _, port = os.environ.get("AGENTKEEPER_METRICS_ADDR", ":9090").rpartition(":")
    host = host.strip("[]")
    # A wildcard is where to listen, not where to call.
    target = "127.0.0.1" if host in ("", "0.0.0.0") else "::1" if host == "::" else host
    answer = b""
    try:
        with socket.create_connection((target, int(port)), TIMEOUT_S) as connection:
            connection.sendall(f"GET {sys.argv[1]} HTTP/1.0\r\nHost: probe\r\n\r\n".encode())
            while received := connection.recv(4096):
                answer += received
    except OSError as error:
        sys.exit(f"no answer on {target}:{port}: {error}")
    head, _, body = answer.partition(b"\r\n\r\n")
    sys.stdout.write(body.decode(errors="replace"))
    sys.exit(0 if head.split(b" ")[1:2] == [b"200"] else 1)


if __name__ == "__main__":
    main()
