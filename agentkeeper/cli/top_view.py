"""What `top` shows, and where it comes from."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from agentkeeper import AgentKeeperError, Unavailable
from agentkeeper.cli.cluster.report import STATUS_COLUMNS, status_rows
from agentkeeper.cli.output import console, duration, table
from agentkeeper.cli.watch import line_of
from agentkeeper.client import AgentKeeperClient
from agentkeeper.client.status import replica_statuses
from agentkeeper.types import ReplicaStatus, Summary, WatchEvent

PROBE_TIMEOUT_S = 1.0
RATE_WINDOW_S = 10.0
TOPICS_SHOWN = 5
EVENTS_KEPT = 200
LINES_TAKEN = 16
"""By everything but the events and the replicas."""
NARROW_COLUMNS = tuple(column for column in STATUS_COLUMNS if column.heading != "VERSION")


class Traffic:
    """The events of late. Told by the watch's thread, asked by the one that draws."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._recent: deque[WatchEvent] = deque(maxlen=EVENTS_KEPT)
        self._times: deque[tuple[float, str]] = deque()
        self._begin_s = clock()

    def note(self, event: WatchEvent) -> None:
        """Count an event."""
        with self._lock:
            self._recent.append(event)
            self._times.append((self._clock(), event.topic))
            self._forget()

    def recent(self, count: int) -> list[WatchEvent]:
        """Return the newest events, oldest first."""
        with self._lock:
            return list(self._recent)[-count:] if count > 0 else []

    def rates(self) -> dict[str, float]:
        """Return events a second by topic, busiest first, over the last seconds."""
        with self._lock:
            self._forget()
            counts = Counter(topic for _, topic in self._times)
            span_s = min(RATE_WINDOW_S, max(1.0, self._clock() - self._begin_s))
        return {topic: count / span_s for topic, count in counts.most_common()}

    def _forget(self) -> None:
        earliest_s = self._clock() - RATE_WINDOW_S
        while self._times and self._times[0][0] < earliest_s:
            self._times.popleft()


def run(endpoints: Sequence[str], timeout_s: float, interval_s: float, *, once: bool) -> None:
    """Draw until q is pressed, or `once`.

    Also without a leader: then what each replica says of itself, and events once there is one.
    Raises what the SDK raises if no replica answers at all.
    """
    traffic = Traffic(time.monotonic)
    with AgentKeeperClient(endpoints=endpoints, timeout=timeout_s) as client:
        if not any(replica_statuses(endpoints, PROBE_TIMEOUT_S).values()):
            client.summary()
        if once:
            _once(client, endpoints, traffic)
            return
        with (
            contextlib.ExitStack() as watching,
            _keys() as pressed,
            Live(console=console(), screen=True, auto_refresh=False) as live,
        ):
            watched = False
            while True:
                watched = watched or _watch(client, traffic, watching)
                rows = live.console.size.height
                picture = _frame(client, endpoints, traffic, rows, leave="q quits")
                live.update(picture, refresh=True)
                if set(pressed(interval_s)) & {"q", "Q", "\x03"}:
                    return


def _watch(client: AgentKeeperClient, traffic: Traffic, watching: contextlib.ExitStack) -> bool:
    """Count events from now on; False while no replica lets it."""
    with contextlib.suppress(Unavailable):
        watching.enter_context(
            client.watch([], traffic.note, on_gap=lambda gap: None, timeout=PROBE_TIMEOUT_S)
        )
        return True
    return False


def _once(client: AgentKeeperClient, endpoints: Sequence[str], traffic: Traffic) -> None:
    """Print a frame with the events of its last second."""
    with contextlib.ExitStack() as watching:
        if _watch(client, traffic, watching):
            time.sleep(1.0)
    console().print(_frame(client, endpoints, traffic, 24))


