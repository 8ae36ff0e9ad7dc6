"""Mutual TLS 1.3 on a link: a replica is who its certificate names."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from agentkeeper.consensus.config import TlsFiles
from agentkeeper.consensus.links.channels import PlainChannel
from agentkeeper.consensus.links.frames import frame
from agentkeeper.consensus.links.introduction import Introduced, Party
from agentkeeper.consensus.links.refusals import LinkError, Refusal

_READ_BYTES = 64 * 1024


class TlsChannel:
    """Implements `Channel`: the introduction and all messages travel inside of TLS.

    The files are read anew for every channel; `LinkError` if that fails.
    """

    def __init__(self, party: Party, files: TlsFiles) -> None:
        self._party = party
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        dials = party.target is not None
        self._tls = _context(files, dials=dials).wrap_bio(
            self._incoming, self._outgoing, server_side=not dials
        )
        self._inner: PlainChannel | None = None
        if dials:
            self._shake_hands()

    def receive(self, data: bytes) -> Iterator[Introduced | bytes]:
        """Implement `Channel.receive`."""
        self._incoming.write(data)
        if self._inner is None:
            self._shake_hands()
        while self._inner is not None and (plain := self._read()):
            yield from self._inner.receive(plain)

    def take_outgoing(self) -> bytes:
        """Implement `Channel.take_outgoing`; also gives the alert that explains a failure."""
        if self._inner is not None and (plain := self._inner.take_outgoing()):
            self._write(plain)
        return self._outgoing.read()

    def seal(self, body: bytes) -> bytes:
        """Implement `Channel.seal`."""
        self._write(frame(body))
        return self._outgoing.read()

    def _shake_hands(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return
        except ssl.SSLError as error:
            raise LinkError(Refusal.TLS, f"failed the TLS handshake: {error}") from error
        shown: Any = self._tls.getpeercert() or {}
        certified = {name for kind, name in shown.get("subjectAltName", ()) if kind == "DNS"}
        self._inner = PlainChannel(replace(self._party, certified=certified))

    def _write(self, plain: bytes) -> None:
        try:
            self._tls.write(plain)
        except ssl.SSLError as error:
            raise LinkError(Refusal.TLS, f"cannot be written to: {error}") from error

    def _read(self) -> bytes:
        try:
            return self._tls.read(_READ_BYTES)
        except ssl.SSLWantReadError:
            return b""
        except ssl.SSLError as error:
            raise LinkError(Refusal.TLS, f"broke the TLS connection: {error}") from error


def _context(files: TlsFiles, *, dials: bool) -> ssl.SSLContext:
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT if dials else ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        # Names are checked against the introduction, at both ends alike.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        if not dials:
            context.num_tickets = 0  # no resumption: every connection shows its certificate
        context.load_verify_locations(files.authority)
        context.load_cert_chain(files.certificate, files.key, _no_password)
    except (OSError, ValueError) as error:
        raise LinkError(
            Refusal.TLS_FILES,
            f"cannot use the TLS files {files.certificate}, {files.key} and {files.authority}: "
            f"{error}; links are not made until this is mended",
        ) from error
    return context


def _no_password() -> str:
    # Without this the system's library would ask for it on the terminal, and wait.
    raise ValueError("the key is protected by a password, which is not supported")
