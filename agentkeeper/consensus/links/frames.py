"""Frames on the wire: four bytes of length, then a body; a message's body is a msgpack map."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable
from typing import Any

import msgpack

from agentkeeper.consensus import limits
from agentkeeper.consensus.links.refusals import LinkError, Refusal

MAX_INTRODUCTION_BYTES = 4096
"""Largest body taken from somebody who has not been introduced."""

MAX_MESSAGE_BYTES = limits.MAX_PAYLOAD_BYTES + limits.MAX_APPEND_BYTES + 256 * 1024
"""Largest message: an append may hold one entry of full size after many small ones."""

MAX_TEXT_CHARS = 256
"""Longest text in an introduction."""

MAX_LIST_ITEMS = 4096
"""Longest list in a message: the entries of one append."""

MAX_CONTAINERS = 2 * MAX_LIST_ITEMS
"""Lists and maps in one message: an append has one for every entry, and three more."""

_MAX_TEXT_BYTES = 4096
_MAX_MAP_ITEMS = 256

_LENGTH = struct.Struct(">I")


def frame(body: bytes) -> bytes:
    """Give the frame that holds `body`."""
    return _LENGTH.pack(len(body)) + body


class FrameReader:
    """Cuts a stream of bytes into frames."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        """Largest body taken; may be changed between two frames."""
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """Take in what has arrived; all frames in it should then be taken out."""
        self._buffer += data

    def next(self) -> bytes | None:
        """Give the next frame's body; None until it is complete.

        Raises `LinkError` as soon as a length is seen that is above `max_bytes`.
        """
        if len(self._buffer) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._buffer)
        if length > self.max_bytes:
            raise LinkError(Refusal.OVERSIZED, f"sent a frame of {length} bytes")
        end = _LENGTH.size + length
        if len(self._buffer) < end:
            return None
        with memoryview(self._buffer) as view:
            body = bytes(view[_LENGTH.size : end])
        del self._buffer[:end]
        return body


def encode(message: dict[str, Any]) -> bytes:
    """Give a message's body."""
    return bytes(msgpack.packb(message))


def decode(body: bytes) -> dict[str, Any]:
    """Give the message of an introduced peer in `body`; raises `LinkError` if there is none."""
    count = _bounded_count(MAX_CONTAINERS)
    return _decode(
        body,
        max_str_len=_MAX_TEXT_BYTES,
        max_bin_len=MAX_MESSAGE_BYTES,
        max_array_len=MAX_LIST_ITEMS,
        max_map_len=_MAX_MAP_ITEMS,
        list_hook=count,
        object_hook=count,
    )


def decode_introduction(body: bytes) -> dict[str, Any]:
    """Give what somebody unknown says in `body`; raises `LinkError` if it is no map.

    It holds no lists: the decoder makes room for all items of a list once it has read their
    number, so that a few bytes, nested, would take megabytes.
    """
    return _decode(
        body, max_str_len=MAX_TEXT_CHARS, max_bin_len=64, max_array_len=0, max_map_len=16
    )


def _bounded_count(most: int) -> Callable[[Any], Any]:
    """Give a hook that lets `most` containers pass; tiny ones take 60 times their bytes."""
    left = itertools.repeat(None, most)

    def count(container: Any) -> Any:
        next(left)
        return container

    return count


def _decode(body: bytes, **bounds: Any) -> dict[str, Any]:
    try:
        message = msgpack.unpackb(body, raw=False, max_ext_len=0, **bounds)
    except Exception as error:  # whatever the decoder raises for bytes that somebody else chose
        raise LinkError(Refusal.MALFORMED, f"sent a malformed frame: {error!r:.80}") from error
    if not isinstance(message, dict) or not all(isinstance(key, str) for key in message):
        raise LinkError(Refusal.MALFORMED, "sent a frame that holds no message")
    return message
