"""Bytes of records, commands and batches: msgpack arrays, thawed back into their types.

A record travels as the array of its fields, so adding a field needs a new `ENCODING`; batches say
theirs, and one that this build does not know stops the replica instead of being guessed at.

Builds of two encodings can run side by side: everything is written in the encoding that is the
cluster's version (`State.cluster_version`), which rises once every replica knows the next.
"""

from __future__ import annotations

import types
import typing
import zlib
from collections.abc import Callable
from functools import cache
from typing import Any, Final, TypeVar

import msgpack

from agentkeeper.core import commands as c
from agentkeeper.core import records as r

ENCODING: Final = 2
"""Newest encoding of batches and snapshots that this build writes; it reads all from 1 on.

2 adds to 1 the command RaiseVersion, and counters to a snapshot.
"""

T = TypeVar("T")


class UnknownEncodingError(Exception):
    """The bytes were written in an encoding this build does not know."""


def pack(value: object) -> bytes:
    """Msgpack bytes of `value`; records become arrays."""
    return typing.cast(bytes, msgpack.packb(value, use_bin_type=True))


def unpack(data: bytes) -> Any:
    """The plain value of `data`; arrays are tuples."""
    return msgpack.unpackb(data, use_list=False, strict_map_key=False)


@cache
def _thawer(kind: Any) -> Callable[[Any], Any] | None:
    """How to turn a plain value into `kind`; None where it already is one."""
    if isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields"):
        hints = typing.get_type_hints(kind)
        parts = [(i, thaw) for i, f in enumerate(kind._fields) if (thaw := _thawer(hints[f]))]
        if not parts:
            return lambda row: kind(*row)

        def thaw_record(row: Any) -> Any:
            fields = list(row)
            for i, thaw in parts:
                fields[i] = thaw(fields[i])
            return kind(*fields)

        return thaw_record
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple and len(args) == 2 and args[1] is Ellipsis:
        each = _thawer(args[0])
        return each and (lambda row: tuple([each(item) for item in row]))
    if origin in (types.UnionType, typing.Union) and type(None) in args:
        inner = _thawer(next(a for a in args if a is not type(None)))
        return inner and (lambda row: None if row is None else inner(row))
    return None


def thaw(kind: type[T], row: Any) -> T:
    """The record of type `kind` whose fields are `row`."""
    thawer = _thawer(typing.cast(typing.Hashable, kind))
    return typing.cast(T, thawer(row) if thawer else row)


COMMAND_CODES: Final[dict[int, type[Any]]] = {
    1: c.Register,
    2: c.Heartbeat,
    3: c.Deregister,
    4: c.AcquireLease,
    5: c.RenewLease,
    6: c.ReleaseLease,
    7: c.Campaign,
    8: c.Resign,
    9: c.SetPolicy,
    10: c.DeletePolicy,
    11: c.CreateTask,
    12: c.ClaimTask,
    13: c.CompleteTask,
    14: c.FailTask,
    15: c.ExtendTask,
    16: c.RequeueTask,
    17: c.OpenSession,
    18: c.CloseSession,
    19: c.Withdraw,
    20: c.Takeover,
    21: c.Announce,
    22: c.RaiseVersion,
}
RESULT_CODES: Final[dict[int, type[Any]]] = {
    1: r.Registered,
    2: r.Lease,
    3: r.Election,
    4: r.Policy,
    5: r.Task,
    6: r.Session,
    7: r.Refused,
    8: r.Acquired,
    9: r.Waiting,
    10: r.Done,
}
_COMMAND_CODE_OF: Final = {kind: code for code, kind in COMMAND_CODES.items()}
_RESULT_CODE_OF: Final = {kind: code for code, kind in RESULT_CODES.items()}


def command_row(command: c.Command) -> tuple[object, ...]:
    """`command` as an array whose body is led by its code."""
    code = _COMMAND_CODE_OF[type(command.body)]
    return (*command[:4], command.attempt, code, command.body)


def fingerprint(body: c.Body) -> int:
    """A checksum of what a request asks for; ids that are drawn anew at each attempt left out."""
    asked = body[1:] if isinstance(body, c.Register | c.CreateTask) else body
    return zlib.crc32(pack((_COMMAND_CODE_OF[type(body)], asked)))


def pack_commands(commands: list[c.Command], encoding: int) -> bytes:
    """Bytes of commands that are not yet stamped with a time, as replicas forward them."""
    return pack((encoding, [command_row(command) for command in commands]))


def unpack_commands(data: bytes) -> tuple[c.Command, ...]:
    """Inverse of `pack_commands`. Raises `UnknownEncodingError`."""
    encoding, *rest = unpack(data)
    check_encoding(encoding)
    (rows,) = rest
    return tuple([_command(row) for row in rows])


def pack_batch(batch: c.Batch, encoding: int) -> bytes:
    """Bytes of a log entry."""
    rows = [command_row(command) for command in batch.commands]
    return pack((encoding, batch.time_ms, batch.wall_ms, rows))


def unpack_batch(data: bytes) -> c.Batch:
    """Inverse of `pack_batch`. Raises `UnknownEncodingError`."""
    encoding, *rest = unpack(data)
    check_encoding(encoding)
    time_ms, wall_ms, rows = rest
    return c.Batch(time_ms, wall_ms, tuple([_command(row) for row in rows]))


def answer_row(answer: r.Answer) -> tuple[object, ...]:
    """An answer whose result is led by its code, as snapshots keep it."""
    return (_RESULT_CODE_OF[type(answer.result)], *answer)


def thaw_answer(row: Any) -> r.Answer:
    """Inverse of `answer_row`."""
    code, result, mark, attempt = row
    return r.Answer(thaw(RESULT_CODES[code], result), mark, attempt)


def _command(row: Any) -> c.Command:
    identity, session_id, number, seen, attempt, code, fields = row
    kind = COMMAND_CODES.get(code)
    if kind is None:
        raise UnknownEncodingError(f"command code {code} is not known to this build")
    return c.Command(identity, session_id, number, seen, thaw(kind, fields), attempt)


def check_encoding(encoding: object) -> None:
    """Raise `UnknownEncodingError` for one that this build can't read."""
    if not isinstance(encoding, int) or not 1 <= encoding <= ENCODING:
        raise UnknownEncodingError(
            f"encoding {encoding} is not known to this build, which reads up to {ENCODING}: "
            "run a build at least as new as the one that wrote it"
        )
