"""Links between replicas: the library's TCP transport, bound tightly and known by node id."""

from __future__ import annotations

import ipaddress
import logging
import math
import os
import socket
import struct
import threading
import zlib
from typing import Any

from pysyncobj import pickle as library_pickle
from pysyncobj.node import Node, TCPNode
from pysyncobj.poller import POLL_EVENT_TYPE
from pysyncobj.tcp_connection import CONNECTION_STATE
from pysyncobj.transport import TCPTransport, Transport

from agentkeeper.consensus.internals import now_s
from agentkeeper.consensus.limits import MAX_LINK_BUFFER_BYTES
from agentkeeper.consensus.port import StartError

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 1.0
"""How long a connection may take to be made before it is given up and tried anew."""

WARN_AGAIN_S = 10.0
"""How long a warning is not repeated; refused peers dial again several times a second."""

RESOLVE_AGAIN_S = 1.0
"""How long a resolved name is trusted when a connection has to be made."""


class PeerNode(TCPNode):  # type: ignore[misc]
    """A replica that is known by its node id, whatever its address."""

    def __init__(self, node_id: str, address: str) -> None:
        super().__init__(address)
        self._id = node_id
        self._known_ip: str | None = self.host if _is_ip(self.host) else None
        self._resolved_s = math.inf if self._known_ip else -math.inf
        self._resolving = False

    @property
    def ip(self) -> str | None:
        """The host's address as last resolved; None as long as it is not known.

        Names are resolved on a thread: a slow name server must not hold up heartbeats.
        """
        if now_s() - self._resolved_s > RESOLVE_AGAIN_S and not self._resolving:
            self._resolving = True
            threading.Thread(target=self._resolve, name=f"resolve-{self.id}", daemon=True).start()
        return self._known_ip

    def _resolve(self) -> None:
        try:
            found = socket.getaddrinfo(self.host, None, type=socket.SOCK_STREAM)
            by_preference = sorted(found, key=lambda entry: entry[0] != socket.AF_INET)
            self._known_ip = str(by_preference[0][4][0])
        except (OSError, UnicodeError) as error:
            logger.warning(
                "cannot resolve the host %s of replica %s: %s", self.host, self.id, error
            )
        finally:
            self._resolved_s = now_s()
            self._resolving = False


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class NoTransport(Transport):  # type: ignore[misc]
    """The transport of a cluster of one: there is nobody to talk to, and no socket."""

    def __init__(self, node: Node) -> None:
        super().__init__(None, node, [])

    def send(self, node: Node, message: object) -> bool:
        """Refuse: there is no other replica."""
        return False


