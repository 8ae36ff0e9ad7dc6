"""What the daemon and its worker say to each other: four bytes of length, then a msgpack map.

The daemon asks, the worker answers every question once, by its number:

- `{"number", "load", "loader", "cache"}` comes first. Its answer is `{"number", "model_id",
  "dimension"}`, or `{"number", "failed"}` with the reason, after which the worker ends.
- `{"number", "text", "keep"}`: the answer is `{"number", "vector"}`, with the seconds that it took
  as `spent_s` if it had to be computed, or `{"number", "refused"}` with the reason. Unless `keep`
  is true, the vector is neither looked for in the cache nor put there.

An answer may carry `notes`, sentences for the log.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import msgpack

if TYPE_CHECKING:
    import asyncio

MAX_FRAME_BYTES: Final = 2 * 1024 * 1024
"""Largest frame taken."""

_LENGTH: Final = struct.Struct(">I")


class FrameError(Exception):
    """What came is no frame."""


def pack(message: dict[str, Any]) -> bytes:
    """Return the frame that holds a message."""
    body: bytes = msgpack.packb(message)
    return _LENGTH.pack(len(body)) + body


async def receive(stream: asyncio.StreamReader) -> dict[str, Any]:
    """Read the next message.

    Raises `FrameError` if something else comes, `asyncio.IncompleteReadError` at the end.
    """
    length = _length(await stream.readexactly(_LENGTH.size))
    return _unpack(await stream.readexactly(length))


def read(stream: BinaryIO) -> dict[str, Any] | None:
    """Read the next message, waiting for it; None at the end. Raises `FrameError`."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    length = _length(head)
    body = stream.read(length)
    return _unpack(body) if len(body) == length else None


def _length(head: bytes) -> int:
    (length,) = _LENGTH.unpack(head)
    if length > MAX_FRAME_BYTES:
        raise FrameError(f"a frame of {length} bytes")
    return int(length)


def _unpack(body: bytes) -> dict[str, Any]:
    try:
        message = msgpack.unpackb(body)
    except Exception as error:  # whatever the decoder raises for bytes that are no message
        raise FrameError(f"a malformed frame: {error!r:.80}") from error
    if not isinstance(message, dict):
        raise FrameError("a frame that holds no message")
    return message
