"""Free loopback ports for daemons that are started here."""

from __future__ import annotations

import contextlib
import random
import socket

# Below the range from which systems draw the ports of outgoing connections: a port picked here is
# not taken by a passing connection before, or between two runs of, the daemon that it is for.
LOWEST, HIGHEST = 12_000, 31_999
DRAWS = 1_000


def free_ports(count: int) -> list[int]:
    """Return `count` different ports that nobody listens on now. Raises OSError if none is left."""
    ports: list[int] = []
    with contextlib.ExitStack() as held:
        for _ in range(DRAWS):
            if len(ports) == count:
                return ports
            port = random.randint(LOWEST, HIGHEST)
            listener = held.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                listener.bind(("0.0.0.0", port))
                ports.append(port)
    raise OSError(f"found no {count} free ports between {LOWEST} and {HIGHEST}")


def is_free(port: int) -> bool:
    """Whether a daemon could listen on this loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
