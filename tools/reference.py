"""Writes docs/reference/ from the docstrings and signatures of the public names.

    python tools/reference.py           writes the pages
    python tools/reference.py --check   exits with 1, naming the pages, if any is out of date

Public are the names in `agentkeeper.__all__` and `agentkeeper.testing.__all__`. `AsyncX` is
described with `X`: the two differ in what has to be awaited.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import enum
import importlib
import importlib.util
import inspect
import itertools
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "docs" / "reference"
PACKAGE = "agentkeeper"
CLIENT = "AgentKeeperClient"
WIDTH = 88
MADE_BY = "<!-- Made by tools/reference.py from the docstrings: change those. -->\n"

Described = tuple[str, Any]


def main() -> int:
    """Write the pages, or compare them with what is there."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail if out of date")
    checking = parser.parse_args().check
    made = pages()
    stale = out_of_date(made, PAGES)
    if checking:
        for name in stale:
            print(f"docs/reference/{name} is out of date: run python tools/reference.py")
        return 1 if stale else 0
    PAGES.mkdir(parents=True, exist_ok=True)
    for name in stale:
        if name in made:
            (PAGES / name).write_text(made[name])
        else:
            (PAGES / name).unlink()
    return 0


MADE_BY_OTHERS = {"cli.md"}  # tools/cli_reference.py


def out_of_date(made: dict[str, str], folder: Path) -> list[str]:
    """Names of pages in `folder` that are missing, different, or not made any more."""
    there = {p.name: p.read_text() for p in folder.glob("*.md") if p.name not in MADE_BY_OTHERS}
    return sorted(name for name in there.keys() | made.keys() if there.get(name) != made.get(name))


def pages() -> dict[str, str]:
    """Make all pages: by file name, their text."""
    names = _public(PACKAGE)
    groups: dict[str, list[Described]] = {
        "client.md": [],
        "handles.md": [],
        "types.md": [],
        "errors.md": [],
    }
    for name, thing in names:
        groups[_page_of(name, thing)].append((name, thing))
    intro = inspect.cleandoc(importlib.import_module(f"{PACKAGE}.errors").__doc__ or "")
    made = {
        "client.md": _page("The client", CLIENT_INTRO, groups["client.md"]),
        "handles.md": _page("Handles", HANDLES_INTRO, groups["handles.md"]),
        "types.md": _page("Types", TYPES_INTRO, groups["types.md"]),
        "errors.md": _page("Errors", f"{ERRORS_INTRO}\n\n{intro}", groups["errors.md"]),
    }
    if importlib.util.find_spec(f"{PACKAGE}.testing"):
        made["testing.md"] = _testing_page()
    made["index.md"] = _index(made)
    return made


CLIENT_INTRO = """\
Import from `agentkeeper`. The two faces have the same methods: what is marked *await* is awaited
in the async face; what is marked *enter* may also be entered there without being awaited first, by
`async with`. `AsyncX` stands there where `X` does in the signatures."""
HANDLES_INTRO = """\
What the client's methods return and give to handlers. Signatures are those of the synchronous
face; what is marked *await* is awaited in the async face."""
TYPES_INTRO = "What is returned: plain data. The same in both faces."
ERRORS_INTRO = "Import from `agentkeeper`. See [which to retry](../how-to/errors.md)."
TESTING_INTRO = "Import from `agentkeeper.testing`. See [testing](../how-to/testing.md)."


def _page_of(name: str, thing: Any) -> str:
    if isinstance(thing, type) and issubclass(thing, BaseException):
        return "errors.md"
    if isinstance(thing, type) and (
        issubclass(thing, enum.Enum | list) or dataclasses.is_dataclass(thing)
    ):
        return "types.md"
    return "client.md" if name.endswith(CLIENT) else "handles.md"


def _public(module_name: str) -> list[Described]:
    module = importlib.import_module(module_name)
    return [(name, getattr(module, name)) for name in sorted(module.__all__)]


def _index(made: dict[str, str]) -> str:
    lines = [MADE_BY, "# Reference", ""]
    for name, text in made.items():
        title = re.search(r"^# (.*)$", text, re.MULTILINE)
        entries = ", ".join(
            f"[{heading}]({name}#{anchor(heading)})"
            for heading in re.findall(r"^## (.*)$", text, re.MULTILINE)
        )
        lines.append(f"- [{title.group(1) if title else name}]({name}): {entries}")
    lines += ["", "The wire is described in `proto/agentkeeper/v1/agentkeeper.proto`.", ""]
    return "\n".join(lines)


