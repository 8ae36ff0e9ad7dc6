"""Channels: what travels on a connection, without the connection (sans I/O).

A channel takes the bytes that arrived and gives what they mean: first the peer, once it is known
who it is, then the bodies of its messages. It also gives the bytes to send. It never gives
anything of a peer that was not introduced; whatever is wrong ends it with a `LinkError`.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from agentkeeper.consensus.links.frames import (
    MAX_INTRODUCTION_BYTES,
    MAX_MESSAGE_BYTES,
    FrameReader,
    frame,
)
from agentkeeper.consensus.links.introduction import Introduced, Party, fresh_bytes
from agentkeeper.consensus.links.refusals import LinkError, Refusal

NEW_KEY_FRAMES = 2**20
"""Frames sealed with one key; the next key follows from it. Far below what AES-GCM bears."""

_TAG_BYTES = 16


class Channel(Protocol):
    """One end of a connection."""

    def receive(self, data: bytes) -> Iterator[Introduced | bytes]:
        """Take what has arrived; give the peer, once, and then the bodies of its messages.

        Raises `LinkError`; the channel must not be used any more then.
        """

    def take_outgoing(self) -> bytes:
        """Give what has to be sent for the introduction's sake, once."""

    def seal(self, body: bytes) -> bytes:
        """Give the bytes to send for a message; an empty one only shows that this end lives."""


class PlainChannel:
    """A channel without protection, for the loopback and inside of TLS."""

    def __init__(self, party: Party) -> None:
        self.party = party
        self._outgoing = bytearray()
        self._frames = FrameReader(MAX_INTRODUCTION_BYTES)
        self._introduced = False
        self._introduction = self._introduce()
        next(self._introduction)

    def receive(self, data: bytes) -> Iterator[Introduced | bytes]:
        """Implement `Channel.receive`."""
        self._frames.feed(data)
        while (body := self._frames.next()) is not None:
            if self._introduced:
                opened = self._open(body)
                if opened:
                    yield opened
                continue
            try:
                self._introduction.send(body)
            except StopIteration as over:
                self._introduced = True
                self._frames.max_bytes = MAX_MESSAGE_BYTES + _TAG_BYTES
                yield over.value

    def take_outgoing(self) -> bytes:
        """Implement `Channel.take_outgoing`."""
        taken = bytes(self._outgoing)
        self._outgoing.clear()
        return taken

    def seal(self, body: bytes) -> bytes:
        """Implement `Channel.seal`."""
        return frame(body)

    def _open(self, body: bytes) -> bytes:
        return body

    def _say(self, body: bytes) -> None:
        self._outgoing += frame(body)

    def _introduce(self) -> Generator[None, bytes, Introduced]:
        """Say what is to be said; sent what the other end says, in turn."""
        if self.party.target is not None:
            self._say(self.party.hello({}))
            peer, _ = self.party.check_answer((yield))
        else:
            peer, _ = self.party.check_hello((yield))
            self._say(self.party.answer({}))
        return peer


class SecretChannel(PlainChannel):
    """A channel between two who share a secret: sealed with keys that no other link has.

    Both ends add a nonce and an ephemeral X25519 key to their introduction. Keys come from the
    secret, the agreed X25519 value and all that was said (HKDF, RFC 5869), so whoever learns the
    secret later cannot open what was recorded. Then the dialer proves that it has the keys, and
    after that the other end does: a stranger who dials gets nothing to guess the secret by. Every
    later frame is sealed with AES-256-GCM, with a key per direction and its number as the nonce,
    so it opens only where it belongs.
    """

    def __init__(self, party: Party, secret: str) -> None:
        self._secret = secret.encode()
        self._sealing: _SealingKey
        self._opening: _SealingKey
        super().__init__(party)

    def seal(self, body: bytes) -> bytes:
        """Implement `Channel.seal`."""
        return frame(self._sealing.seal(body))

    def _open(self, body: bytes) -> bytes:
        return self._opening.open(body)

    def _introduce(self) -> Generator[None, bytes, Introduced]:
        if self.party.target is not None:
            private, fresh = _draw()
            hello = self.party.hello(fresh)
            self._say(hello)
            answer = yield
            peer, said = self.party.check_answer(answer)
            keys = _derive(self._secret, private, fresh_bytes(said, "key"), hello, answer)
            fresh_bytes(said, "nonce")
            self._say(keys.dialer_proof)
            _check_proof(peer, (yield), keys.acceptor_proof)
            self._sealing, self._opening = keys.from_dialer, keys.from_acceptor
        else:
            hello = yield
            peer, said = self.party.check_hello(hello)
            fresh_bytes(said, "nonce")
            private, fresh = _draw()
            answer = self.party.answer(fresh)
            keys = _derive(self._secret, private, fresh_bytes(said, "key"), hello, answer)
            self._say(answer)
            _check_proof(peer, (yield), keys.dialer_proof)
            self._say(keys.acceptor_proof)
            self._sealing, self._opening = keys.from_acceptor, keys.from_dialer
        return peer


class _SealingKey:
    """Seals, or opens, the frames of one direction, in order."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._cipher = AESGCM(key)
        self._count = 0

    def seal(self, body: bytes) -> bytes:
        return self._cipher.encrypt(self._next_nonce(), body, None)

    def open(self, body: bytes) -> bytes:
        try:
            return self._cipher.decrypt(self._next_nonce(), body, None)
        except InvalidTag:
            raise LinkError(
                Refusal.FORGED, "sent a frame that was not sealed for this place"
            ) from None

    def _next_nonce(self) -> bytes:
        if self._count and self._count % NEW_KEY_FRAMES == 0:
            self._key = _hkdf(self._key, 32, None, b"agentkeeper link, next key")
            self._cipher = AESGCM(self._key)
        self._count += 1
        return self._count.to_bytes(12, "big")


@dataclass(frozen=True, slots=True)
class _Keys:
    dialer_proof: bytes
    acceptor_proof: bytes
    from_dialer: _SealingKey
    from_acceptor: _SealingKey


def _draw() -> tuple[X25519PrivateKey, dict[str, bytes]]:
    """Draw what one end adds to its introduction."""
    private = X25519PrivateKey.generate()
    return private, {"nonce": os.urandom(32), "key": private.public_key().public_bytes_raw()}


def _derive(
    secret: bytes, private: X25519PrivateKey, their_key: bytes, hello: bytes, answer: bytes
) -> _Keys:
    """Derive the keys from what both ends know after hello and answer, nonces included."""
    try:
        agreed = private.exchange(X25519PublicKey.from_public_bytes(their_key))
    except ValueError as error:  # a point that would make the result known to everyone
        raise LinkError(Refusal.FORGED, "gave a key that cannot be used") from error
    transcript = hashlib.sha256(frame(hello) + frame(answer)).digest()
    # The agreed value has a fixed length, so no two secrets give the same input.
    keys = _hkdf(agreed + secret, 4 * 32, transcript, b"agentkeeper link 1")
    first, second, third, fourth = (keys[at : at + 32] for at in range(0, len(keys), 32))
    return _Keys(
        hmac.digest(first, transcript, "sha256"),
        hmac.digest(second, transcript, "sha256"),
        _SealingKey(third),
        _SealingKey(fourth),
    )


def _hkdf(material: bytes, length: int, salt: bytes | None, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=length, salt=salt, info=info).derive(material)


def _check_proof(peer: Introduced, given: bytes, expected: bytes) -> None:
    if not hmac.compare_digest(given, expected):
        raise LinkError(
            Refusal.FORGED, f"says it is {peer.node_id}, but does not have the same secret"
        )
