"""The transport of the Raft engine: one guarded link to every other replica."""

from __future__ import annotations

import logging
import math
import socket
from collections import Counter
from collections.abc import Iterable
from typing import Any

from pysyncobj.node import Node
from pysyncobj.transport import Transport

from agentkeeper.consensus import limits
from agentkeeper.consensus.internals import now_s
from agentkeeper.consensus.links.address import PeerNode
from agentkeeper.consensus.links.channels import Channel, PlainChannel, SecretChannel
from agentkeeper.consensus.links.frames import MAX_MESSAGE_BYTES, encode
from agentkeeper.consensus.links.introduction import Introduced, Party
from agentkeeper.consensus.links.link import Link, connect
from agentkeeper.consensus.links.listener import Listener
from agentkeeper.consensus.links.refusals import LinkError, Refusal, Refusals
from agentkeeper.consensus.links.settings import LinkSettings
from agentkeeper.consensus.links.tls import TlsChannel, TlsContexts

__all__ = ["LinkSettings", "NoTransport", "PeerNode", "PeerTransport"]

logger = logging.getLogger(__name__)

MAX_STRANGERS = 32
"""Connections taken in that have not introduced themselves; a new one takes the oldest's place."""

DIAL_AGAIN_S = 0.1
"""Time from one attempt to connect to a replica to the next."""

_CHECK_AGAIN_S = 0.01
"""How often the clock is looked at; ticks may follow each other much faster."""


class NoTransport(Transport):  # type: ignore[misc]
    """The transport of a cluster of one: there is nobody to talk to, and no socket."""

    def __init__(self, node: Node) -> None:
        super().__init__(None, node, [])
        self.refused: Counter[str] = Counter()

    def send(self, node: Node, message: object) -> bool:
        """Refuse: there is no other replica."""
        return False

    def unsent_bytes(self, node: Node) -> int:
        """Give 0: nothing waits."""
        return 0

    def rejuvenate(self, span_s: float) -> None:
        """Do nothing: nobody can be silent."""


