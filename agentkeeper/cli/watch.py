"""`agentkeeper watch`: events as they happen."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import click

from agentkeeper.cli.connection import with_client
from agentkeeper.cli.output import Output, printable, with_output
from agentkeeper.core import limits
from agentkeeper.types import AgentInfo, ElectionState, Lease, Policy, Task

if TYPE_CHECKING:
    from rich.text import Text

    from agentkeeper import AgentKeeperClient
    from agentkeeper.types import EventPayload, WatchEvent, WatchGap

KINDS = {"agent": "green", "lease": "cyan", "leader": "magenta", "task": "blue", "policy": "yellow"}


@click.command()
@click.argument("prefixes", nargs=-1, metavar="[PREFIX]...")
@click.option(
    "--after",
    type=click.IntRange(0, limits.COUNTER_MAX),
    metavar="N",
    help="Begin after this sequence number: 0 for everything that is kept.  [default: now]",
)
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="Leave after so many.")
@with_client
@with_output
def watch(
    *,
    client: AgentKeeperClient,
    show: Output,
    prefixes: Sequence[str],
    after: int | None,
    count: int | None,
) -> None:
    """Print events as they happen.

    Those whose topic begins with any PREFIX ("task.", "lease.expired"), or all. Goes on at another
    replica when one is lost, without gap or repeat. JSON is one object a line. Where events are no
    longer kept, says so on the standard error and goes on with what there is.
    """
    with client.events(prefixes, after=after, on_gap=_say_gap) as events:
        for number, event in enumerate(events, start=1):
            show.event(event, partial(line_of, event))
            if number == count:
                return


def line_of(event: WatchEvent) -> Text:
    """Return an event in a line: number, time, topic, and what it is about."""
    from rich.text import Text  # noqa: PLC0415  # only for people

    at = event.timestamp.astimezone().strftime("%H:%M:%S")
    about = printable(describe(event.payload))
    reason = f"  ({printable(event.reason)})" if event.reason else ""
    style = KINDS.get(event.topic.partition(".")[0], "")
    return Text.assemble(
        (f"{event.sequence:>6} {at} ", "dim"), (f"{event.topic:<18}", style), f" {about}{reason}"
    )


def describe(payload: EventPayload) -> str:
    """Return what an event is about."""
    if isinstance(payload, AgentInfo):
        return f"{payload.agent_id} {payload.card.name}"
    if isinstance(payload, Lease):
        return f"{payload.task_id} by {payload.holder_agent_id}, token {payload.token}"
    if isinstance(payload, ElectionState):
        leader = payload.leader_agent_id or "nobody"
        return f"{payload.group}: {leader} leads in term {payload.term}"
    if isinstance(payload, Task):
        by = f" by {payload.claimed_by_agent_id}" if payload.claimed_by_agent_id else ""
        return f"{payload.id} {payload.type}{by}"
    if isinstance(payload, Policy):
        what = f"{payload.subject} {payload.action} {payload.resource}"
        return f"{payload.id}: {payload.effect.value} {what}"
    return "(of a kind that is newer than this client)"


def _say_gap(gap: WatchGap) -> None:
    first, last = gap.after + 1, gap.oldest - 1
    what = (
        f"events {first} to {last} are no longer kept"
        if last >= first
        else f"the daemon has lost its memory and counts from {gap.oldest} again"
    )
    click.echo(f"Gap: {what}.", err=True)
