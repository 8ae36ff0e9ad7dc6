"""`/api/live`: server-sent events, from which a page knows what to show without asking again.

A reader holds a position in the events that the state keeps, as a watch does; there is no queue
for it, so one that is slow costs nothing and is cut. Many events are sent as few: each batch has
the newest of its span, and says how many it left out.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from typing import Final

from aiohttp import web

from agentkeeper.core.records import Event
from agentkeeper.server.errors import CallError
from agentkeeper.server.http.events import SCAN_SLICE, Filter, Rows, number
from agentkeeper.server.http.guard import HEADERS
from agentkeeper.server.http.plain import Json
from agentkeeper.server.http.pulse import Pulse
from agentkeeper.server.replica import Replica

STREAMS: Final = 64
BATCH_EVERY_S: Final = 0.25
BATCH_EVENTS: Final = 50
WRITE_S: Final = 5.0
"""How long a reader may leave what it was sent untaken."""
RETRY_MS: Final = 1_000


class Live:
    """Serves the streams of one replica."""

    def __init__(self, replica: Replica, pulse: Pulse) -> None:
        self._replica = replica
        self._pulse = pulse
        self._rows = Rows()
        self._ending = asyncio.Event()
        self.streams = 0
        replica.machine.on_restored.append(self._rows.clear)

    def end(self) -> None:
        """End all streams; their pages look for the replica until it is back."""
        self._ending.set()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Send pulses, and with `events=1` the events that `topics` and `contains` ask for.

        They begin after the sequence number that the header Last-Event-ID or else `after` gives,
        or with the next one.
        """
        if self._ending.is_set():
            raise web.HTTPServiceUnavailable(text="this replica is shutting down\n")
        if self.streams >= STREAMS:
            raise web.HTTPServiceUnavailable(text=f"{STREAMS} pages are open on this replica\n")
        try:
            reader = self._reader(request)
        except CallError as error:
            raise web.HTTPBadRequest(text=error.message) from None
        headers = {**HEADERS, "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        response = web.StreamResponse(headers=headers)
        response.content_type = "text/event-stream"
        self.streams += 1
        try:
            await response.prepare(request)
            await self._feed(response, reader)
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()
        finally:
            self.streams -= 1
        return response

    def _reader(self, request: web.Request) -> Reader | None:
        query = request.query
        if query.get("events") != "1":
            return None
        resumed = request.headers.get("Last-Event-ID", "")
        after = int(resumed) if resumed.isascii() and resumed.isdigit() else None
        if after is None and "after" in query:
            after = number(query, "after")
        return Reader(self._replica, self._rows, Filter.of(query), after)

    async def _feed(self, response: web.StreamResponse, reader: Reader | None) -> None:
        async def send(kind: str, body: Json, number: int = 0) -> None:
            text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
            ident = f"id: {number}\n" if number else ""
            async with asyncio.timeout(WRITE_S):
                await response.write(f"event: {kind}\n{ident}data: {text}\n\n".encode())

        await response.write(f"retry: {RETRY_MS}\n\n".encode())
        await send("history", {"points": self._pulse.history})
        beats = 0
        while not self._ending.is_set():
            if self._pulse.beats > beats:
                beats = self._pulse.beats
                await send("pulse", self._pulse.latest)
            if reader is not None:
                batch = await reader.batch()
                if batch is not None:
                    await send("events", batch, reader.position)
            await asyncio.sleep(BATCH_EVERY_S)
        await send("end", {"reason": "this replica is shutting down"})


class Reader:
    """One page's place in the events."""

    def __init__(self, replica: Replica, rows: Rows, wanted: Filter, after: int | None) -> None:
        last = replica.state.last_sequence
        self._replica = replica
        self._rows = rows
        self._wanted = wanted
        # A daemon without a disk counts from 1 again: whoever is ahead of it begins with the next.
        self.position = last if after is None or after > last else after

    async def batch(self) -> Json | None:
        """What has come since the last batch; None if nothing has."""
        replica = self._replica
        state, last = replica.state, replica.state.last_sequence
        self.position = min(self.position, last)
        missed = max(0, state.first_sequence - 1 - self.position)
        newest: deque[Event] = deque(maxlen=BATCH_EVENTS)
        fitting = 0
        for sequence in range(self.position + missed + 1, last + 1):
            event = state.events.get(sequence)
            if event is not None and self._wanted.accepts(event):
                newest.append(event)
                fitting += 1
            if sequence % SCAN_SLICE == 0:
                await replica.turns.take()
        self.position = last
        if not fitting and not missed:
            return None
        return {
            "events": [self._rows.of(event) for event in newest],
            "left_out": fitting - len(newest),
            # Gone before this page came to them; not all of them need have fitted.
            "missed": missed,
        }
