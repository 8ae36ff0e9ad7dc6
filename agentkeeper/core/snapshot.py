"""Snapshots of the state: captured at once by copying tables, packed piece by piece, checked.

Layout: 8 bytes of magic, a msgpack stream, then 16 bytes of BLAKE2b over both. The stream is a
header (encoding, log index, counters), and for each table its name, its length and its rows.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import msgpack

from agentkeeper.core import records as r
from agentkeeper.core.codec import (
    ENCODING,
    UnknownEncodingError,
    answer_row,
    thaw,
    thaw_answer,
)
from agentkeeper.core.state import COUNTERS, TABLES, State

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

    log_index: int
    counters: tuple[int, ...]
    tables: tuple[tuple[str, dict[Any, Any]], ...]


def capture(state: State, log_index: int) -> Snapshot:
    """Copy the tables; quick, as records are shared. Pack the result wherever there is time."""
    counters = tuple(getattr(state, name) for name in COUNTERS)
    return Snapshot(log_index, counters, tuple((name, t.copy()) for name, t in state.tables()))


def pack_snapshot(snapshot: Snapshot) -> Iterator[bytes]:
    """Pack a snapshot, in pieces that together are what `restore` takes.

    Each piece is packed when it is asked for, beside the state's own work: take them on a thread
    that gives way in between. A piece is larger than 64 KiB only by its last record.
    """
    checksum = hashlib.blake2b(_MAGIC, digest_size=_DIGEST_BYTES)
    yield _MAGIC
    for piece in _pieces(snapshot):
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
    if encoding != ENCODING:
        raise UnknownEncodingError(f"snapshot encoding {encoding} is not known to this build")
    log_index, counters = header
    state = State()
    for name, value in zip(COUNTERS, counters, strict=True):
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
    packer.pack((ENCODING, snapshot.log_index, snapshot.counters))
    for name, rows in snapshot.tables:
        packer.pack((name, len(rows)))
        for key, record in rows.items():
            packer.pack((key, answer_row(record) if name == "answers" else record))
            if len(packer.getbuffer()) >= _PIECE_BYTES:
                yield packer.bytes()
                packer.reset()
    yield packer.bytes()
