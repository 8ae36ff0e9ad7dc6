"""`agentkeeper snapshot`: back up, verify and restore the cluster's state."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agentkeeper.cli.connection import with_client
from agentkeeper.cli.output import Output, with_output

if TYPE_CHECKING:
    from agentkeeper import AgentKeeperClient

EXISTING = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def snapshot() -> None:
    """Back up, verify and restore the cluster's state."""


@snapshot.command("save")
@click.argument("file")
@click.option(
    "--stale",
    is_flag=True,
    help="As any one replica has it, which may be behind: also where no majority is left.",
)
@click.option("--force", is_flag=True, help="Replace the file that is there.")
@with_client
@with_output
def save(client: AgentKeeperClient, show: Output, file: str, stale: bool, force: bool) -> None:
    """Write the whole state, as it is now, to FILE, while everything goes on.

    Nothing is at FILE before it is whole, checked and durable. A file that is there already is
    left alone without --force.
    """
    _require_free(file, force=force)
    try:
        saved = client.save_snapshot(Path(file), stale=stale)
    except OSError as error:
        raise click.FileError(file, error.strerror) from None
    size_kb = saved.size_bytes / 1000
    show.done(saved, f"saved {file}: {size_kb:,.1f} kB, the state at log index {saved.log_index}")


@snapshot.command("verify")
@click.argument("file", type=EXISTING)
@with_output
def verify(show: Output, file: Path) -> None:
    """Read FILE whole, its checksum and every record, and say what it holds. Asks no cluster.

    Exits with 1 if it is damaged.
    """
    from agentkeeper.server import restore as restoring  # noqa: PLC0415  # a daemon's code

    with _refusals():
        show.one(restoring.verify(file))


@snapshot.command("restore")
@click.argument("file", type=EXISTING)
@click.option(
    "--data-dir",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="A folder that is empty, or not there yet.",
)
@click.option("--node-id", help="Which of --peers this replica is. Left out for a single one.")
@click.option("--peers", help="Raft addresses of all replicas: a=host:port,b=host:port,...")
@with_output
def restore(
    show: Output, file: Path, data_dir: Path, node_id: str | None, peers: str | None
) -> None:
    """Make one replica of a NEW cluster, which begins with what FILE holds.

    Run it once for each replica, all from the same FILE, then start them with the same --data-dir,
    --node-id and --peers. Agents, leases, elections, policies and tasks are kept; the new cluster
    gives out no token, term or sequence number that was given out before. Don't run it beside the
    old one. Exits with 1 if FILE is damaged or the folder has something in it.
    """
    from agentkeeper.server import restore as restoring  # noqa: PLC0415  # a daemon's code
    from agentkeeper.server.config import ALONE, ConfigError, parse_peers  # noqa: PLC0415

    try:
        addresses = parse_peers(peers) if peers else {}
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    if node_id and not addresses:
        raise click.UsageError("--node-id needs --peers, which it is one of")
    if addresses and node_id not in addresses:
        raise click.UsageError(f"--node-id must be one of --peers: {', '.join(addresses)}")
    node_id = node_id or ALONE
    with _refusals():
        contents = restoring.restore(file, data_dir=data_dir, node_id=node_id, peers=addresses)
    line = ["agentkeeper", "serve", "--data-dir", str(data_dir)]
    line += ["--node-id", node_id, "--peers", peers] if peers else []
    show.done(
        {"data_dir": str(data_dir), "node_id": node_id, "contents": contents},
        f"restored the state at log index {contents.log_index}; start it with:\n"
        f"  {shlex.join(line)}",
    )


def _require_free(file: str, *, force: bool) -> None:
    """Refuse a place that is taken, or that is none."""
    if file in {"", "-"}:
        raise click.UsageError("FILE must be the name of a file: it is there whole or not at all")
    path = Path(file)
    if not os.path.lexists(path):
        return
    if not path.is_file():
        raise click.UsageError(f"{file} is there, and no regular file")
    if not force:
        raise click.UsageError(f"{file} is there already: --force replaces it")


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    from agentkeeper.server.restore import RestoreError  # noqa: PLC0415  # a daemon's code

    try:
        yield
    except RestoreError as error:
        raise click.ClickException(str(error)) from None
