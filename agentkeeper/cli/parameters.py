"""Kinds of values on the command line."""

from __future__ import annotations

import sys
from pathlib import Path

import click


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
        try:
            if text == "-":
                return sys.stdin.buffer.read()
            if text.startswith("@"):
                return Path(text[1:]).read_bytes()
        except OSError as error:
            self.fail(f"{text[1:]}: {error.strerror}", param, ctx)
        return text.encode(errors="surrogateescape")


DATA = Data()
