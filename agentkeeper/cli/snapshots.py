"""`agentkeeper snapshot`: back up, verify and restore the cluster's state."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agentkeeper.cli.connection import with_client
from agentkeeper.cli.output import Output, with_output

if TYPE_CHECKING:
    from agentkeeper import AgentKeeperClient

FILE = click.Path(dir_okay=False, path_type=Path)
EXISTING = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def snapshot() -> None:
    """Back up, verify and restore the cluster's state."""


@snapshot.command("save")
@click.argument("file", type=FILE)
@with_client
@with_output
def save(client: AgentKeeperClient, show: Output, file: Path) -> None:
    """Write the whole state, as it is now, to FILE, while everything goes on.

    Nothing is at FILE before it is whole, checked and durable.
    """
    try:
        saved = client.save_snapshot(file)
    except OSError as error:
        raise click.FileError(str(file), error.strerror) from None
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
    if addresses and node_id not in addresses:
        raise click.UsageError(f"--node-id must be one of --peers: {', '.join(addresses)}")
    node_id = node_id or ALONE
    with _refusals():
        contents = restoring.restore(file, data_dir=data_dir, node_id=node_id, peers=addresses)
    where = f" --node-id {node_id} --peers {peers}" if peers else ""
    show.done(
        {"data_dir": str(data_dir), "node_id": node_id, "contents": contents},
        f"restored the state at log index {contents.log_index}; start it with:\n"
        f"  agentkeeper serve --data-dir {data_dir}{where}",
    )


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    from agentkeeper.server.restore import RestoreError  # noqa: PLC0415  # a daemon's code

    try:
        yield
    except RestoreError as error:
        raise click.ClickException(str(error)) from None
