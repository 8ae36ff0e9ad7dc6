"""What replicas say to each other beside Raft, over the same authenticated links.

A follower forwards commands to the leader and asks it for read indexes; each request carries a
number that its answer repeats.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgpack


class Forward(NamedTuple):
    """Commands for the leader's next batches (`codec.pack_commands`)."""

    number: int
    commands: bytes


class Forwarded(NamedTuple):
    """The leader has put that batch into its log (or, not leading, dropped it)."""

    number: int
    taken: bool


class AskIndex(NamedTuple):
    """Which index must be applied for a linearizable read as of now?"""

    number: int


class TellIndex(NamedTuple):
    """That index; None if the asked replica could not confirm that it leads."""

    number: int
    read_index: int | None


Message = Forward | Forwarded | AskIndex | TellIndex
_KINDS: tuple[type[Any], ...] = (Forward, Forwarded, AskIndex, TellIndex)


class MalformedMessageError(Exception):
    """The bytes are no message of this build's."""


def pack_message(message: Message) -> bytes:
    """Bytes of a message."""
    packed: bytes = msgpack.packb((_KINDS.index(type(message)), *message), use_bin_type=True)
    return packed


def unpack_message(data: bytes) -> Message:
    """Inverse of `pack_message`. Raises `MalformedMessageError`."""
    try:
        kind, *fields = msgpack.unpackb(data, use_list=False)
        message: Message = _KINDS[kind](*fields)
    except (ValueError, TypeError, IndexError, msgpack.UnpackException) as error:
        raise MalformedMessageError(str(error)) from error
    if not isinstance(message.number, int):
        raise MalformedMessageError("number is not a number")
    return message