def anchor(heading: str) -> str:
    """The fragment under which a heading is reached, as Git hosts make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _page(title: str, intro: str, things: list[Described]) -> str:
    by_name = dict(things)
    parts = [MADE_BY, f"# {title}\n", intro + "\n"]
    for name, thing in things:
        sync_name = name.removeprefix("Async")
        if name != sync_name and sync_name in by_name:
            continue  # described with the other
        parts.append("\n".join(_describe(name, thing, by_name.get(f"Async{name}"))))
    return "\n".join(parts).rstrip() + "\n"


def _testing_page() -> str:
    module = importlib.import_module(f"{PACKAGE}.testing")
    intro = f"{TESTING_INTRO}\n\n{inspect.cleandoc(module.__doc__ or '')}"
    return _page("agentkeeper.testing", intro, _public(module.__name__))


# ---------------------------------------------------------------- one name


def _describe(name: str, thing: Any, counterpart: Any) -> Iterator[str]:
    title = f"{name} / Async{name}" if counterpart is not None else name
    yield f"## {title}\n"
    if not isinstance(thing, type):
        target = inspect.unwrap(thing) if callable(thing) else thing
        if inspect.isroutine(target):
            yield _fenced(name, target)
        yield _doc(thing)
        return
    if issubclass(thing, BaseException):
        yield f"*{_bases(thing)}*\n"
        yield _doc(thing)
        yield from _attributes(thing)
        yield from _members(thing, counterpart)
    elif issubclass(thing, enum.Enum):
        yield _doc(thing)
        yield from _enum_values(thing)
    elif dataclasses.is_dataclass(thing):
        if dataclasses.is_dataclass(thing.__base__):
            yield f"*{_bases(thing)}, with its fields*\n"
        yield _doc(thing)
        yield from _fields(thing)
    else:
        constructor = vars(thing).get("__init__")
        if constructor is not None and constructor.__doc__:
            yield _fenced(name, constructor)
        yield _doc(thing)
        if constructor is not None and constructor.__doc__:
            yield _doc(constructor)
        yield from _attributes(thing)
        yield from _members(thing, counterpart)


def _bases(thing: type) -> str:
    return "A kind of " + ", ".join(f"`{base.__name__}`" for base in thing.__bases__)


def _doc(thing: Any) -> str:
    text = inspect.getdoc(thing) or ""
    return text + "\n" if text else ""


def _own_classes(thing: type) -> list[type]:
    """The class and those bases whose members are described with it, bases first."""
    public = set(importlib.import_module(PACKAGE).__all__)
    inside = [c for c in thing.__mro__ if c.__module__.split(".")[0] == PACKAGE]
    return [c for c in reversed(inside) if c is thing or c.__name__ not in public]


def _members(thing: type, counterpart: Any) -> Iterator[str]:
    members: dict[str, Any] = {}
    for owner in _own_classes(thing):
        members.update(vars(owner))
    for name, raw in members.items():
        if name.startswith("_"):
            continue
        other = inspect.getattr_static(counterpart, name, None) if counterpart else None
        if isinstance(raw, property):
            yield f"### {name}\n"
            result = inspect.signature(raw.fget).return_annotation if raw.fget else ""
            yield f"```text\n{name}: {_annotation(result)}\n```\n"
            yield _doc(raw)
        elif isinstance(raw, staticmethod | classmethod) or inspect.isfunction(raw):
            function = raw.__func__ if isinstance(raw, staticmethod | classmethod) else raw
            if not function.__doc__:
                continue
            yield f"### {name}\n"
            prefix = f"{thing.__name__}." if isinstance(raw, classmethod) else ""
            yield _fenced(f"{prefix}{name}", function)
            yield _doc(function)
            note = _async_note(function, other)
            if note:
                yield note + "\n"


def _async_note(function: Callable[..., Any], other: Any) -> str:
    """What is different about a method in the async face."""
    if other is None:
        return ""
    other = other.__func__ if isinstance(other, staticmethod | classmethod) else other
    if not inspect.isfunction(other):
        return ""
    if inspect.iscoroutinefunction(other):
        return "*await* in the async face."
    if inspect.iscoroutinefunction(inspect.unwrap(other)):
        return "*await* or *enter* in the async face."
    result = _annotation(inspect.signature(other).return_annotation)
    own = _annotation(inspect.signature(function).return_annotation)
    if result.replace("Async", "") == own.replace("Async", ""):
        return ""
    return f"In the async face: returns `{result}`."


def _fields(thing: type) -> Iterator[str]:
    docs = _documented_attributes(thing)
    lines = ["| field | type | |", "|---|---|---|"]
    own = inspect.get_annotations(thing)
    for field in (field for field in dataclasses.fields(thing) if field.name in own):
        kind = _annotation(field.type).replace("|", "\\|")
        lines.append(f"| `{field.name}` | `{kind}` | {docs.get(field.name, '')} |")
    yield "\n".join(lines) + "\n"


def _enum_values(thing: type[enum.Enum]) -> Iterator[str]:
    docs = _documented_attributes(thing)
    lines = [
        f"- `{member.name}`" + (f": {docs[member.name]}" if member.name in docs else "")
        for member in thing
    ]
    yield "\n".join(lines) + "\n"


def _attributes(thing: type) -> Iterator[str]:
    docs = _documented_attributes(thing)
    lines = [f"- `{name}`" + (f": {text}" if text else "") for name, text in docs.items()]
    if lines:
        yield "\n".join(lines) + "\n"


def _documented_attributes(thing: type) -> dict[str, str]:
    """Attributes with a string below them, in the class body or in its `__init__`."""
    found: dict[str, str] = {}
    for owner in _own_classes(thing):
        found.update(_documented_in(owner))
    return found


def _documented_in(thing: type) -> dict[str, str]:
    tree = ast.parse(textwrap.dedent(inspect.getsource(thing))).body[0]
    assert isinstance(tree, ast.ClassDef)
    inits = [i.body for i in tree.body if isinstance(i, ast.FunctionDef) and i.name == "__init__"]
    found: dict[str, str] = {}
    for body, only_documented in [(tree.body, True), *((init, False) for init in inits)]:
        for statement, after in itertools.zip_longest(body, body[1:]):
            name = _assigned(statement)
            text = _string(after)
            if name and not name.startswith("_") and (text or not only_documented):
                found[name] = " ".join(text.split())
    return found


def _assigned(statement: ast.stmt) -> str:
    if isinstance(statement, ast.AnnAssign):
        target: ast.expr = statement.target
    elif isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        target = statement.targets[0]
    else:
        return ""
    if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name):
        return target.attr if target.value.id == "self" else ""
    return target.id if isinstance(target, ast.Name) and statement.col_offset == 4 else ""


def _string(statement: ast.stmt | None) -> str:
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        value = statement.value.value
        return value if isinstance(value, str) else ""
    return ""


# ---------------------------------------------------------------- signatures


def _fenced(name: str, function: Callable[..., Any]) -> str:
    return f"```text\n{signature(name, function)}\n```\n"


def signature(name: str, function: Callable[..., Any]) -> str:
    """The signature as one would write the call, over several lines where one is too long."""
    shape = inspect.signature(function)
    parameters = [p for p in shape.parameters.values() if p.name not in {"self", "cls"}]
    written: list[str] = []
    starred = False
    for parameter in parameters:
        if parameter.kind is parameter.VAR_POSITIONAL:
            starred = True
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            written.append("*")
            starred = True
        written.append(_parameter(parameter))
    result = ""
    if shape.return_annotation is not shape.empty and function.__name__ != "__init__":
        result = f" -> {_annotation(shape.return_annotation)}"
    line = f"{name}({', '.join(written)}){result}"
    if len(line) <= WIDTH:
        return line
    inner = "".join(f"    {part},\n" for part in written)
    return f"{name}(\n{inner}){result}"


def _parameter(parameter: inspect.Parameter) -> str:
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    text = next((s for kind, s in stars.items() if kind is parameter.kind), "") + parameter.name
    if parameter.annotation is not parameter.empty:
        text += f": {_annotation(parameter.annotation)}"
    if parameter.default is not parameter.empty:
        equals = " = " if parameter.annotation is not parameter.empty else "="
        text += equals + re.sub(r" at 0x[0-9a-f]+", "", repr(parameter.default))
    return text


def _annotation(annotation: Any) -> str:
    if annotation is None:
        return "None"
    text: str = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return text.strip("'\"").replace("collections.abc.", "").replace(f"{PACKAGE}.", "")


if __name__ == "__main__":
    sys.exit(main())
