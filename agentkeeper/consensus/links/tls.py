"""Mutual TLS 1.3 on a link: a replica is who its certificate names."""

from __future__ import annotations

import math
import ssl
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from agentkeeper.consensus.config import TlsFiles
from agentkeeper.consensus.internals import now_s
from agentkeeper.consensus.links.channels import PlainChannel
from agentkeeper.consensus.links.frames import frame
from agentkeeper.consensus.links.introduction import Introduced, Party
from agentkeeper.consensus.links.refusals import LinkError, Refusal

RETRY_S = 1.0
"""How long files that could not be used are left alone: reading them takes milliseconds."""

_READ_BYTES = 64 * 1024

_Stamp = list[tuple[int, int, int, int]]


class TlsContexts:
    """What is in the TLS files, made ready for use; made anew once the files have changed."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._made: dict[bool, tuple[_Stamp, ssl.SSLContext]] = {}
        """By whether it is for dialling."""
        self._failure = ""
        self._failed_s = -math.inf

    def context(self, *, dials: bool) -> ssl.SSLContext:
        """Give the context for one direction; raises `LinkError` if the files cannot be used."""
        if now_s() - self._failed_s >= RETRY_S:
            try:
                return self._context(dials)
            except (OSError, ValueError) as error:
                files = self._files
                self._failure = (
                    f"cannot use the TLS files {files.certificate}, {files.key} and "
                    f"{files.authority}: {error}; links are not made until this is mended"
                )
                self._failed_s = now_s()
        raise LinkError(Refusal.TLS_FILES, self._failure)

    def _context(self, dials: bool) -> ssl.SSLContext:
        stamp = self._stamp()  # before they are read: what changes meanwhile is noticed next time
        former, context = self._made.get(dials, (None, None))
        if context is None or former != stamp:
            context = _make(self._files, dials)
            self._made[dials] = stamp, context
        return context

    def _stamp(self) -> _Stamp:
        files = (self._files.certificate, self._files.key, self._files.authority)
        stats = [path.stat() for path in files]
        return [(one.st_ino, one.st_size, one.st_mtime_ns, one.st_ctime_ns) for one in stats]


class TlsChannel:
    """Implements `Channel`: the introduction and all messages travel inside of TLS."""

    def __init__(self, party: Party, contexts: TlsContexts) -> None:
        """Raise `LinkError` if the files cannot be used."""
        self._party = party
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        dials = party.target is not None
        self._tls = contexts.context(dials=dials).wrap_bio(
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


def _make(files: TlsFiles, dials: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT if dials else ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # Names are checked against the introduction, at both ends alike.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    if not dials:
        context.num_tickets = 0  # no resumption: every connection shows its certificate
    context.load_verify_locations(files.authority)
    context.load_cert_chain(files.certificate, files.key, _no_password)
    return context


def _no_password() -> str:
    # Without this the system's library would ask for it on the terminal, and wait.
    raise ValueError("the key is protected by a password, which is not supported")
