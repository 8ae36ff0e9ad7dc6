"""Vectors of texts that have been embedded before, in a file.

A row's key digests the model and the text together, so that one file serves several models, none
of which finds another's vectors. A row carries a checksum over key and vector: what was damaged on
the disk is not found, never found for another text.

The file is for its owner alone, and leaves room on the disk for what shares it. Nothing here is
worth a wait for the disk, nor an error: a damaged file is begun anew, and where
there is no file to be had, a smaller cache in memory takes its place.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sqlite3
import struct
import zlib
from pathlib import Path
from typing import Final

MAX_ROWS: Final = 200_000
"""Vectors kept in a file: 330 MB at 384 numbers each."""
MAX_ROWS_IN_MEMORY: Final = 20_000
"""Vectors kept where there is no file."""
MAX_BYTES: Final = 400_000_000
MAX_BYTES_IN_MEMORY: Final = 40_000_000
"""Fewer vectors are kept if they take more than this."""
SPARED_BYTES: Final = 512 * 1024 * 1024
"""With less room on the disk than this, nothing more is kept: the log of consensus may be there."""

_FORMAT: Final = 1
_ROW_BYTES: Final = 128
"""What a row takes beside its vector, about."""
_CIRCUMSTANCES: Final = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
}
"""Errors that are not the file's fault."""
_LOCK_WAIT_S: Final = 0.1
_SUM: Final = struct.Struct(">I")
# Pages of a size that few bytes are left over in; no waiting for the disk: after a loss of power
# the file may be damaged, which is noticed.
_SETTINGS: Final = """
    PRAGMA page_size = 8192;
    PRAGMA locking_mode = EXCLUSIVE;
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = OFF;
    PRAGMA journal_size_limit = 16777216;
"""
_SCHEMA: Final = f"""
    BEGIN;
    CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, used INTEGER, vector BLOB);
    CREATE INDEX IF NOT EXISTS vectors_by_use ON vectors (used);
    PRAGMA user_version = {_FORMAT};
    COMMIT;
"""


