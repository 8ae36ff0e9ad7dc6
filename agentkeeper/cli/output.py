"""What commands print: tables for people, JSON and YAML for programs.

JSON and YAML have the fields of the SDK's dataclasses under their names. Times are ISO 8601 in
UTC, bytes base64 (or text, where a command has `--text`), enums their names.
"""

from __future__ import annotations

import base64
import dataclasses
import enum
import functools
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from agentkeeper.cli import variables

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

F = TypeVar("F", bound=Callable[..., Any])

FORMS = ("table", "json", "yaml")
UNLIMITED_WIDTH = 10_000
PREVIEW_CHARACTERS = 60

UNSEEN = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
"""Control characters that JSON and YAML leave as they are, and what turns the writing round."""

STYLES = {
    "ALIVE": "green",
    "UNREACHABLE": "yellow",
    "DEAD": "red",
    "PENDING": "blue",
    "CLAIMED": "cyan",
    "COMPLETED": "green",
    "ALLOW": "green",
    "ALLOWED": "green",
    "DENIED": "red",
    "DENY": "red",
    "leader": "bold green",
    "candidate": "yellow",
    "ready": "green",
    "not connected": "red",
}
"""Of words that stand alone in a cell."""


class Column(NamedTuple):
    """One column of a table; `of` returns a row's cell."""

    heading: str
    of: Callable[[Any], Any]
    right: bool = False


class Output:
    """Prints in the form asked for."""

    def __init__(self, form: str, *, text: bool = False) -> None:
        """`form` is one of FORMS; `text`: bytes as text, where they are data."""
        self.form = form
        self._text = text

    @property
    def is_table(self) -> bool:
        """Whether a person reads this."""
        return self.form == "table"

    def rows(self, rows: Sequence[Any], columns: Iterable[Column]) -> None:
        """Print a list of things."""
        if not self.is_table:
            self.data(rows)
            return
        for line in lines(rows, columns):
            click.echo(line)

    def one(self, thing: Any) -> None:
        """Print one thing with all its fields."""
        if not self.is_table:
            self.data(thing)
            return
        from rich.table import Table  # noqa: PLC0415  # only tables need it

        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="bold", no_wrap=True)
        grid.add_column(overflow="fold")
        for name, value in _fields(thing):
            grid.add_row(name, _text(value))
        console().print(grid)

    def done(self, thing: Any, sentence: str) -> None:
        """Say what was done: to a person in a sentence, to a program with `thing`."""
        if self.is_table:
            click.echo("\n".join(map(printable, sentence.splitlines())))
        else:
            self.data(thing)

    def data(self, thing: Any) -> None:
        """Print a thing as JSON or YAML."""
        plain_thing = plain(thing, text=self._text)
        if self.form == "yaml":
            import yaml  # noqa: PLC0415  # seldom needed

            dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # in C it is ten times faster

            def written(*, allow_unicode: bool) -> str:
                return str(
                    yaml.dump(
                        plain_thing, Dumper=dumper, sort_keys=False, allow_unicode=allow_unicode
                    )
                )

            text = written(allow_unicode=True)
            click.echo(written(allow_unicode=False) if UNSEEN.search(text) else text, nl=False)
        else:
            click.echo(_json(plain_thing, indent=2))

    def event(self, thing: Any, line: Callable[[], Text]) -> None:
        """Print one of a stream of things at once: a line, a line of JSON, a document of YAML."""
        if self.is_table:
            console().print(line(), soft_wrap=True)
        elif self.form == "yaml":
            click.echo("---")
            self.data(thing)
        else:
            click.echo(_json(plain(thing, text=self._text)))
        sys.stdout.flush()


def _json(thing: Any, **how: Any) -> str:
    """Write JSON in which what a terminal would obey is escaped."""
    written = json.dumps(thing, ensure_ascii=False, **how)
    return UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", written)


def with_output(command: F) -> F:
    """Add `-o`; the command gets `show`, an Output."""

    @click.option(
        "-o",
        "--output",
        type=click.Choice(FORMS),
        default="table",
        show_default=True,
        envvar=variables.OUTPUT,
        help="How to print.",
    )
    @functools.wraps(command)
    def wrapped(*args: Any, output: str, **given: Any) -> Any:
        show = Output(output, text=bool(given.pop("text", False)))
        return command(*args, show=show, **given)

    return wrapped  # type: ignore[return-value]  # a decorator keeps the type for who reads


def console(*, stderr: bool = False) -> Console:
    """Return where people read: coloured on a terminal, of unlimited width elsewhere."""
    from rich.console import Console  # noqa: PLC0415  # the daemon does without

    on_terminal = (sys.stderr if stderr else sys.stdout).isatty()
    width = None if on_terminal else UNLIMITED_WIDTH
    return Console(stderr=stderr, highlight=False, markup=False, width=width)


