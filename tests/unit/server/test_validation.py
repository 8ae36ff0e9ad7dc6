"""Fields are accepted exactly if they are within their bounds."""

import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkeeper.core import limits
from agentkeeper.server import validation as v
from agentkeeper.server.errors import CallError

from .helpers import refusal_of

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=24) | st.text(
    "aé🚀\0\t\n\r\x7f\x85\u2028", max_size=24
)


def accepted(check: Callable[[], object]) -> bool:
    error = refusal_of(check)
    if error is not None:
        assert (error.code, error.reason, error.field) == ("INVALID_ARGUMENT", "bad_field", "f")
        assert error.definite
        assert error.message.startswith("f: ")
    return error is None


def has_control(text: str, allowed: str = "") -> bool:
    return any(unicodedata.category(c) == "Cc" and c not in allowed for c in text)


@given(TEXTS, st.integers(1, 40), st.booleans())
def test_lines(text: str, bound: int, empty: bool) -> None:
    fits = len(text.encode()) <= bound and not has_control(text) and (bool(text) or empty)
    assert accepted(lambda: v.line(text, "f", bound, empty=empty)) == fits


@given(TEXTS, st.integers(1, 40))
def test_prose(text: str, bound: int) -> None:
    fits = len(text.encode()) <= bound and not has_control(text, "\t\n\r")
    assert accepted(lambda: v.prose(text, "f", bound)) == fits


@given(st.integers(-10, 10), st.integers(-10, 10), st.integers(0, 10))
def test_numbers(value: int, low: int, span: int) -> None:
    fits = low <= value <= low + span
    assert accepted(lambda: v.number(value, "f", low, low + span)) == fits


@given(st.lists(st.text("ab", max_size=4), max_size=6), st.integers(0, 5), st.booleans())
def test_lists(values: list[str], bound: int, empty: bool) -> None:
    try:
        assert v.lines(values, "f", bound, 3, empty=empty) == tuple(values)
        assert len(values) <= bound
        assert all(len(value) <= 3 and (value or empty) for value in values)
    except CallError as error:
        if error.field == "f":
            assert len(values) > bound
        else:
            bad = values[int(error.field[2:-1])]
            assert len(bad) > 3 or not (bad or empty)


@pytest.mark.parametrize("seconds", [0, 1, limits.TTL_SECONDS_MAX])
def test_ttls_within_bounds(seconds: int) -> None:
    assert v.ttl_ms(seconds, 7) == (seconds * 1000 or 7)


@pytest.mark.parametrize("seconds", [-1, limits.TTL_SECONDS_MAX + 1, 2**32 - 1])
def test_ttls_beyond(seconds: int) -> None:
    assert not accepted(lambda: v.ttl_ms(seconds, 7, "f"))


def test_blobs() -> None:
    assert accepted(lambda: v.blob(bytes(limits.BLOB_BYTES), "f"))
    assert not accepted(lambda: v.blob(bytes(limits.BLOB_BYTES + 1), "f"))


@given(st.integers(-3, 5))
def test_choices(value: int) -> None:
    assert accepted(lambda: v.choice(value, "f", (0, 1, 2))) == (value in (0, 1, 2))
