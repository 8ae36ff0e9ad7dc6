"""Requests from query strings, and answers as plain JSON, in the words of the proto file.

Fields keep their names, values of enums lose their prefix ("ALIVE"), times are ISO 8601 in UTC,
tokens are numbers, and every field is there, also one that has its default.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from multidict import MultiMapping

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.server.errors import bad_field

Descriptor: TypeAlias = Any  # which class it is depends on how protobuf was built
Json: TypeAlias = dict[str, Any]
M = TypeVar("M", bound=Message)

BLOB_CHARS: Final = 4_096
"""Of a task's input or output, what is shown."""
DIGITS: Final = 20


def request_from(query: MultiMapping[str], kind: type[M]) -> M:
    """The request that a query string asks for, parameters named as the fields.

    A list takes its parameter several times. Raises `CallError` naming a parameter that is unknown
    or can't be read.
    """
    request = kind()
    fields = kind.DESCRIPTOR.fields_by_name
    for name in query:
        field = fields.get(name)
        if field is None:
            raise bad_field(name[:80], "there is no such parameter")
        values = [_read(field, text) for text in query.getall(name)]
        if field.is_repeated:
            del getattr(request, name)[:]
            getattr(request, name).extend(values)
        else:
            setattr(request, name, values[-1])
    return request


def plain(message: Message) -> Json:
    """A message as JSON has it."""
    return {field.name: plain_field(message, field) for field in message.DESCRIPTOR.fields}


def _read(field: Descriptor, text: str) -> Any:
    if field.enum_type is not None:
        value = field.enum_type.values_by_name.get(_prefix(field.enum_type) + text)
        if value is None:
            raise bad_field(field.name, f"unknown value {text[:80]!r}")
        return value.number
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise bad_field(field.name, "not valid UTF-8") from None
        return text
    if not (text.isascii() and text.isdigit() and len(text) <= DIGITS):
        raise bad_field(field.name, "must be a whole number")
    return _within(field, int(text))


def _within(field: Descriptor, number: int) -> int:
    bits = 32 if field.cpp_type == FieldDescriptor.CPPTYPE_UINT32 else 64
    if number >= 1 << bits:
        raise bad_field(field.name, f"must be below 2^{bits}")
    return number


def plain_field(message: Message, field: Descriptor) -> Any:
    """One field of a message as JSON has it."""
    value = getattr(message, field.name)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return dict(value)
    if field.is_repeated:
        return [_value(field, item) for item in value]
    if field.has_presence and not message.HasField(field.name):
        return None
    return _value(field, value)


def _value(field: Descriptor, value: Any) -> Any:
    if isinstance(value, Timestamp):
        return value.ToJsonString()
    if isinstance(value, pb.FencingToken):
        return value.value
    if isinstance(value, Message):
        return plain(value)
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return "UNKNOWN" if known is None else known.name.removeprefix(_prefix(field.enum_type))
    if isinstance(value, bytes):
        return {
            "size_bytes": len(value),
            "text": value[: 4 * BLOB_CHARS].decode(errors="replace")[:BLOB_CHARS],
        }
    return value


def _prefix(kind: Descriptor) -> str:
    """What the names of an enum's values begin with: its own, in capitals."""
    words = "".join(f"_{letter}" if letter.isupper() else letter for letter in kind.name)
    return words.strip("_").upper() + "_"