class PeerTransport(Transport):  # type: ignore[misc]
    """Links to the other replicas, over TCP.

    The replica with the higher id dials. Only configured replicas are let in, by the rules of
    `links.introduction`; nothing that anybody sends can raise in the tick or take more than a
    bounded amount of memory or time. What is refused is counted in `refused`, by reason.
    Everything runs on the engine's thread, within its poll and its tick.
    """

    def __init__(
        self, raft: Any, self_node: PeerNode, others: Iterable[PeerNode], settings: LinkSettings
    ) -> None:
        super().__init__(raft, self_node, others)
        self._settings = settings
        self._tls = None if settings.tls is None else TlsContexts(settings.tls)
        self._poller = raft._poller
        self._own_id: str = self_node.id
        self._nodes: dict[str, PeerNode] = {node.id: node for node in others}
        self._links: dict[str, Link] = {}
        """Introduced links by the peer's id."""
        self._dialling: dict[str, Link] = {}
        self._strangers: dict[Link, None] = {}
        """Links of those who dialled and are not introduced, the oldest first."""
        self._dialled_s: dict[str, float] = {}
        self._refusals = Refusals()
        self._listener = Listener(
            settings.bind_address, self._poller, self._refusals, self._on_connection
        )
        self._checked_s = -math.inf
        self._destroyed = False
        raft.addOnTickCallback(self.tick)

    # --- for the engine --------------------------------------------------------------------------
    @property
    def ready(self) -> bool:
        """Whether it listens."""
        return self._listener.bound

    def tryGetReady(self) -> None:  # noqa: N802
        """Begin to listen; raises `StartError`."""
        if not self._listener.bound:
            self._listener.bind()

    def send(self, node: Node, message: dict[str, Any]) -> bool:
        """Send over an introduced link; False if there is none or it is badly behind."""
        link = self._links.get(node.id)
        if link is None:
            return False
        if link.unsent_bytes > limits.MAX_LINK_BUFFER_BYTES:
            self._refusals.note(Refusal.UNSENT, f"replica {node.id} is badly behind")
            return False
        body = encode(message)
        if len(body) > MAX_MESSAGE_BYTES:
            self._refusals.note(Refusal.UNSENT, f"a message of {len(body)} bytes is too large")
            return False
        return link.send(body)

    def unsent_bytes(self, node: Node) -> int:
        """Bytes that wait for the link to `node`. May be called from any thread."""
        link = self._links.get(node.id)
        return 0 if link is None else link.unsent_bytes

    @property
    def refused(self) -> Counter[str]:
        """What was dropped so far, counted by reason (`links.refusals.Refusal`)."""
        return self._refusals.counts

    def note(self, reason: Refusal, text: str) -> None:
        """Count what the engine refused of a peer, and log it now and then."""
        self._refusals.note(reason, text)

    def rejuvenate(self, span_s: float) -> None:
        """Do not take a span in which this process did not run for silence of the peers."""
        for link in self._all_links():
            link.rejuvenate(span_s)

    def tick(self) -> None:
        """Do what time asks for: dial, give up, show that this end lives."""
        now = now_s()
        if self._destroyed or now - self._checked_s < _CHECK_AGAIN_S:
            return
        self._checked_s = now
        self._listener.check()
        for link in self._all_links():
            link.check(self._settings.silence_s)
        for node_id, node in self._nodes.items():
            linked = node_id in self._links or node_id in self._dialling
            due = now - self._dialled_s.get(node_id, -math.inf) >= DIAL_AGAIN_S
            if node_id < self._own_id and due and not linked:
                self._dialled_s[node_id] = now
                self._dial(node)

    def destroy(self) -> None:
        """Close everything, without telling anybody; harmless when repeated."""
        self._destroyed = True
        self._listener.close()
        for link in self._all_links():
            link.close()
        self._links.clear()
        self._dialling.clear()
        self._strangers.clear()

    def _all_links(self) -> list[Link]:
        return [*self._links.values(), *self._dialling.values(), *self._strangers]

    # --- making links ----------------------------------------------------------------------------
    def _channel(self, target: str | None) -> Channel:
        party = Party(self._own_id, self._nodes.keys(), target)
        if self._tls is not None:
            return TlsChannel(party, self._tls)
        if self._settings.secret is not None:
            return SecretChannel(party, self._settings.secret)
        return PlainChannel(party)

    def _dial(self, node: PeerNode) -> None:
        ip = node.next_ip()
        if ip is None:
            if node.unresolved:
                self._refusals.note(Refusal.UNREACHABLE, node.unresolved)
            return
        whose = f"replica {node.id} at {ip}:{node.port}"
        try:
            channel = self._channel(node.id)
            connection = connect(ip, node.port)
        except LinkError as error:
            self._refusals.note(error.reason, str(error))
        except OSError as error:
            self._refusals.note(Refusal.UNREACHABLE, f"cannot connect to {whose}: {error}")
        else:
            self._dialling[node.id] = Link(connection, channel, self._poller, self, whose)

    def _on_connection(self, connection: socket.socket, whose: str) -> None:
        try:
            link = Link(connection, self._channel(None), self._poller, self, whose)
        except LinkError as error:
            connection.close()
            self._refusals.note(error.reason, str(error))
            return
        self._strangers[link] = None
        if len(self._strangers) > MAX_STRANGERS:
            oldest = next(iter(self._strangers))
            oldest.close()
            self.on_failed(oldest, LinkError(Refusal.CROWD, "had to make room for another one"))

    # --- what links report -----------------------------------------------------------------------
    def on_introduced(self, link: Link, peer: Introduced) -> None:
        """Implement `Owner`: a peer that introduces itself anew has lost its older link."""
        self._strangers.pop(link, None)
        if self._dialling.get(peer.node_id) is link:
            del self._dialling[peer.node_id]
        older = self._links.get(peer.node_id)
        if older is not None:
            older.close()
            self.on_failed(older, LinkError(Refusal.REPLACED, "made a new link"))
        self._links[peer.node_id] = link
        logger.info("linked to replica %s", peer.node_id)
        self._onNodeConnected(self._nodes[peer.node_id])

    def on_message(self, link: Link, message: dict[str, Any]) -> None:
        """Implement `Owner`."""
        assert link.peer is not None
        self._onMessageReceived(self._nodes[link.peer.node_id], message)

    def on_failed(self, link: Link, error: LinkError) -> None:
        """Implement `Owner`: forget the link, and tell if it was one to a peer."""
        self._strangers.pop(link, None)
        reason = error.reason
        for node_id, dialled in list(self._dialling.items()):
            if dialled is link:
                del self._dialling[node_id]
                if reason is None and link.connected:
                    reason = Refusal.TURNED_AWAY
        self._refusals.note(reason, f"dropped a link: {link.whose} {error}")
        if link.peer is not None and self._links.get(link.peer.node_id) is link:
            del self._links[link.peer.node_id]
            logger.info("lost the link to replica %s: %s", link.peer.node_id, error)
            self._onNodeDisconnected(self._nodes[link.peer.node_id])
