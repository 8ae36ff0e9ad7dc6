"""Kinds of values on the command line."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any, Final

import click

from agentkeeper.core import limits

LONGEST_S: Final = 31_536_000.0
"""A year: longer spans are typing errors, and overflow what counts them."""


class Word(click.Choice[str]):
    """One of some words in capitals, which may be typed in small letters."""

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        """Return the word in capitals."""
        return super().convert(str(value).upper(), param, ctx)


class Data(click.ParamType[bytes]):
    """Bytes: text, @FILE, or - for the standard input."""

    name = "data"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> bytes:
        """Read what is named."""
        if isinstance(value, bytes):
            return value
        text = str(value)
        if text == "-" and not sys.stdin.readable():
            self.fail("the standard input is closed", param, ctx)
        try:
            if text == "-":
                return sys.stdin.buffer.read()
            if text.startswith("@"):
                return Path(text[1:]).read_bytes()
        except OSError as error:
            self.fail(f"{text[1:]}: {error.strerror}", param, ctx)
        return text.encode(errors="surrogateescape")


DATA = Data()


class Seconds(click.FloatRange):
    """A span, in seconds."""

    def __init__(self, min: float = 0.0, *, min_open: bool = False) -> None:
        super().__init__(min, LONGEST_S, min_open=min_open)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the seconds; nothing compares with "nan"."""
        seconds: float = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail("must be a number", param, ctx)
        return seconds


TTL_S = click.IntRange(1, limits.TTL_SECONDS_MAX)
TOKEN = click.IntRange(1, limits.COUNTER_MAX)
LIMIT = click.IntRange(1, 2**31 - 1)
