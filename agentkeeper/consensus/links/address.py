"""Where the other replicas are."""

from __future__ import annotations

import ipaddress
import math
import socket
import threading

from pysyncobj.node import Node

from agentkeeper.consensus.internals import now_s
from agentkeeper.consensus.links.listener import split_address

RESOLVE_AGAIN_S = 1.0
"""How long a resolved name is trusted when a connection has to be made."""


class PeerNode(Node):  # type: ignore[misc]
    """A replica that is known by its node id, whatever its address."""

    def __init__(self, node_id: str, address: str) -> None:
        super().__init__(node_id)
        self.host, self.port = split_address(address)
        self._known_ip: str | None = self.host if _is_ip(self.host) else None
        self._resolved_s = math.inf if self._known_ip else -math.inf
        self._resolving = False
        self.unresolved: str | None = None
        """Why the host's address is not known, if that is so; in words."""

    @property
    def ip(self) -> str | None:
        """The host's address as last resolved; None as long as it is not known.

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
        return self._known_ip

    def _resolve(self) -> None:
        try:
            found = socket.getaddrinfo(self.host, None, type=socket.SOCK_STREAM)
            by_preference = sorted(found, key=lambda entry: entry[0] != socket.AF_INET)
            self._known_ip = str(by_preference[0][4][0])
            self.unresolved = None
        except (OSError, UnicodeError) as error:
            self.unresolved = f"cannot resolve the host {self.host} of replica {self.id}: {error}"
        finally:
            self._resolved_s = now_s()
            self._resolving = False


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