class PeerTransport(TCPTransport):  # type: ignore[misc]
    """The library's transport with these differences.

    A replica introduces itself by node id, and only configured replicas are let in; it listens on
    its configured address only; administration over the wire is off; a connection that is not
    made, or not introduced, in time is given up; nothing a stranger sends can raise in the tick.
    """

    def __init__(self, raft: Any, self_node: PeerNode, others: Any) -> None:
        self._greeted: set[Node] = set()
        self._ready = False
        self._warned_s: dict[str, float] = {}
        super().__init__(raft, self_node, others)
        self._nodeAddrToNode = {node.id: node for node in self._nodes}

    # --- listening -----------------------------------------------------------------------------
    def _createServer(self) -> None:  # noqa: N802
        try:
            super()._createServer()
        except Exception as error:
            raise self._bind_error("the address cannot be resolved") from error

    def _maybeBind(self) -> None:  # noqa: N802
        if self._ready:
            return
        try:
            self._server.bind()
        except OSError as error:
            raise self._bind_error(str(error)) from error
        self._ready = True
        self._bindOverEvent.set()

    def _bind_error(self, reason: str) -> StartError:
        address = self._syncObj.conf.bindAddress
        return StartError(
            f"cannot listen for other replicas on {address}: {reason}; free the address, "
            "or set another one with the bind address or this replica's entry in the peers"
        )

    def _onNewIncomingConnection(self, conn: Any) -> None:  # noqa: N802
        super()._onNewIncomingConnection(conn)
        conn.accepted_s = now_s()

    def _onIncomingMessageReceived(self, conn: Any, message: Any) -> None:  # noqa: N802
        if self._syncObj.encryptor and not conn.sendRandKey:
            if not isinstance(message, bytes):
                self._refuse(conn)
                return
            conn.sendRandKey = message
            conn.recvRandKey = os.urandom(32)
            conn.send(conn.recvRandKey)
            return
        node = self._nodeAddrToNode.get(message) if isinstance(message, str) else None
        if node is None or self._shouldConnect(node):
            self._warn("", f"refused a connection that introduced itself as {message!r:.80}")
            self._refuse(conn)
            return
        self._replace_link(node, conn)

    def _refuse(self, conn: Any) -> None:
        self._unknownConnections.discard(conn)
        conn.disconnect()

    def _warn(self, about: str, message: str) -> None:
        if now_s() - self._warned_s.get(about, -math.inf) > WARN_AGAIN_S:
            self._warned_s[about] = now_s()
            logger.warning("%s", message)

    def _replace_link(self, node: Node, conn: Any) -> None:
        # A peer that dials anew has lost the old link, even if this end has not noticed.
        old = self._connections.get(node)
        if old is not None:
            old.disconnect()
        self._unknownConnections.discard(conn)
        self._connections[node] = conn
        conn.setOnMessageReceivedCallback(lambda received: self._onMessageReceived(node, received))
        self._greeted.add(node)
        self._onNodeConnected(node)

    # --- dialling --------------------------------------------------------------------------------
    def _shouldConnect(self, node: Node) -> bool:  # noqa: N802
        return bool(node not in self._preventConnectNodes and self._selfNode.id > node.id)

    def _sendSelfAddress(self, conn: Any) -> None:  # noqa: N802
        conn.send(self._selfNode.id)

    def _onOutgoingConnected(self, conn: Any) -> None:  # noqa: N802
        node = self._connToNode(conn)
        if self._syncObj.encryptor is None:
            self._greeted.add(node)
        super()._onOutgoingConnected(conn)

    def _onOutgoingMessageReceived(self, conn: Any, message: Any) -> None:  # noqa: N802
        if not isinstance(message, bytes):
            conn.disconnect()
            return
        self._greeted.add(self._connToNode(conn))
        super()._onOutgoingMessageReceived(conn, message)

    def _connectIfNecessarySingle(self, node: Node) -> bool:  # noqa: N802
        conn = self._connections.get(node)
        if (
            conn is not None
            and self._shouldConnect(node)
            and conn.state != CONNECTION_STATE.DISCONNECTED
            and node not in self._greeted
            and now_s() - self._lastConnectAttempt.get(node, 0.0) > CONNECT_TIMEOUT_S
        ):
            conn.disconnect()
            return False
        try:
            return bool(super()._connectIfNecessarySingle(node))
        except Exception as error:  # the library raises bare ones for addresses it cannot read
            self._warn(node.id, f"cannot connect to replica {node.id}: {error}")
            return False

    def _onTick(self) -> None:  # noqa: N802
        for conn in list(self._unknownConnections):
            if now_s() - conn.accepted_s > CONNECT_TIMEOUT_S:
                self._refuse(conn)
        self._connectIfNecessary()

    def _onNodeDisconnected(self, node: Node) -> None:  # noqa: N802
        self._greeted.discard(node)
        super()._onNodeDisconnected(node)

    # --- sending ---------------------------------------------------------------------------------
    def send(self, node: Node, message: object) -> bool:
        """Send over an introduced link; False if there is none or it is badly behind."""
        if node not in self._greeted:
            return False
        conn = self._connections[node]
        if conn.state != CONNECTION_STATE.CONNECTED:
            return False
        if conn.getSendBufferSize() > MAX_LINK_BUFFER_BYTES:
            return False
        _write(conn, message)
        if conn.getSendBufferSize():
            # The library would send the rest at the next message only.
            self._syncObj._poller.subscribe(
                conn.fileno(), conn._TcpConnection__processConnection, _ALL_EVENTS
            )
        return bool(conn.state == CONNECTION_STATE.CONNECTED)


_ALL_EVENTS = POLL_EVENT_TYPE.READ | POLL_EVENT_TYPE.WRITE | POLL_EVENT_TYPE.ERROR


def _write(conn: Any, message: object) -> None:
    """Do as the connection's `send` does, without its compression: 30 ms and more per MiB."""
    if conn.sendRandKey:
        message = (conn.sendRandKey, message)
    data = zlib.compress(library_pickle.dumps(message), 0)
    if conn.encryptor:
        data = conn.encryptor.encrypt_at_time(data, int(now_s()))
    conn._TcpConnection__writeBuffer += struct.pack("i", len(data)) + data
    conn._TcpConnection__trySendBuffer()
