"""The entries of a replica's log, as the engine works with them, in memory."""

from __future__ import annotations

from typing import overload

from agentkeeper.consensus.observation import Observation

Entry = tuple[bytes, int, int]
"""A log entry as the library keeps it: command, index, term."""

REGULAR = b"\x00"
NO_OP = b"\x01"
"""First byte of an entry's command: ours, or the no-op a new leader appends (thesis 6.4)."""


class Log:
    """A sequence of entries, oldest first, with gapless indexes; this one is kept in memory only.

    What is added counts as durable after the next `flush`, which asks for nothing more here.
    """

    def __init__(self, entries: list[Entry] | None = None) -> None:
        """Take over `entries`, all of which are durable."""
        self._entries: list[Entry] = [] if entries is None else entries
        self._next_index = self._entries[-1][1] + 1 if self._entries else 1
        self._unflushed: list[Entry] = []
        self._begins_anew = False
        """Whether the first of the unflushed entries replaces all that is stored."""
        self.durable_index = self._next_index - 1
        """Index of the last entry that is stored as durably as was asked for."""
        self.size_bytes = _size_bytes(self._entries)
        """Sum of the lengths of all commands."""
        self.observation = Observation()
        """Told of every sync."""

    def __len__(self) -> int:
        return len(self._entries)

    @overload
    def __getitem__(self, at: int) -> Entry: ...
    @overload
    def __getitem__(self, at: slice) -> list[Entry]: ...
    def __getitem__(self, at: int | slice) -> Entry | list[Entry]:
        return self._entries[at]

    def add(self, command: bytes, index: int, term: int) -> None:
        """Append an entry; `index` must follow the last one (1 in a new log)."""
        if index != self._next_index:
            raise ValueError(f"entry {index} cannot follow entry {self._next_index - 1}")
        entry = (command, index, term)
        self._entries.append(entry)
        self._unflushed.append(entry)
        self._next_index = index + 1
        self.size_bytes += len(command)

    def deleteEntriesFrom(self, at: int) -> None:  # noqa: N802
        """Drop the entry at position `at` and all after it.

        They may be back after a restart, unless others have taken their place by then.
        """
        removed = self._entries[at:]
        if not removed:
            return
        index = removed[0][1]
        del self._entries[at:]
        self.size_bytes -= _size_bytes(removed)
        self._next_index = index
        self.durable_index = min(self.durable_index, index - 1)
        if self._unflushed:
            del self._unflushed[max(0, index - self._unflushed[0][1]) :]

    def deleteEntriesTo(self, at: int) -> None:  # noqa: N802
        """Drop the first `at` entries; some may be back after a restart."""
        self.size_bytes -= _size_bytes(self._entries[:at])
        del self._entries[:at]

    def restart(self, index: int, term: int) -> None:
        """Replace everything by the point where a snapshot ends, which is durable once flushed."""
        self._entries = [(NO_OP, index, term)]
        self._unflushed = self._entries.copy()
        self._begins_anew = True
        self._next_index = index + 1
        self.durable_index = 0
        self.size_bytes = len(NO_OP)

    @property
    def has_unflushed(self) -> bool:
        """Whether there are entries that the next flush would store."""
        return bool(self._unflushed)

    def flush(self) -> None:
        """Store what was added."""
        self._settle(len(self._unflushed))

    def close(self) -> None:
        """Close the files; what was not flushed is lost. Harmless when repeated."""

    def setRaftCommitIndex(self, index: int) -> None:  # noqa: N802
        """Forget it: the commit index is volatile (Raft paper, figure 2)."""

    def onOneSecondTimer(self) -> None:  # noqa: N802
        """Do nothing; the library calls this."""

    def _settle(self, count: int) -> None:
        """Note that the first `count` of the unflushed entries are durable."""
        if count:
            self.durable_index = self._unflushed[count - 1][1]
            del self._unflushed[:count]
            self._begins_anew = False


def _size_bytes(entries: list[Entry]) -> int:
    return sum(len(command) for command, _, _ in entries)
