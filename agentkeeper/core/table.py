"""Tables of immutable records, and a digest over all of them that costs what changed.

The digest is the sum, modulo 2^128, of one hash per record: adding, changing and dropping a
record each move it by a difference, so it needs no pass over the rest (an additive multiset hash;
it guards against accidents, not against forgery).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from agentkeeper.core.codec import pack
from agentkeeper.core.sorted_keys import SortedKeys

K = TypeVar("K")
R = TypeVar("R")

_MODULUS = 1 << 128


class Digest:
    """Incremental digest over the tables that report their changes to it."""

    def __init__(self) -> None:
        self._sum = 0
        self._before: dict[tuple[str, object], object] = {}
        self._tables: dict[str, dict[object, object]] = {}

    def watch(self, table: str, rows: dict[object, object]) -> None:
        """Include a table, empty as yet."""
        self._tables[table] = rows

    def changing(self, table: str, key: object, before: object) -> None:
        """Note that a record is about to change; `before` is None where there is none."""
        self._before.setdefault((table, key), before)

    @property
    def backlog(self) -> int:
        """Records changed since the digest was last brought up to date."""
        return len(self._before)

    def value(self, counters: tuple[int, ...]) -> str:
        """Hex digest of all records and `counters`."""
        self.fold()
        packed = pack((f"{self._sum:x}", counters))
        return hashlib.blake2b(packed, digest_size=16).hexdigest()

    def fold(self) -> None:
        """Bring the sum up to date with the records that changed."""
        for (table, key), before in self._before.items():
            after = self._tables[table].get(key)
            if after is before:
                continue
            if before is not None:
                self._sum -= _hash(table, key, before)
            if after is not None:
                self._sum += _hash(table, key, after)
        self._before.clear()
        self._sum %= _MODULUS


def _hash(table: str, key: object, record: object) -> int:
    packed = pack((table, key, record))
    return int.from_bytes(hashlib.blake2b(packed, digest_size=16).digest(), "big")


class Mark(Generic[K, R]):
    """The rows of a table as of a moment: copied when asked for, or just before they change."""

    __slots__ = ("_rows", "_table")

    def __init__(self, table: Table[K, R]) -> None:
        self._table: Table[K, R] | None = table
        self._rows: dict[K, R] = {}

    @property
    def copied(self) -> bool:
        """Whether `rows` costs nothing."""
        return self._table is None

    def rows(self) -> dict[K, R]:
        """A shallow copy of the rows of that moment."""
        if self._table is not None:
            self._rows = self._table.copy()
            self._table.unmark()
            self._table = None
        return self._rows


class Table(Generic[K, R]):
    """Records by key, in order of first insertion."""

    __slots__ = ("_digest", "_mark", "_name", "_rows")

    def __init__(self, name: str, digest: Digest) -> None:
        self._name = name
        self._rows: dict[K, R] = {}
        self._digest = digest
        self._mark: Mark[K, R] | None = None
        digest.watch(name, self._rows)  # type: ignore[arg-type]  # it only looks rows up

    def get(self, key: K) -> R | None:
        """The record under `key`, or None."""
        return self._rows.get(key)

    def put(self, key: K, record: R) -> None:
        """Insert or replace a record."""
        if self._mark is not None:
            self._mark.rows()
        self._digest.changing(self._name, key, self._rows.get(key))
        self._rows[key] = record

    def drop(self, key: K) -> R | None:
        """Remove and return the record under `key`, or None."""
        if self._mark is not None:
            self._mark.rows()
        record = self._rows.pop(key, None)
        if record is not None:
            self._digest.changing(self._name, key, record)
        return record

    def values(self) -> Iterable[R]:
        """All records."""
        return self._rows.values()

    def copy(self) -> dict[K, R]:
        """A shallow copy of the rows."""
        return self._rows.copy()

    def mark(self) -> Mark[K, R]:
        """Hold on to the rows as they are now, for a snapshot; they are copied later, if at all."""
        if self._mark is None:
            self._mark = Mark(self)
        return self._mark

    def unmark(self) -> None:
        """Forget the mark: its rows were copied."""
        self._mark = None

    def __contains__(self, key: object) -> bool:
        return key in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[K]:
        return iter(self._rows)


class SortedTable(Table[str, R]):
    """A table that can also be gone through in order of its keys, from anywhere."""

    __slots__ = ("sorted_keys",)

    def __init__(self, name: str, digest: Digest) -> None:
        super().__init__(name, digest)
        self.sorted_keys = SortedKeys()

    def put(self, key: str, record: R) -> None:
        """See `Table.put`."""
        if key not in self:
            self.sorted_keys.add(key)
        super().put(key, record)

    def drop(self, key: str) -> R | None:
        """See `Table.drop`."""
        if key in self:
            self.sorted_keys.remove(key)
        return super().drop(key)
