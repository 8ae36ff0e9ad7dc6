"""A link: a socket, the channel on it, and what could not be sent yet."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from typing import Any, Protocol

from pysyncobj.poller import POLL_EVENT_TYPE

from agentkeeper.consensus.internals import now_s
from agentkeeper.consensus.links.channels import Channel
from agentkeeper.consensus.links.frames import MAX_INTRODUCTION_BYTES, decode
from agentkeeper.consensus.links.introduction import Introduced
from agentkeeper.consensus.links.refusals import LinkError, Refusal

CONNECT_TIMEOUT_S = 1.0
"""How long a connection may take to be made and introduced before it is given up."""

READ_BYTES = 64 * 1024
"""Most that is read, and thus handled, before other links get their turn. What is left stays with
the system, which reports it again at the next poll."""

_SEND_BUFFER_BYTES = 2**20
"""What the system may hold of what was sent; later messages wait behind it unseen."""

_KEEP_ALIVES = 4
"""An idle link says something this often in the time after which silence ends it."""

_READ, _WRITE, _ERROR = POLL_EVENT_TYPE.READ, POLL_EVENT_TYPE.WRITE, POLL_EVENT_TYPE.ERROR


class Owner(Protocol):
    """Who is told of a link's life: nothing is called from within `Link.send`."""

    def on_introduced(self, link: Link, peer: Introduced) -> None:
        """Note that the other end is `peer`."""

    def on_message(self, link: Link, message: dict[str, Any]) -> None:
        """Take a message of the peer that was introduced."""

    def on_failed(self, link: Link, error: LinkError) -> None:
        """Note that the link has ended, and is closed."""


class Link:
    """One connection, made or being made. Used on the engine's thread only, but for the size."""

    def __init__(
        self, connection: socket.socket, channel: Channel, poller: Any, owner: Owner, whose: str
    ) -> None:
        """Take over a non-blocking `connection`, which may still be on its way.

        `whose` names the other end in messages until it is introduced.
        """
        self._socket = connection
        self._channel = channel
        self._poller = poller
        self._owner = owner
        self.whose = whose
        self.peer: Introduced | None = None
        self.closed = False
        self.connected = False
        """Whether the connection has been made, though perhaps not introduced."""
        self._broken: Exception | None = None
        self._unsent = bytearray()
        self._began_s = self._heard_s = self._said_s = self._progress_s = now_s()
        with contextlib.suppress(OSError):  # it ended already, which the first event tells
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        self._fd = connection.fileno()
        self._subscribe(_WRITE)

    @property
    def unsent_bytes(self) -> int:
        """Bytes that the system has not taken yet. May be called from any thread."""
        return len(self._unsent)

    def send(self, body: bytes) -> bool:
        """Send a message, or begin to; False if the link is broken, which ends it soon."""
        try:
            self._write(self._channel.seal(body))
        except LinkError as error:
            self._broken = error
        return self._broken is None

    def check(self, silence_s: float) -> None:
        """Do what time asks for: give the link up, or show that this end lives."""
        if self.closed:
            return
        try:
            self._check(now_s(), silence_s)
        except LinkError as error:
            self._fail(error)

    def rejuvenate(self, span_s: float) -> None:
        """Do not count a span of time in which this process did not run."""
        now = now_s()
        self._began_s = min(now, self._began_s + span_s)
        self._heard_s = min(now, self._heard_s + span_s)
        self._progress_s = min(now, self._progress_s + span_s)

    def close(self) -> None:
        """Close the connection, silently; what was not sent or handled is lost."""
        if not self.closed:
            self.closed = True
            self._poller.unsubscribe(self._fd)
            self._socket.close()
            self._unsent.clear()

    # --- events ----------------------------------------------------------------------------------
    def _on_event(self, _: int, events: int) -> None:
        if self.closed:  # earlier in the same poll
            return
        try:
            if not self.connected:
                self._connect(events)
            if self.connected and events & _WRITE:
                self._flush()
            if self.connected and events & (_READ | _ERROR):
                self._read()
        except LinkError as error:
            self._fail(error)

    def _connect(self, events: int) -> None:
        error = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise LinkError(None, os.strerror(error))
        if events & _WRITE:
            self.connected = True
            self._subscribe(0)
            self._write(self._channel.take_outgoing())

    def _read(self) -> None:
        try:
            data = self._socket.recv(READ_BYTES if self.peer else MAX_INTRODUCTION_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            raise LinkError(None, str(error)) from error
        if not data:
            raise LinkError(None, "closed the connection")
        self._heard_s = now_s()
        for event in self._channel.receive(data):
            self._write(self._channel.take_outgoing())
            if isinstance(event, Introduced):
                self.peer = event
                self.whose = f"replica {event.node_id}"
                self._owner.on_introduced(self, event)
            else:
                self._owner.on_message(self, decode(event))
            if self.closed:
                return
        self._write(self._channel.take_outgoing())

    def _check(self, now: float, silence_s: float) -> None:
        if self._broken is not None:
            raise LinkError(None, str(self._broken))
        if self.peer is None:
            if now - self._began_s > CONNECT_TIMEOUT_S:
                reason = Refusal.LATE if self.connected else None
                raise LinkError(reason, f"was not introduced within {CONNECT_TIMEOUT_S:g} s")
            return
        if now - self._heard_s > silence_s:
            raise LinkError(Refusal.SILENT, f"sent nothing for {silence_s:g} s")
        if self._unsent and now - self._progress_s > silence_s:
            self._flush()  # the system may have some room, but report it only when it has much
            if self._progress_s < now:
                raise LinkError(Refusal.STUCK, f"read nothing for {silence_s:g} s")
        if not self._unsent and now - self._said_s > silence_s / _KEEP_ALIVES:
            self._write(self._channel.seal(b""))

    def _fail(self, error: LinkError) -> None:
        if error.reason is not None and self.connected and not self._unsent:
            # A last word, if the channel has one: a TLS alert tells the other end what is wrong.
            with contextlib.suppress(LinkError, OSError):
                self._socket.send(self._channel.take_outgoing())
        self.close()
        self._owner.on_failed(self, error)

    # --- sending ---------------------------------------------------------------------------------
    def _write(self, data: bytes) -> None:
        if not data or self._broken is not None:
            return
        self._said_s = now_s()
        if self._unsent:
            self._unsent += data
            return
        sent = self._try_send(data)
        if sent < len(data):
            self._unsent += memoryview(data)[sent:]
            self._progress_s = self._said_s
            self._subscribe(_WRITE)

    def _flush(self) -> None:
        with memoryview(self._unsent) as view:
            sent = self._try_send(view)
        if sent:
            del self._unsent[:sent]
            self._progress_s = now_s()
        if not self._unsent:
            self._subscribe(0)

    def _try_send(self, data: bytes | memoryview) -> int:
        try:
            return self._socket.send(data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            # Told to the owner by the next check: whoever sends must not be interrupted by that.
            self._broken = error
            return 0

    def _subscribe(self, write: int) -> None:
        self._poller.subscribe(self._fd, self._on_event, _READ | _ERROR | write)


def connect(ip: str, port: int) -> socket.socket:
    """Begin to connect, without waiting; raises `OSError` if the address cannot be used."""
    flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    family, kind, protocol, _, address = socket.getaddrinfo(
        ip, port, type=socket.SOCK_STREAM, flags=flags
    )[0]
    made = socket.socket(family, kind, protocol)
    made.setblocking(False)
    error = made.connect_ex(address)
    if error not in (0, errno.EINPROGRESS):
        made.close()
        raise OSError(error, os.strerror(error))
    return made