def _frame(
    client: AgentKeeperClient,
    endpoints: Sequence[str],
    traffic: Traffic,
    rows: int,
    *,
    leave: str = "",
) -> RenderableType:
    statuses = replica_statuses(endpoints, PROBE_TIMEOUT_S)
    summary: Summary | None = None
    problem = ""
    try:
        summary = client.summary(timeout=PROBE_TIMEOUT_S)
    except AgentKeeperError as error:
        problem = error.details()
    return frame(statuses, summary, traffic, rows, problem, leave=leave)


def frame(
    statuses: Mapping[str, ReplicaStatus | None],
    summary: Summary | None,
    traffic: Traffic,
    rows: int,
    problem: str = "",
    *,
    leave: str = "",
) -> RenderableType:
    """Draw one picture of at most `rows` lines, which fits 80 columns. `leave`: how to."""
    replicas = status_rows(statuses)
    rates = traffic.rates()
    serving = [known for known in statuses.values() if known and not known.not_ready_reason]
    leader = next((known.leader_node_id for known in serving), "")
    state = f"{leader} leads" if leader else "no leader"
    title = Text.assemble(
        ("agentkeeper ", "bold"),
        (state, "bold green" if leader else "bold red"),
        (f"   {sum(rates.values()):.1f} events/s   {time.strftime('%H:%M:%S')}   {leave}", "dim"),
    )
    parts: list[RenderableType] = [
        title,
        Text(problem, style="red"),
        table(replicas, NARROW_COLUMNS),
    ]
    if summary is not None:
        parts += [Text(), _counts(summary)]
    parts += [Text(), _topics(rates), Text()]
    left = max(1, rows - LINES_TAKEN - len(replicas))
    for event in traffic.recent(left):
        line = line_of(event)
        line.no_wrap, line.overflow = True, "ellipsis"
        parts.append(line)
    return Group(*parts)


def _counts(summary: Summary) -> Table:
    """How much of everything there is."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    grid.add_column()
    waited = duration(summary.oldest_pending_ms / 1000) if summary.oldest_pending_ms else "-"
    agents = (
        (f"{summary.agents_alive} ALIVE", "green"),
        (f"{summary.agents_unreachable} UNREACHABLE", "yellow"),
        (f"{summary.agents_dead} DEAD", "red"),
    )
    tasks = (
        (f"{summary.tasks_pending} PENDING", "blue"),
        (f"{summary.tasks_claimed} CLAIMED", "cyan"),
        (f"{summary.tasks_completed} COMPLETED", "green"),
        (f"{summary.tasks_dead} DEAD", "red"),
    )
    grid.add_row("agents", Text("  ").join(Text(*part) for part in agents))
    grid.add_row("tasks", Text("  ").join(Text(*part) for part in tasks))
    grid.add_row("", f"oldest PENDING waits {waited}")
    grid.add_row("leases", f"{summary.leases} held  {summary.lease_waiters} waiting in line")
    grid.add_row("groups", f"{summary.election_groups}   policies {summary.policies}")
    return grid


def _topics(rates: Mapping[str, float]) -> RenderableType:
    busiest = list(rates.items())[:TOPICS_SHOWN]
    if not busiest:
        return Text("no events lately", style="dim")
    text = "   ".join(f"{topic} {rate:.1f}/s" for topic, rate in busiest[:3])
    return Text(text, no_wrap=True, overflow="ellipsis")


@contextlib.contextmanager
def _keys() -> Iterator[Callable[[float], str]]:
    """Give a function that waits for a key for so many seconds and returns it, or nothing."""
    if not sys.stdin.isatty():
        yield lambda seconds: time.sleep(seconds) or ""  # type: ignore[func-returns-value]
        return
    import termios  # noqa: PLC0415  # where there are terminals
    import tty  # noqa: PLC0415

    descriptor = sys.stdin.fileno()
    former = termios.tcgetattr(descriptor)

    def pressed(seconds: float) -> str:
        ready, _, _ = select.select([descriptor], [], [], seconds)
        # Not by `sys.stdin`: that takes all there is, and the next `select` knows of none.
        return os.read(descriptor, 1024).decode(errors="replace") if ready else ""

    try:
        tty.setcbreak(descriptor)
        yield pressed
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, former)
