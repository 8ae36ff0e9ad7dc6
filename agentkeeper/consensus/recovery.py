"""What is told about a replica that cannot start with what it has stored."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from agentkeeper.consensus.disk import DamagedError, FormatError
from agentkeeper.consensus.port import StartError

REJOIN: Final = (
    "stop this replica, remove (or move away) the whole data folder and start it again: it then "
    "rejoins empty and gets everything from the others, as long as a majority of them is intact "
    "(one that has no others needs its folder back from a backup)"
)
"""Never a backup of one folder of several: it has forgotten votes and entries it vouched for."""


@contextmanager
def refusing_to_start(folder: str) -> Iterator[None]:
    """Turn what reading stored data raises into a `StartError` that says what to do."""
    try:
        yield
    except DamagedError as error:
        raise StartError(f"{error}; {REJOIN}") from error
    except FormatError as error:
        raise StartError(str(error)) from error
    except OSError as error:
        raise StartError(f"the data folder {folder} cannot be used: {error}") from error
