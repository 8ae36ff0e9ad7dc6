"""Snapshots of the state: captured table by table, packed piece by piece, checked.

Layout: 8 bytes of magic, a msgpack stream, then 16 bytes of BLAKE2b over both. The stream is a
header (encoding, log index, counters), and for each table its name, its length and its rows. The
encoding is the cluster's version, which says what counters there are.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import msgpack

from agentkeeper.core import records as r
from agentkeeper.core.codec import (
    UnknownEncodingError,
    answer_row,
    check_encoding,
    thaw,
    thaw_answer,
)
from agentkeeper.core.state import TABLES, State, counters_of

_MAGIC: Final = b"AKSNAP02"
_DIGEST_BYTES: Final = 16
_PIECE_BYTES: Final = 64 * 1024
"""Size that a piece is given out at: packed in a few ms, so that others get their turn."""
_KINDS: Final[dict[str, type[Any]]] = {
    "agents": r.Agent,
    "leases": r.Lease,
    "waiters": r.Waiter,
    "elections": r.Election,
    "policies": r.Policy,
    "tasks": r.Task,
    "sessions": r.Session,
    "events": r.Event,
    "replicas": r.Replica,
}


class DamagedSnapshotError(Exception):
    """The bytes are not a whole snapshot."""


class Snapshot(NamedTuple):
    """The state at a log index: shallow copies of its tables, whose records never change."""

    encoding: int
    log_index: int
    counters: tuple[int, ...]
    tables: tuple[tuple[str, dict[Any, Any]], ...]


class Capture:
    """A snapshot in the making: of the state as it is now, while that goes on.

    Records are shared, so only the tables are copied: each when `steps` comes to it, or just before
    it changes.
    """

    def __init__(self, state: State, log_index: int) -> None:
        self._header = (state.cluster_version, log_index, state.counters())
        self._marks = [(name, table.mark()) for name, table in state.tables()]

    def steps(self) -> Iterator[None]:
        """Copy the tables, one with each step."""
        for _, mark in self._marks:
            if not mark.copied:
                mark.rows()
                yield

    def snapshot(self) -> Snapshot:
        """The snapshot; copies what is left. Pack it wherever there is time."""
        return Snapshot(*self._header, tuple((name, mark.rows()) for name, mark in self._marks))


def capture(state: State, log_index: int) -> Snapshot:
    """Copy all tables at once."""
    return Capture(state, log_index).snapshot()


def pack_snapshot(snapshot: Snapshot) -> Iterator[bytes]:
    """Pack a snapshot, in pieces that together are what `restore` takes.

    Each piece is packed when it is asked for, beside the state's own work: take them on a thread
    that gives way in between. A piece is larger than 64 KiB only by its last record. The copy of a
    table is let go of once it is packed: keep no reference to the snapshot.
    """
    checksum = hashlib.blake2b(_MAGIC, digest_size=_DIGEST_BYTES)
    pieces = _pieces(snapshot)
    del snapshot
    yield _MAGIC
    for piece in pieces:
        checksum.update(piece)
        yield piece
    yield checksum.digest()


def restore(data: bytes) -> tuple[State, int]:
    """The state in a snapshot and its log index.

    Raises `DamagedSnapshotError`, or `UnknownEncodingError` for one from a newer build.
    """
    _check(data)
    rows = io.BytesIO(data)  # shares the bytes
    rows.seek(len(_MAGIC))
    stream = msgpack.Unpacker(rows, use_list=False, strict_map_key=False, max_buffer_size=len(data))
    encoding, *header = stream.unpack()
    try:
        check_encoding(encoding)
    except UnknownEncodingError as error:
        raise UnknownEncodingError(f"snapshot {error}") from None
    log_index, counters = header
    state = State()
    for name, value in zip(counters_of(encoding), counters, strict=True):
        setattr(state, name, value)
    for _ in TABLES:
        name, length = stream.unpack()
        table: Any = getattr(state, name)
        kind = _KINDS.get(name)
        for _ in range(length):
            key, row = stream.unpack()
            if kind is not None:
                row = thaw(kind, row)
            elif name == "answers":
                row = thaw_answer(row)
            table.put(key, row)
            state.fold_digest()  # a few at a time: forgetting all of them at once would stall
    state.derive()
    state.digest()  # here, in whatever thread restores, and not at the next entry
    return state, log_index


def _check(data: bytes) -> None:
    if data[: len(_MAGIC)] != _MAGIC:
        raise DamagedSnapshotError("not a snapshot: wrong magic bytes")
    body, checksum = memoryview(data)[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    if hashlib.blake2b(body, digest_size=_DIGEST_BYTES).digest() != checksum:
        raise DamagedSnapshotError("snapshot is damaged: its checksum does not match")


def _pieces(snapshot: Snapshot) -> Iterator[bytes]:
    packer = msgpack.Packer(use_bin_type=True, autoreset=False)
    packer.pack((snapshot.encoding, snapshot.log_index, snapshot.counters))
    tables = list(reversed(snapshot.tables))
    del snapshot
    while tables:
        name, rows = tables.pop()
        packer.pack((name, len(rows)))
        for key, record in rows.items():
            packer.pack((key, answer_row(record) if name == "answers" else record))
            if len(packer.getbuffer()) >= _PIECE_BYTES:
                yield packer.bytes()
                packer.reset()
    yield packer.bytes()
