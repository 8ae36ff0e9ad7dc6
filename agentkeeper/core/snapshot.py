"""Snapshots of the state: captured at once by copying tables, packed later, checked when read.

Layout: 8 bytes of magic, 16 bytes of BLAKE2b over the rest, then a msgpack stream: a header
(encoding, log index, counters), and for each table its name, its length and its rows.
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
    pack,
    thaw,
    thaw_answer,
)
from agentkeeper.core.state import COUNTERS, TABLES, State

_MAGIC: Final = b"AKSNAP01"
_DIGEST_BYTES: Final = 16
_ROWS_PER_CHUNK: Final = 512
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


def pack_snapshot(snapshot: Snapshot) -> bytes:
    """Bytes of a snapshot. May run beside the state's own work, in pieces that yield often."""
    body = b"".join(_chunks(snapshot))
    return _MAGIC + hashlib.blake2b(body, digest_size=_DIGEST_BYTES).digest() + body


def restore(data: bytes) -> tuple[State, int]:
    """The state in a snapshot and its log index.

    Raises `DamagedSnapshotError`, or `UnknownEncodingError` for one from a newer build.
    """
    checksum, body = data[8 : 8 + _DIGEST_BYTES], data[8 + _DIGEST_BYTES :]
    if data[:8] != _MAGIC:
        raise DamagedSnapshotError("not a snapshot: wrong magic bytes")
    if hashlib.blake2b(body, digest_size=_DIGEST_BYTES).digest() != checksum:
        raise DamagedSnapshotError("snapshot is damaged: its checksum does not match")
    stream = msgpack.Unpacker(
        io.BytesIO(body), use_list=False, strict_map_key=False, max_buffer_size=len(body) + 1
    )
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
    state.derive()
    state.digest()  # here, in whatever thread restores, and not at the next entry
    return state, log_index


def _chunks(snapshot: Snapshot) -> Iterator[bytes]:
    yield pack((ENCODING, snapshot.log_index, snapshot.counters))
    for name, rows in snapshot.tables:
        yield pack((name, len(rows)))
        chunk: list[bytes] = []
        for key, record in rows.items():
            chunk.append(pack((key, answer_row(record) if name == "answers" else record)))
            if len(chunk) == _ROWS_PER_CHUNK:
                yield b"".join(chunk)
                chunk.clear()
        yield b"".join(chunk)