class VectorCache:
    """Vectors by text, the most recently used ones.

    No method raises for what the disk does; `take_notes` tells.
    """

    def __init__(
        self, path: Path | None, model_id: str, dimension: int, *, max_rows: int | None = None
    ) -> None:
        """Open or begin the file; None keeps the vectors in memory.

        Args:
            path: the file, which one process at a time can use.
            model_id: whose vectors these are.
            dimension: how many numbers a vector has, each of four bytes.
            max_rows: vectors kept, of all models together.
        """
        self._path = path
        self._salt = hashlib.sha256(model_id.encode()).digest()
        self._size_bytes = 4 * dimension
        self._max_rows = max_rows or self._bound(MAX_ROWS, MAX_BYTES)
        self._rows = 0
        self._uses = 0
        self._notes: list[str] = []
        self._noted: set[str] = set()
        self._db = self._begin()

    def get(self, text: bytes) -> bytes | None:
        """Return the vector of a text, None if it is not known."""
        try:
            return self._find(self._key(text))
        except Exception as error:  # a damaged file holds what it likes
            self._suffer(error)
            return None

    def put(self, text: bytes, vector: bytes) -> None:
        """Keep the vector of a text that was not known."""
        try:
            self._keep(self._key(text), vector)
        except Exception as error:  # as above
            self._suffer(error)

    def take_notes(self) -> list[str]:
        """Return, once, what has befallen the file: sentences for a log."""
        notes, self._notes = self._notes, []
        return notes

    def close(self) -> None:
        """Let go of the file."""
        with contextlib.suppress(sqlite3.Error):
            self._db.close()

    def _bound(self, rows: int, total_bytes: int) -> int:
        return min(rows, total_bytes // (self._size_bytes + _ROW_BYTES))

    def _key(self, text: bytes) -> bytes:
        return hashlib.sha256(self._salt + text).digest()

    def _find(self, key: bytes) -> bytes | None:
        query = "SELECT rowid, used, vector FROM vectors WHERE key = ?"
        row = self._db.execute(query, (key,)).fetchone()
        if row is None:
            return None
        rowid, used, stored = row
        vector = bytes(stored[: -_SUM.size])
        if len(vector) != self._size_bytes or stored != _sealed(key, vector):
            raise sqlite3.DatabaseError("a vector's checksum is wrong")
        if self._uses - used > self._max_rows // 8:  # what is this recent need not be marked
            self._uses += 1
            values = (self._uses, rowid)
            with contextlib.suppress(sqlite3.OperationalError):  # a full disk can still be read
                self._db.execute("UPDATE vectors SET used = ? WHERE rowid = ?", values)
        return vector

    def _keep(self, key: bytes, vector: bytes) -> None:
        if self._path and shutil.disk_usage(self._path.parent).free < SPARED_BYTES:
            self._note("is not added to while the disk is nearly full")
            return
        self._uses += 1
        row = (key, self._uses, _sealed(key, vector))
        self._db.execute("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", row)
        self._rows += 1
        if self._rows > self._max_rows:
            surplus = self._rows - self._max_rows + self._max_rows // 64
            oldest = "SELECT rowid FROM vectors ORDER BY used LIMIT ?"
            self._db.execute(f"DELETE FROM vectors WHERE rowid IN ({oldest})", (surplus,))
            self._rows -= surplus

    def _begin(self) -> sqlite3.Connection:
        """Open the file, anew if it is damaged, and memory if there is no file to be had."""
        if self._path is None:
            self._max_rows = min(
                self._max_rows, self._bound(MAX_ROWS_IN_MEMORY, MAX_BYTES_IN_MEMORY)
            )
            return self._open(":memory:")
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                return self._open(str(self._path))
            except Exception as error:  # see `get`
                if not _is_damage(error):
                    raise
                self._note(f"is damaged and begun anew: {error}")
                _remove(self._path)
                return self._open(str(self._path))
        except (sqlite3.Error, OSError) as error:
            self._note(f"can't be used, vectors are kept in memory: {error}")
            self._path = None
            return self._begin()

    def _open(self, name: str) -> sqlite3.Connection:
        if self._path is not None:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            os.fchmod(file, 0o600)  # those beside it are made like it
            os.close(file)
        db = sqlite3.connect(name, isolation_level=None, timeout=_LOCK_WAIT_S)
        try:
            db.executescript(_SETTINGS)
            (version,) = db.execute("PRAGMA user_version").fetchone()
            (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if tables and version != _FORMAT:
                raise sqlite3.DatabaseError(f"another format ({version})")
            db.executescript(_SCHEMA)
            (rows, uses) = db.execute("SELECT count(*), max(used) FROM vectors").fetchone()
            self._rows, self._uses = rows, int(uses or 0)
        except Exception:
            db.close()
            raise
        return db

    def _suffer(self, error: Exception) -> None:
        """Begin anew if the file is damaged; a full disk is waited out."""
        if self._path is None or not _is_damage(error):
            self._note(f"can't be used for now: {error}")
            return
        self._note(f"is damaged and begun anew: {error}")
        self.close()
        with contextlib.suppress(OSError):
            _remove(self._path)
        self._db = self._begin()

    def _note(self, what: str) -> None:
        """Tell each thing once: a full disk would otherwise be told at every text."""
        if what not in self._noted:
            self._noted.add(what)
            self._notes.append(f"the cache {self._path or 'in memory'} {what}")


def _remove(path: Path) -> None:
    for ending in ("", "-wal", "-shm", "-journal"):
        Path(f"{path}{ending}").unlink(missing_ok=True)


def _is_damage(error: Exception) -> bool:
    if isinstance(error, OSError):
        return False
    return getattr(error, "sqlite_errorcode", 0) & 0xFF not in _CIRCUMSTANCES


def _sealed(key: bytes, vector: bytes) -> bytes:
    return vector + _SUM.pack(zlib.crc32(vector, zlib.crc32(key)))
