"""Checks of request fields against `limits`; each failure names its field."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

from agentkeeper.core import limits
from agentkeeper.server.errors import bad_field

_LAYOUT = frozenset("\t\n\r")


def line(value: str, field: str, max_bytes: int, *, empty: bool = False) -> str:
    """A name or id: one line without control characters, not empty unless allowed."""
    return _text(value, field, max_bytes, empty, frozenset())


def prose(value: str, field: str, max_bytes: int) -> str:
    """A text for people: may be empty, may have tabs and line breaks."""
    return _text(value, field, max_bytes, True, _LAYOUT)


def _text(value: str, field: str, max_bytes: int, empty: bool, allowed: frozenset[str]) -> str:
    if not value and not empty:
        raise bad_field(field, "must not be empty")
    # A character has at most four bytes, so most texts need not be encoded to be measured.
    if len(value) * 4 > max_bytes and len(value.encode()) > max_bytes:
        raise bad_field(field, f"longer than {max_bytes} bytes")
    if not value.isprintable():
        for position, character in enumerate(value):
            if unicodedata.category(character) == "Cc" and character not in allowed:
                raise bad_field(
                    field, f"control character U+{ord(character):04X} at position {position}"
                )
    return value


def lines(
    values: Sequence[str], field: str, max_count: int, max_bytes: int, *, empty: bool = False
) -> tuple[str, ...]:
    """A list of names."""
    count(values, field, max_count)
    return tuple([line(v, f"{field}[{i}]", max_bytes, empty=empty) for i, v in enumerate(values)])


def count(values: Sequence[object] | Iterable[object], field: str, max_count: int) -> None:
    """The bound of a list or map."""
    length = len(values)  # type: ignore[arg-type]  # protobuf containers have a length
    if length > max_count:
        raise bad_field(field, f"{length} entries, more than {max_count}")


def number(value: int, field: str, low: int, high: int) -> int:
    """A number within bounds, both included."""
    if not low <= value <= high:
        raise bad_field(field, f"must be from {low} to {high}, not {value}")
    return value


def ttl_ms(seconds: int, default_ms: int, field: str = "ttl_seconds") -> int:
    """A time to live in milliseconds; 0 seconds mean the default."""
    return number(seconds, field, 0, limits.TTL_SECONDS_MAX) * 1000 or default_ms


def blob(value: bytes, field: str) -> bytes:
    """A task's input or output."""
    if len(value) > limits.BLOB_BYTES:
        raise bad_field(field, f"longer than {limits.BLOB_BYTES} bytes")
    return value


def choice(value: int, field: str, known: Iterable[int]) -> int:
    """A value of an enum."""
    if value not in set(known):
        raise bad_field(field, f"unknown value {value}")
    return value
