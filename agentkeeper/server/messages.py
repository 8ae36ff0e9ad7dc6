"""What replicas say to each other beside Raft, over the same authenticated links.

A follower forwards commands to the leader and asks it for read indexes, or to hand leadership on;
each request carries a number that its answer repeats. All tell each other the digests of their
states, and how they are.

What an encoding adds is said only to replicas that have announced it: older builds would log a
message that they don't know.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgpack


class Forward(NamedTuple):
    """Commands for the leader's next batches (`codec.pack_commands`)."""

    number: int
    commands: bytes


class Forwarded(NamedTuple):
    """The leader puts that batch into its log.

    Or it has not, and won't: it does not lead, or, found out after it had said otherwise, it could
    not (it is handing over, its disk is full).
    """

    number: int
    taken: bool


class AskIndex(NamedTuple):
    """Which index must be applied for a linearizable read as of now?"""

    number: int


class TellIndex(NamedTuple):
    """That index; None if the asked replica could not confirm that it leads."""

    number: int
    read_index: int | None


class Digest(NamedTuple):
    """The hex digest of the sender's state as of the entry at a log index."""

    log_index: int
    digest: str
    answers: bool
    """Whether it answers one that differs; if so, it is not answered itself."""


VITALS_SINCE: Final = 2
"""The encoding since which there are this message and those below."""


class Vitals(NamedTuple):
    """How the sender is."""

    role: str
    term: int
    commit_index: int
    applied_index: int
    not_ready_reason: str
    build: str


class AskTransfer(NamedTuple):
    """Hand leadership to this replica (empty: to any)."""

    number: int
    to: str


class TellTransfer(NamedTuple):
    """How that ended: the value of a `consensus.port.Transfer`."""

    number: int
    transfer: str


Message = Forward | Forwarded | AskIndex | TellIndex | Digest | Vitals | AskTransfer | TellTransfer
_KINDS: tuple[type[Any], ...] = (
    Forward,
    Forwarded,
    AskIndex,
    TellIndex,
    Digest,
    Vitals,
    AskTransfer,
    TellTransfer,
)
_FIELDS: tuple[tuple[type[Any] | tuple[type[Any], ...], ...], ...] = (
    (int, bytes),
    (int, bool),
    (int,),
    (int, (int, type(None))),
    (int, str, bool),
    (str, int, int, int, str, str),
    (int, str),
    (int, str),
)


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
    except Exception as error:  # whatever the bytes are
        raise MalformedMessageError(str(error)) from error
    if type(kind) is not int or not 0 <= kind < len(_KINDS):
        raise MalformedMessageError("of no known kind")
    types = _FIELDS[kind]
    if len(fields) != len(types) or not all(map(isinstance, fields, types)):
        raise MalformedMessageError(f"not the fields of a {_KINDS[kind].__name__}")
    message: Message = _KINDS[kind](*fields)
    return message
