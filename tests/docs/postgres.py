"""Stands for psycopg: the same statements, run by sqlite3.

Both databases understand what the page shows (`ON CONFLICT ... DO UPDATE ... WHERE`, `RETURNING`,
row counts). Not shown this way is what PostgreSQL does when transactions run at the same time.
"""

from __future__ import annotations

import sqlite3
import types
from contextlib import contextmanager


class Connection:
    """The part of `psycopg.Connection` that the docs use."""

    def __init__(self, database):
        self._sqlite = sqlite3.connect(database, isolation_level=None)

    def execute(self, statement, parameters=()):
        assert "?" not in statement
        return self._sqlite.execute(statement.replace("%s", "?"), parameters)

    @contextmanager
    def transaction(self):
        self._sqlite.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._sqlite.execute("ROLLBACK")
            raise
        self._sqlite.execute("COMMIT")

    def close(self):
        self._sqlite.close()

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        self.close()


def module(database) -> types.ModuleType:
    """Return a `psycopg` whose every connection is to the sqlite file `database`."""
    psycopg = types.ModuleType("psycopg")
    psycopg.Connection = Connection
    psycopg.connect = lambda conninfo, autocommit=False: Connection(database)
    return psycopg
