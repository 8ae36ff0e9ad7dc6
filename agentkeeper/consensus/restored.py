"""A data folder that begins with a snapshot, for one replica of a new cluster.

The replicas of that cluster are restored one by one, each on its own machine. What makes them one
cluster is what they were restored from, which is a part of each folder's incarnation: those that
were restored from the same begin it together (see `membership`).
"""

from __future__ import annotations

import contextlib
import hashlib
import uuid
from collections.abc import Callable
from typing import Final

from agentkeeper.consensus.config import RaftConfig
from agentkeeper.consensus.journal import JournalFullError
from agentkeeper.consensus.port import StartError
from agentkeeper.consensus.recovery import refusing_to_start
from agentkeeper.consensus.snapshot_file import Snapshot
from agentkeeper.consensus.storage import DataFolder, make_storage

TERM: Final = 1
"""Of the snapshot's entry in the new log; the new cluster's first leader has a higher one."""

_MARK: Final = "from-"
_DIGEST_BYTES: Final = 8


def origin(incarnation: str) -> str:
    """What the folder of this incarnation was restored from; empty if it was made empty."""
    return incarnation.partition(".")[0] if incarnation.startswith(_MARK) else ""


def make_folder(
    config: RaftConfig,
    index: int,
    payload: bytes,
    draw_incarnation: Callable[[], str] = lambda: uuid.uuid4().hex,
) -> None:
    """Make the data folder of `config` begin with the state `payload`, as of log index `index`.

    Raises `StartError` if the folder is in use or not empty, or can't be written.
    """
    if config.data_dir is None:
        raise StartError("a snapshot can be restored into a data folder only")
    digest = hashlib.blake2b(payload, digest_size=_DIGEST_BYTES).hexdigest()
    incarnation = f"{_MARK}{digest}.{draw_incarnation()}"
    with contextlib.closing(DataFolder(config.data_dir)) as folder:
        found = folder.used()
        if found:
            raise StartError(
                f"the data folder {config.data_dir} is not empty (there is {found!r}): "
                "restore into a new one"
            )
        snapshot = Snapshot(index, TERM, payload)
        with contextlib.ExitStack() as failed:
            failed.callback(_clear, folder)
            try:
                with refusing_to_start(str(config.data_dir)):
                    make_storage(folder.disk, config, incarnation, snapshot).close()
            except JournalFullError as error:
                message = f"the data folder {config.data_dir} can't be made: {error}"
                raise StartError(message) from error
            failed.pop_all()


def _clear(folder: DataFolder) -> None:
    """Let the next attempt find the folder as this one did."""
    with contextlib.suppress(OSError):
        folder.clear()
