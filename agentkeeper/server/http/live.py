"""`/api/live`: server-sent events, from which a page knows what to show without asking again.

A reader holds a position in the events that the state keeps, as a watch does; there is no queue
for it, so one that is slow costs nothing and is cut. Many events are sent as few: each batch has
the newest of its span, and says how many it left out.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from aiohttp import web

from agentkeeper.core.epoch import EPOCH_SHIFT
from agentkeeper.core.records import Event
from agentkeeper.server.errors import CallError
from agentkeeper.server.http.api import failed
from agentkeeper.server.http.events import SCAN_SLICE, Filter, Rows, number, only, whole_number
from agentkeeper.server.http.guard import HEADERS
from agentkeeper.server.http.plain import Json
from agentkeeper.server.http.pulse import Pulse, message
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

        Those begin after the sequence number that the header Last-Event-ID or else `after` gives,
        or with the next one. `since` is the time of the last point that the page has. Where there
        is no room, all it is sent is why: a browser does not show the text of a failure.
        """
        # All pages may come at once, when they have lost another replica.
        await self._replica.turns.take()
        try:
            reader, since_ms = self._reader(request), number(request.query, "since")
        except CallError as error:
            return failed(error)
        headers = {**HEADERS, "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        response = web.StreamResponse(headers=headers)
        response.content_type = "text/event-stream"
        self.streams += 1
        try:
            await response.prepare(request)
            await _send(response, f"retry: {RETRY_MS}\n\n".encode())
            if self.streams > STREAMS:
                await _end(response, f"{STREAMS} pages are open on this replica already", full=True)
            else:
                await self._feed(response, reader, since_ms)
                await _end(response, "this replica is shutting down")
        except ConnectionResetError:
            pass  # the page is gone
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()
        finally:
            self.streams -= 1
        return response

    def _reader(self, request: web.Request) -> Reader | None:
        query = request.query
        only(query, Filter.PARAMETERS | {"events", "after", "since"})
        if query.get("events") != "1":
            return None
        after = None
        if resumed := request.headers.get("Last-Event-ID"):
            after = whole_number(resumed, "Last-Event-ID")
        elif "after" in query:
            after = number(query, "after")
        return Reader(self._replica, self._rows, Filter.of(query), after)

    async def _feed(
        self, response: web.StreamResponse, reader: Reader | None, since_ms: int
    ) -> None:
        turns = self._replica.turns
        await _send(response, self._pulse.history(since_ms))
        beats = 0
        while not self._ending.is_set():
            await turns.take()
            if self._pulse.beats > beats and not self._pulse.is_old():
                beats = self._pulse.beats
                await _send(response, self._pulse.latest)
            batch = None if reader is None else await reader.batch()
            if reader is not None and batch is not None:
                await turns.take()
                await _send(response, message("events", batch, reader.position))
            await asyncio.sleep(BATCH_EVERY_S)


async def _send(response: web.StreamResponse, data: bytes) -> None:
    async with asyncio.timeout(WRITE_S):
        await response.write(data)


async def _end(response: web.StreamResponse, reason: str, *, full: bool = False) -> None:
    await _send(response, message("end", {"reason": reason, "full": full}))


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
        if self.position < state.epoch << EPOCH_SHIFT:
            # Of a life before: how many are between is not known, and nothing of it is kept.
            self.position = last
            return {"events": [], "left_out": 0, "missed": None}
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
            # Gone before this page came to them; not all of them need have fitted. None: unknown.
            "missed": missed,
        }
