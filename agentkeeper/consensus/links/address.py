"""Where the other replicas are."""

from __future__ import annotations

import ipaddress
import math
import socket
import threading
from typing import Any

from pysyncobj.node import Node

from agentkeeper.consensus.internals import now_s

RESOLVE_AGAIN_S = 1.0
"""How long a resolved name is trusted when a connection has to be made."""


class PeerNode(Node):  # type: ignore[misc]
    """A replica that is known by its node id, whatever its address."""

    def __init__(self, node_id: str, address: str) -> None:
        super().__init__(node_id)
        self.host, self.port = split_address(address)
        self._known_ips = [self.host] if _is_ip(self.host) else []
        self._resolved_s = math.inf if self._known_ips else -math.inf
        self._turn = -1
        self._resolving = False
        self.unresolved: str | None = None
        """Why the host's address is not known, if that is so; in words."""

    def next_ip(self) -> str | None:
        """Give the host's addresses in turn, as last resolved; None as long as none is known.

        Names are resolved on a thread: a slow name server must not hold up heartbeats.
        """
        if now_s() - self._resolved_s > RESOLVE_AGAIN_S and not self._resolving:
            self._resolving = True
            thread = threading.Thread(target=self._resolve, name=f"resolve-{self.id}", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # the system gives no more threads
                self._resolving = False
                self.unresolved = f"cannot resolve the host {self.host}: {error}"
        known = self._known_ips
        if not known:
            return None
        self._turn += 1
        return known[self._turn % len(known)]

    def _resolve(self) -> None:
        try:
            found = resolve(self.host, self.port)
            self._known_ips = list(dict.fromkeys(str(entry[4][0]) for entry in found))
            self.unresolved = None
        except (OSError, UnicodeError) as error:
            self.unresolved = f"cannot resolve the host {self.host} of replica {self.id}: {error}"
        finally:
            self._resolved_s = now_s()
            self._resolving = False


def split_address(address: str) -> tuple[str, int]:
    """Give host, without the brackets an IPv6 address may have, and port of `host:port`."""
    host, _, port = address.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def resolve(host: str, port: int, flags: int = 0) -> list[Any]:
    """Resolve as `socket.getaddrinfo` does, IPv4 first: one listens on what others try first.

    Raises `OSError` and `UnicodeError`.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    return sorted(found, key=lambda entry: entry[0] != socket.AF_INET)


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
