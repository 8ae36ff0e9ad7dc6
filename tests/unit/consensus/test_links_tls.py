"""Channels with TLS: who gets through with which certificate, and when files are read."""

from __future__ import annotations

import contextlib
import dataclasses
import ssl
from collections.abc import Callable
from pathlib import Path

import link_world
import pytest
from certificates import Authority
from link_world import Clock, channel, introduce, party

from agentkeeper.consensus.config import TlsFiles
from agentkeeper.consensus.links import tls
from agentkeeper.consensus.links.refusals import LinkError, Refusal
from agentkeeper.consensus.links.tls import TlsChannel, TlsContexts

clock = link_world.clock


def refusal(act: Callable[[], object]) -> Refusal | None:
    with pytest.raises(LinkError) as refused:
        act()
    return refused.value.reason


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def tls_refusal(dialer: TlsFiles, acceptor: TlsFiles, target: str = "a") -> Refusal | None:
    made = channel(dialer, party("b", target)), channel(acceptor, party("a"))
    return refusal(lambda: introduce(*made))


def test_a_certificate_of_another_authority_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    ours, other = Authority(tmp_path), Authority(tmp_path / "other")
    good, bad = ours.issue("a"), other.issue("b")
    assert tls_refusal(bad, good) is Refusal.TLS
    trusting = dataclasses.replace(bad, authority=good.authority)
    assert tls_refusal(trusting, good) is Refusal.TLS
    assert tls_refusal(ours.issue("b"), other.issue("a")) is Refusal.TLS


def test_an_expired_certificate_is_refused_at_either_end(authority: Authority) -> None:
    expired = authority.issue("b", expired=True)
    assert tls_refusal(expired, authority.issue("a")) is Refusal.TLS
    expired = authority.issue("a", expired=True)
    assert tls_refusal(authority.issue("b"), expired) is Refusal.TLS


def test_a_certificate_must_name_the_one_who_shows_it(authority: Authority) -> None:
    for wrong in ("c", "*", "B", "b.example"):
        named = authority.issue(wrong, stem="wrong")
        assert tls_refusal(named, authority.issue("a")) is Refusal.WRONG_NAME
    assert tls_refusal(authority.issue("b"), authority.issue("c")) is Refusal.WRONG_NAME
    several = authority.issue("host.example", "b", stem="several")
    introduce(channel(several, party("b", "a")), channel(authority.issue("a"), party("a")))


def test_one_without_certificate_is_refused(authority: Authority) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context(cafile=authority.file)
    context.check_hostname = False
    stranger = context.wrap_bio(incoming, outgoing)
    acceptor = channel(authority.issue("a"), party("a"))

    def talk() -> None:
        for _ in range(3):
            with contextlib.suppress(ssl.SSLWantReadError):
                stranger.do_handshake()
            assert list(acceptor.receive(outgoing.read())) == []
            incoming.write(acceptor.take_outgoing())

    assert refusal(talk) is Refusal.TLS


def test_an_older_tls_is_refused(authority: Authority) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context(cafile=authority.file)
    context.check_hostname = False
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    files = authority.issue("b")
    context.load_cert_chain(files.certificate, files.key)
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing).do_handshake()
    acceptor = channel(authority.issue("a"), party("a"))
    assert refusal(lambda: list(acceptor.receive(outgoing.read()))) is Refusal.TLS
    assert acceptor.take_outgoing(), "an alert tells what is wrong"


def test_tampered_tls_is_refused(authority: Authority) -> None:
    dialer, acceptor = (
        channel(authority.issue("b"), party("b", "a")),
        channel(authority.issue("a"), party("a")),
    )
    introduce(dialer, acceptor)
    sealed = bytearray(dialer.seal(b"hello"))
    sealed[-1] ^= 1
    assert refusal(lambda: list(acceptor.receive(bytes(sealed)))) is Refusal.TLS


def test_files_that_cannot_be_used_are_told(authority: Authority) -> None:
    good = authority.issue("b")
    missing = dataclasses.replace(good, key=authority.folder / "none.key")
    mixed = dataclasses.replace(good, key=authority.issue("a").key)
    for files in (missing, mixed):
        assert refusal(lambda f=files: channel(f, party("b", "a"))) is Refusal.TLS_FILES


class Contexts:
    """Counts how often TLS contexts are made of the files."""

    def __init__(self, files: TlsFiles, monkeypatch: pytest.MonkeyPatch) -> None:
        self.contexts, self.made = TlsContexts(files), 0
        make = tls._make

        def counted(files: TlsFiles, dials: bool) -> ssl.SSLContext:
            self.made += 1
            return make(files, dials)

        monkeypatch.setattr(tls, "_make", counted)

    def link(self, target: str | None = None) -> TlsChannel:
        return TlsChannel(party("b", target), self.contexts)


def test_files_are_read_again_only_when_they_have_changed(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = authority.issue("b")
    contexts = Contexts(files, monkeypatch)
    for _ in range(50):
        contexts.link()
    assert contexts.made == 1
    for _ in range(50):
        contexts.link("a")
    assert contexts.made == 2, "one for each direction"
    for path in (files.certificate, files.key, files.authority):
        before, content = contexts.made, path.read_bytes()
        path.write_bytes(content + b"\n")
        contexts.link("a")
        assert contexts.made == before + 1
        path.unlink()
        path.write_bytes(content)
        contexts.link("a")
        assert contexts.made == before + 2


def test_files_that_cannot_be_used_are_not_read_all_the_time(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    files = authority.issue("b")
    good = files.key.read_bytes()
    files.key.write_bytes(authority.issue("a").key.read_bytes())
    contexts = Contexts(files, monkeypatch)
    for _ in range(50):
        assert refusal(contexts.link) is Refusal.TLS_FILES
    assert contexts.made == 1
    files.key.write_bytes(good)
    clock.now += tls.RETRY_S
    contexts.link()
    assert contexts.made == 2


def test_a_key_with_a_password_is_told_instead_of_asked_for(authority: Authority) -> None:
    from cryptography.hazmat.primitives import serialization

    good = authority.issue("b")
    key = serialization.load_pem_private_key(good.key.read_bytes(), None)
    good.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(LinkError, match="protected by a password"):
        channel(good, party("b", "a"))
