"""Snapshot files: read and checked, and made the beginning of a new cluster.

A file is what `SaveSnapshot` streams. It is restored once for each replica of the new cluster, each
time from the same file, and the replicas begin together when all of them are there. From then on
nothing is as the file has it: whatever the new cluster gives out is above all that was given out
before (see `agentkeeper.core.epoch`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agentkeeper.consensus import restored
from agentkeeper.consensus.config import RaftConfig
from agentkeeper.consensus.port import StartError
from agentkeeper.core import epoch, snapshot
from agentkeeper.core.codec import UnknownEncodingError
from agentkeeper.core.counts import Counts, count
from agentkeeper.core.snapshot import DamagedSnapshotError
from agentkeeper.core.state import State


class RestoreError(Exception):
    """A snapshot file can't be read, or not be restored; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What a snapshot file holds."""

    log_index: int
    """The log index whose state it is."""
    cluster_version: int
    epoch: int
    """Which life of the data it is: 0 until the first restore."""
    counts: Counts
    last_sequence: int
    """Of the last event before it."""
    digest: str
    """That of a replica at `log_index`."""
    size_bytes: int


def verify(snapshot_file: str | os.PathLike[str]) -> Contents:
    """Read a snapshot file whole, its checksum and every record. Raises `RestoreError`."""
    return _read(Path(snapshot_file))[1]


def restore(
    snapshot_file: str | os.PathLike[str],
    *,
    data_dir: str | os.PathLike[str],
    node_id: str,
    peers: Mapping[str, str] | None = None,
) -> Contents:
    """Make an empty `data_dir` begin with a snapshot: that of replica `node_id` of a new cluster.

    `peers` are the addresses (`host:port`) of all its replicas by node id; without them it is a
    cluster of one. Returns what the file holds. Raises `RestoreError`, also for a folder with
    something in it.
    """
    state, contents = _read(Path(snapshot_file))
    begun = epoch.reborn(state)
    # An index above 0 is that of an entry, and the new log needs one to begin with.
    log_index = max(1, contents.log_index)
    payload = b"".join(snapshot.pack_snapshot(snapshot.capture(begun, log_index)))
    try:
        config = RaftConfig(node_id, Path(data_dir), peers=dict(peers or {}))
        restored.make_folder(config, log_index, payload)
    except (StartError, ValueError) as error:
        raise RestoreError(str(error)) from error
    return contents


def _read(path: Path) -> tuple[State, Contents]:
    try:
        data = path.read_bytes()
        state, log_index = snapshot.restore(data)
    except OSError as error:
        raise RestoreError(f"can't read {path}: {error.strerror or error}") from error
    except (DamagedSnapshotError, UnknownEncodingError) as error:
        raise RestoreError(f"{path}: {error}") from error
    contents = Contents(
        log_index=log_index,
        cluster_version=state.cluster_version,
        epoch=state.epoch,
        counts=count(state),
        last_sequence=state.last_sequence,
        digest=state.digest(),
        size_bytes=len(data),
    )
    return state, contents
