"""The socket on which a replica is dialled by others."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from pysyncobj.poller import POLL_EVENT_TYPE

from agentkeeper.consensus.internals import now_s
from agentkeeper.consensus.links.address import resolve, split_address
from agentkeeper.consensus.links.refusals import Refusal, Refusals
from agentkeeper.consensus.port import StartError

_PAUSE_S = 0.1
"""How long nothing is accepted after that failed; the system reports it again and again."""

_ACCEPTED_AT_ONCE = 4
"""Connections accepted before links get their turn."""

_BACKLOG = 128


class Listener:
    """Accepts connections on one address. Nothing but `close` ends it."""

    def __init__(
        self,
        address: str,
        poller: Any,
        refusals: Refusals,
        on_connection: Callable[[socket.socket, str], None],
    ) -> None:
        """Tell `on_connection` of every non-blocking connection and where it comes from."""
        self._address = address
        self._poller = poller
        self._refusals = refusals
        self._on_connection = on_connection
        self._socket: socket.socket | None = None
        self._paused_until_s: float | None = None

    @property
    def bound(self) -> bool:
        """Whether it listens."""
        return self._socket is not None

    def bind(self) -> None:
        """Begin to listen; raises `StartError`."""
        host, port = split_address(self._address)
        try:
            family, kind, protocol, _, address = resolve(host, port, socket.AI_PASSIVE)[0]
            made = socket.socket(family, kind, protocol)
        except (OSError, UnicodeError) as error:
            raise self._bind_error(f"the address cannot be used ({error})") from error
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.setblocking(False)
            made.bind(address)
            made.listen(_BACKLOG)
        except OSError as error:
            made.close()
            raise self._bind_error(str(error)) from error
        self._socket = made
        self._subscribe()

    def _bind_error(self, reason: str) -> StartError:
        return StartError(
            f"cannot listen for other replicas on {self._address}: {reason}; free the address, "
            "or set another one with the bind address or this replica's entry in the peers"
        )

    def _subscribe(self) -> None:
        assert self._socket is not None
        self._poller.subscribe(self._socket.fileno(), self._on_event, POLL_EVENT_TYPE.READ)

    def _on_event(self, _: int, events: int) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            if self._socket is None or self._paused_until_s is not None:
                return
            try:
                connection, address = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionError):
                return
            except OSError as error:
                self._refusals.note(
                    Refusal.NO_DESCRIPTOR, f"cannot accept connections of other replicas: {error}"
                )
                self._poller.unsubscribe(self._socket.fileno())
                self._paused_until_s = now_s() + _PAUSE_S
                return
            connection.setblocking(False)
            self._on_connection(connection, f"a connection from {address[0]}")

    def check(self) -> None:
        """Go on after a pause."""
        if self._paused_until_s is not None and now_s() >= self._paused_until_s:
            self._paused_until_s = None
            self._subscribe()

    def close(self) -> None:
        """Stop listening; harmless when repeated."""
        if self._socket is not None:
            self._poller.unsubscribe(self._socket.fileno())
            self._socket.close()
            self._socket = None
            self._paused_until_s = None
