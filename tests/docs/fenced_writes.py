"""What the snippets of the page on fenced writes are given, and must have done."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import sys
import threading

import pytest
from aiohttp import web

from . import postgres
from .case import case
from .snippets import ALL, ROOT


def database(world):
    """A database with the page's tables, and `psycopg` to reach it by."""
    path = world.folder / "accounts.sqlite"
    page = (ROOT / "docs/how-to/fenced-writes.md").read_text()
    connection = sqlite3.connect(path)
    for statements in re.findall(r"^```sql\n(.*?)^```$", page, re.DOTALL | re.MULTILINE):
        connection.executescript(statements)
    world.files.callback(connection.close)
    world.monkeypatch.setitem(sys.modules, "psycopg", postgres.module(path))
    return connection


@case("postgres-row")
def postgres_row(world):
    db = database(world)
    db.execute("INSERT INTO invoices (id) VALUES ('invoice-42')")
    db.commit()
    yield {"extract_total": lambda invoice: "12.00"}
    token = world.names["lease"].token
    stored = "SELECT total, token, sequence FROM invoices"
    assert db.execute(stored).fetchall() == [("12.00", token, 2)]
    save_total, stale = world.names["save_total"], world.names["StaleWrite"]
    with sys.modules["psycopg"].connect("") as connection:
        save_total(connection, "invoice-42", "12.00", token, 2)  # repeated
        save_total(connection, "invoice-42", "13.00", token, 3)
        for late in (1, 2):
            with pytest.raises(stale):
                save_total(connection, "invoice-42", "12.00", token, late)
        save_total(connection, "invoice-42", "14.00", token + 2, 1)
        with pytest.raises(stale):
            save_total(connection, "invoice-42", "15.00", token + 1, 9)
    assert db.execute(stored).fetchall() == [("14.00", token + 2, 1)]


@case("postgres-fence")
def postgres_fence(world):
    db = database(world)
    yield {}
    book, stale = world.names["book"], world.names["StaleWrite"]
    with sys.modules["psycopg"].connect("") as connection:
        with pytest.raises(stale):
            book(connection, "invoice-42", ["net 10.00", "vat 2.00"], token=7, sequence=1)
        book(connection, "invoice-42", ["tip 2.00"], token=9, sequence=1)
        book(connection, "invoice-42", ["tip 2.00"], token=9, sequence=1)
        with pytest.raises(stale):
            book(connection, "invoice-42", ["tip 3.00"], token=8, sequence=5)
        with pytest.raises(sqlite3.Error):
            book(connection, "invoice-42", ["ok", None], token=10, sequence=1)
    entries = [entry for (entry,) in db.execute("SELECT entry FROM ledger")]
    assert entries == ["net 10.00", "vat 2.00", "tip 1.00", "tip 2.00"]
    assert db.execute("SELECT * FROM fences").fetchall() == [("invoice-42", 9, 1)]


class Serving:
    """A web application on a thread of its own."""

    def __init__(self, app):
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._runner = web.AppRunner(app)
        self.url = self._call(self._start())

    def _call(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _start(self):
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return "http://{}:{}".format(*self._runner.addresses[0])

    def close(self):
        self._call(self._runner.cleanup())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def document_server(world):
    """Serve the page's own application; returns its names and its URL."""
    server = next(snippet for snippet in ALL if snippet.name == "http-server")
    names = {}
    exec(server.compiled(), names)
    serving = Serving(names["app"])
    world.files.callback(serving.close)
    return names, serving.url


@case("http-server")
def http_server(world):
    yield {}
    assert world.names["app"].router.resources()


@case("http-client")
def http_client(world):
    world.monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server, url = document_server(world)
    yield {"server": url}
    token = world.names["lease"].token
    assert server["documents"] == {"report": b"all is well"}
    assert server["highest"] == {"report": (token, 2)}
    put, stale = world.names["put"], world.names["StaleWrite"]
    report = f"{url}/documents/report"
    put(report, b"all is well", token, 2)  # repeated by a proxy
    with pytest.raises(stale):
        put(report, b"in the making", token, 1)  # the same, but late
    put(report, b"later", token + 2, 1)
    with pytest.raises(stale):
        put(report, b"stale", token + 1, 7)
    for bad in ("none", "", "-1", "9" * 5000, "\N{SUPERSCRIPT TWO}"):
        for pair in ((bad, 1), (token + 3, bad)):
            with pytest.raises(Exception, match="428"):
                put(report, b"no number", *pair)
    assert server["documents"] == {"report": b"later"}


@case("files")
def files(world):
    world.monkeypatch.chdir(world.folder)
    yield {}
    report = world.folder / "report.txt"
    assert report.read_bytes() == b"all is better"
    write_fenced, stale = world.names["write_fenced"], world.names["StaleWrite"]
    with pytest.raises(stale):
        write_fenced(report, b"late", 8, 3)
    write_fenced(report, b"again", 9, 2)
    with pytest.raises(stale):
        write_fenced(report, b"all is better", 9, 1)
    replace = world.names["replace"]

    def power_fails(path, data):
        if path == report:
            raise OSError("no power")
        replace(path, data)

    world.names["replace"] = power_fails
    with pytest.raises(OSError, match="no power"):
        write_fenced(report, b"last", 10, 1)
    world.names["replace"] = replace
    assert report.read_bytes() == b"again"
    with pytest.raises(stale):
        write_fenced(report, b"late again", 9, 3)
    write_fenced(report, b"last", 10, 1)
    assert report.read_bytes() == b"last"
