"""Requests from bytes; what can't be read is refused with the field at fault.

Protobuf's parser says no more than "can't parse" to a string that is not UTF-8. To name the field,
the bytes are then read once more as a twin of the message whose strings are plain bytes.
"""

from __future__ import annotations

from functools import cache
from itertools import islice
from typing import Any, TypeVar

from google.protobuf import (
    any_pb2,
    descriptor_pb2,
    descriptor_pool,
    message_factory,
    timestamp_pb2,
)
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from agentkeeper._pb import agentkeeper_pb2
from agentkeeper.server.errors import CallError, bad_field

PLAIN_BYTES = 1_024
"""A request as small as this is kept as it came."""
LOOKED_AT = 1_000
"""Entries of a list that are searched for the one at fault."""

# Of protobuf's encoding: kinds of fields, and how long a number may be.
_VARINT, _BYTES, _FIXED = 0, 2, {1: 8, 5: 4}
_VARINT_BYTES = 10

M = TypeVar("M", bound=Message)

_FieldProto = descriptor_pb2.FieldDescriptorProto


def decode(kind: type[M], data: bytes) -> M:
    """The request in `data`. Raises `CallError` naming the field that can't be read.

    Keeps nothing of `data` but what the request says: a call that waits may hold it for long.
    """
    try:
        message = kind.FromString(data)
    except DecodeError:
        raise _explain(kind, data) from None
    if len(data) > PLAIN_BYTES:
        message.DiscardUnknownFields()
        if message.ByteSize() < len(data):
            # What is discarded or overwritten is freed with the message only.
            message = kind.FromString(message.SerializeToString())
    return message


def has_more_fields(data: bytes, bound: int) -> bool:
    """Whether a message has more than `bound` fields, those of messages in it not counted.

    Looks at no more than it must, so it costs little where parsing would cost much. What this API
    does not use (groups), nor any encoder of it writes, counts as more.
    """
    position, count = 0, 0
    while position < len(data) and count <= bound:
        tag, position = _varint(data, position)
        kind = tag & 7
        if kind == _VARINT:
            position = _varint(data, position)[1]
        elif kind == _BYTES:
            length, position = _varint(data, position)
            position += length
        elif kind in _FIXED:
            position += _FIXED[kind]
        else:
            return True
        count += 1
    return count > bound


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """The number that begins at `position`, and where it ends."""
    value = shift = 0
    for byte in data[position : position + _VARINT_BYTES]:
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
    return value, position


def _explain(kind: type[Message], data: bytes) -> CallError:
    try:
        twin = _twin(kind.DESCRIPTOR.full_name).FromString(data)
    except DecodeError:
        return bad_field("request", f"not a {kind.DESCRIPTOR.name}")
    field = _not_utf8(twin, "")
    return bad_field(field or "request", "not valid UTF-8")


@cache
def _twin(full_name: str) -> type[Message]:
    return message_factory.GetMessageClass(_twin_pool().FindMessageTypeByName(full_name))


@cache
def _twin_pool() -> descriptor_pool.DescriptorPool:
    """The API's messages with bytes in place of strings."""
    pool = descriptor_pool.DescriptorPool()
    for module in (any_pb2, timestamp_pb2, agentkeeper_pb2):
        file = descriptor_pb2.FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(file)
        for message in file.message_type:
            _strings_to_bytes(message)
        pool.Add(file)
    return pool


def _strings_to_bytes(message: descriptor_pb2.DescriptorProto) -> None:
    for field in message.field:
        if field.type == _FieldProto.TYPE_STRING:
            field.type = _FieldProto.TYPE_BYTES
    for nested in message.nested_type:
        if nested.options.map_entry:
            # A map's keys can't be bytes; as plain entries they can, and read the same.
            nested.options.map_entry = False
        _strings_to_bytes(nested)


def _not_utf8(message: Any, path: str) -> str:
    """Path of the first field that is not UTF-8; empty if there is none."""
    original = _original(message.DESCRIPTOR.full_name)
    for field, value in message.ListFields():
        was_string = original.fields_by_name[field.name].type == FieldDescriptor.TYPE_STRING
        values = islice(value, LOOKED_AT) if field.is_repeated else [value]
        for i, item in enumerate(values):
            at = f"{path}{field.name}" + (f"[{i}]" if field.is_repeated else "")
            if isinstance(item, Message):
                inner = _not_utf8(item, f"{at}.")
                if inner:
                    return inner
            elif was_string and not _is_utf8(item):
                return at
    return ""


def _original(full_name: str) -> Any:
    return agentkeeper_pb2.DESCRIPTOR.pool.FindMessageTypeByName(full_name)


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
