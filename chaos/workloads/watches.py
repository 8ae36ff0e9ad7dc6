"""Watchers of everything, who write down each event; now and then one stops and resumes.

Each goes on where it was, also on another replica, and where the one whose place it took has been.
From its first event on, a watcher's stream has no hole, unless it is told of one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from pathlib import Path
from typing import Any

from agentkeeper import ElectionState, Lease, Policy, Task, WatchEvent, WatchGap, errors
from agentkeeper.types import AgentInfo
from chaos.clients.site import Site, history_path

TURN_S = (2.0, 20.0)
"""How long a watcher stays before it stops and resumes: from and to."""
CATCH_UP_S = 5.0
"""How long it goes on in the end to see all that has happened."""
TAIL_BYTES = 4_000_000
"""Of the end of a former client's history, where the last event that it saw is looked for."""


class _Watcher:
    """Writes down what it is given, and knows how far it is."""

    def __init__(self, site: Site) -> None:
        self.name = _name(site, site.spec.incarnation)
        self.after: int | None = None
        if site.spec.former:
            former = _name(site, site.spec.incarnation - 1)
            self.after = _last_seen(history_path(site.spec, site.spec.former), former)
        self._recorder = site.recorder
        self._news = asyncio.Event()

    def see(self, event: WatchEvent) -> None:
        """An event."""
        payload = _plain(event)
        if event.reason:
            payload["reason"] = event.reason
        self._recorder.saw(self.name, event.sequence, event.topic, payload)
        self.after = event.sequence
        self._news.set()

    async def reach(self, sequence: int) -> None:
        """Wait until it has been given that event."""
        while self.after is None or self.after < sequence:
            self._news.clear()
            await self._news.wait()

    def miss(self, gap: WatchGap) -> None:
        """Events that it will not be given."""
        payload = {"after": gap.after, "oldest": gap.oldest}
        self._recorder.saw(self.name, gap.after, "gap", payload)
        self.after = gap.oldest - 1  # or it would be told once more


async def watch(site: Site) -> None:
    """Watch, in turns: an even-numbered actor by iterating, an odd one by a callback."""
    watcher = _Watcher(site)
    in_turn = _iterate if site.number % 2 == 0 else _be_called
    while True:
        await in_turn(site, watcher)
        await site.pace()


async def _iterate(site: Site, watcher: _Watcher) -> None:
    stream = site.client.events(after=watcher.after, on_gap=watcher.miss)
    try:
        with site.call("watch", watcher.name, after=watcher.after) as opened:
            await stream.opened()
        if not opened.ok:
            return

        async def read() -> None:
            async for event in stream:
                watcher.see(event)

        reading = asyncio.create_task(read())
        try:
            await _turn(site, watcher)
        finally:
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reading
    finally:
        stream.close()


async def _be_called(site: Site, watcher: _Watcher) -> None:
    over = False

    def see(event: WatchEvent) -> None:
        if not over:  # one callback may come after the end
            watcher.see(event)

    with site.call("watch", watcher.name, after=watcher.after) as opened:
        watching = await site.client.watch([], see, after=watcher.after, on_gap=watcher.miss)
    if opened.ok:
        try:
            await _turn(site, watcher)
        finally:
            over = True
            watching.cancel()


async def _turn(site: Site, watcher: _Watcher) -> None:
    """Let it watch for a while; once told to end, until it has seen what has happened by then."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(site.rng.uniform(*TURN_S)):
            await site.stopping.wait()
    if site.stopping.is_set():
        with contextlib.suppress(TimeoutError, errors.Unavailable):
            async with asyncio.timeout(CATCH_UP_S):
                await watcher.reach((await site.client.summary()).last_sequence)


def _name(site: Site, incarnation: int) -> str:
    return f"watch/{site.number}" + (f"#{incarnation + 1}" if incarnation else "")


def _last_seen(path: Path, watcher: str) -> int | None:
    """The last event that a watcher of another process has written down, if one is found."""
    if not path.exists():  # it was killed before it began
        return None
    with path.open("rb") as file:
        size_bytes = file.seek(0, os.SEEK_END)
        file.seek(max(0, size_bytes - TAIL_BYTES))
        lines = file.read().split(b"\n")
    for line in reversed(lines[1:-1]):  # the first and the last may not be whole
        if line.startswith(b'{"saw"'):
            saw = json.loads(line)["saw"]
            if saw["watcher"] == watcher and saw["topic"] != "gap":
                return int(saw["sequence"])
    return None


def _plain(event: WatchEvent) -> dict[str, Any]:
    match event.payload:
        case Lease() as lease:
            return {
                "key": lease.task_id,
                "holder": lease.holder_agent_id,
                "token": lease.token,
            }
        case ElectionState() as state:
            return {"group": state.group, "leader": state.leader_agent_id, "term": state.term}
        case Task() as task:
            return {
                "id": task.id,
                "type": task.type,
                "status": task.status.value,
                "token": task.claim_token,
            }
        case AgentInfo() as agent:
            return {"agent": agent.agent_id, "status": agent.status.value, "reason": agent.reason}
        case Policy() as policy:
            return {"id": policy.id, "subject": policy.subject, "effect": policy.effect.value}
    return {}
