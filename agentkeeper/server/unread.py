"""Answers that clients of shared streams have not taken, over all streams of a replica."""

from __future__ import annotations

from typing import Protocol

from agentkeeper.core import limits


class Reader(Protocol):
    """A stream, as far as this is concerned."""

    unread_bytes: int

    def cut(self, message: str) -> None:
        """End it: its client reads too slowly. Its unread answers are dropped at once."""


class UnreadAnswers:
    """Bounds their bytes: when there are too many, the stream with the most is cut."""

    def __init__(self) -> None:
        self.bytes = 0
        self.streams: set[Reader] = set()

    def add(self, size: int) -> None:
        """Count so many bytes more, or fewer, after the stream has counted them itself."""
        self.bytes += size
        while self.bytes > limits.UNREAD_BYTES and self.streams:
            most = max(self.streams, key=lambda stream: stream.unread_bytes)
            if not most.unread_bytes:
                return
            most.cut(f"answers of {limits.UNREAD_BYTES} bytes were not read on this replica")
