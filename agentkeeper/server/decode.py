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

LOOKED_AT = 1_000
"""Entries of a list that are searched for the one at fault."""

M = TypeVar("M", bound=Message)

_FieldProto = descriptor_pb2.FieldDescriptorProto


def decode(kind: type[M], data: bytes) -> M:
    """The request in `data`. Raises `CallError` naming the field that can't be read."""
    try:
        return kind.FromString(data)
    except DecodeError:
        raise _explain(kind, data) from None


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