def table(rows: Iterable[Any], columns: Iterable[Column]) -> Table:
    """Make a table without lines, for pictures that are drawn again and again."""
    from rich.table import Table  # noqa: PLC0415

    columns = list(columns)
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        justify: Any = "right" if column.right else "left"
        made.add_column(column.heading, justify=justify, overflow="fold")
    for row in rows:
        made.add_row(*(_text(column.of(row)) for column in columns))
    return made


def lines(rows: Iterable[Any], columns: Iterable[Column]) -> Iterator[str]:
    """Yield the lines of a table, each whole: a row is a line, however long.

    Of 10,000 rows too, where measuring what fits would take many times longer.
    """
    from rich.cells import cell_len  # noqa: PLC0415

    columns = list(columns)
    cells = [[cell(column.of(row)) for column in columns] for row in rows]
    headings = [column.heading for column in columns]
    widths = [max(map(cell_len, column)) for column in zip(headings, *cells, strict=True)]

    def line(words: list[str], **style: Any) -> str:
        parts = []
        for word, width, column in zip(words, widths, columns, strict=True):
            padding = " " * (width - cell_len(word))
            own = style or _style(word)
            styled = click.style(word, **own) if own else word
            parts.append(padding + styled if column.right else styled + padding)
        return "  ".join(parts).rstrip()

    yield line(headings, bold=True)
    for row in cells:
        yield line(row)


def _style(word: str) -> dict[str, Any]:
    colours = STYLES.get(word, "").split()
    return {"fg": colours[-1], "bold": colours[0] == "bold"} if colours else {}


def plain(value: Any, *, text: bool = False) -> Any:
    """Return a value as JSON and YAML can carry it."""
    again = functools.partial(plain, text=text)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: again(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, datetime):
        stamp = value.astimezone(UTC).isoformat(timespec="milliseconds")
        return stamp.replace("+00:00", "Z")
    if isinstance(value, bytes):
        if text:
            return value.decode(errors="replace")
        return base64.b64encode(value).decode("ascii")
    if hasattr(value, "_asdict"):  # a named tuple
        value = value._asdict()
    if isinstance(value, Mapping):
        return {str(key): again(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [again(item) for item in value]
    return value


def printable(text: str) -> str:
    """Return a text that can't move the cursor or ring the bell."""
    return "".join(c if c.isprintable() else " " if c in "\n\r\t" else "\ufffd" for c in text)


def complain(sentence: str) -> None:
    """Say something beside the output, to a person."""
    click.echo(printable(sentence), err=True)


def preview(data: bytes) -> str:
    """Return the beginning of data as text, or how much it is."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return f"({len(data)} bytes)"
    return printable(text if len(text) <= PREVIEW_CHARACTERS else text[:PREVIEW_CHARACTERS] + "…")


def ago(moment: datetime | None) -> str:
    """Return how long ago a moment was, or how soon it comes, by this machine's clock."""
    if moment is None:
        return "-"
    seconds = (datetime.now(UTC) - moment).total_seconds()
    return f"{duration(seconds)} ago" if seconds >= 0 else f"in {duration(-seconds)}"


def duration(seconds: float) -> str:
    """Return a span in its one or two leading units."""
    if seconds < 100:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes = int(seconds // 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"


def _fields(thing: Any, prefix: str = "") -> Iterable[tuple[str, Any]]:
    if hasattr(thing, "_asdict"):
        thing = thing._asdict()
    items = (
        thing.items()
        if isinstance(thing, Mapping)
        else ((f.name, getattr(thing, f.name)) for f in dataclasses.fields(thing))
    )
    for name, value in items:
        if dataclasses.is_dataclass(value) or hasattr(value, "_asdict"):
            yield from _fields(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def cell(value: Any) -> str:
    """Return a value as people read it, on one line."""
    if isinstance(value, bytes):
        value = preview(value)
    elif isinstance(value, datetime):
        value = f"{plain(value)} ({ago(value)})"
    elif isinstance(value, enum.Enum):
        value = value.value
    elif isinstance(value, Mapping):
        value = ", ".join(f"{key}={item}" for key, item in value.items())
    elif isinstance(value, list | tuple):
        value = ", ".join(_word(item) for item in value)
    elif isinstance(value, bool):
        value = "yes" if value else "no"
    return printable(str(value)) if value not in ("", None) else "-"


def _text(value: Any) -> Text:
    from rich.text import Text  # noqa: PLC0415

    text = cell(value)
    return Text(text, style=STYLES.get(text, ""))


def _word(item: Any) -> str:
    """An item of a list, in one word if it has a name."""
    for name in ("name", "id"):
        if hasattr(item, name):
            return str(getattr(item, name))
    return str(item)
