"""How commands reach the cluster: the options `--endpoints` and `--timeout`, and the client."""

from __future__ import annotations

import contextlib
import functools
import logging
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from agentkeeper.cli import variables
from agentkeeper.cli.output import printable
from agentkeeper.cli.parameters import Seconds

if TYPE_CHECKING:
    from agentkeeper.client import AgentKeeperClient

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_ENDPOINT = "localhost:7070"
DEFAULT_TIMEOUT_S = 10.0
COMPLETION_TIMEOUT_S = 1.0
COMPLETIONS = 50
LOOKED_AT = 1_000
HARMLESS = re.compile(r"[A-Za-z0-9_./:@%+=-]+")
"""Words that a shell takes as they are."""
ASKED = "agentkeeper.endpoints"
ASKING = "agentkeeper.command"
"""Where in the context's `meta` endpoints and command are, for those who explain errors."""

ENDS = (signal.SIGTERM, signal.SIGHUP) if hasattr(signal, "SIGHUP") else (signal.SIGTERM,)


class Ended(KeyboardInterrupt):
    """A signal told this process to end."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def endpoints_option(command: F) -> F:
    """Add `--endpoints`; the command gets a list of addresses."""
    return click.option(
        "--endpoints",
        envvar=variables.ENDPOINTS,
        default=DEFAULT_ENDPOINT,
        show_default=True,
        show_envvar=True,
        metavar="HOST:PORT,...",
        callback=_parse_endpoints,
        help="Where the replicas are reached.",
    )(command)


def _parse_endpoints(
    context: click.Context, _parameter: click.Parameter, text: str
) -> Sequence[str]:
    if context.resilient_parsing:  # a line is being completed
        return text.split(",")
    from agentkeeper.client.endpoints import parse_endpoint  # noqa: PLC0415  # not for --help

    try:
        addresses = [parse_endpoint(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--endpoints") from None
    if not addresses:
        raise click.BadParameter("names no endpoint", param_hint="--endpoints")
    context.meta[ASKED] = addresses
    context.meta[ASKING] = context.command_path.partition(" ")[2]
    return addresses


def timeout_option(command: F) -> F:
    """Add `--timeout`; the command gets seconds."""
    return click.option(
        "--timeout",
        type=Seconds(min_open=True),
        envvar=variables.TIMEOUT,
        default=DEFAULT_TIMEOUT_S,
        show_default=True,
        metavar="SECONDS",
        help="When to give up a call.",
    )(command)


def with_client(command: F) -> F:
    """Add the options; the command gets `client`, closed when it ends, however it does."""

    @endpoints_option
    @timeout_option
    @functools.wraps(command)
    def wrapped(*args: Any, endpoints: Sequence[str], timeout: float, **given: Any) -> Any:
        from agentkeeper.client import AgentKeeperClient  # noqa: PLC0415  # not for --help

        if logging.lastResort is not None:
            logging.lastResort.setFormatter(_Brief())
        with signals_end(), AgentKeeperClient(endpoints=endpoints, timeout=timeout) as client:
            return command(*args, client=client, **given)

    return wrapped  # type: ignore[return-value]  # a decorator keeps the type for who reads


class _Brief(logging.Formatter):
    """What the SDK warns of, without the traces of errors that it goes on after."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(record.getMessage())


@contextlib.contextmanager
def signals_end() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end what goes on as Ctrl-C does: what is held is given back."""

    def end(number: int, _frame: FrameType | None) -> None:
        raise Ended(number)

    former = {number: signal.signal(number, end) for number in ENDS}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def completing(
    find: Callable[[AgentKeeperClient, str], Sequence[tuple[str, str]]],
) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """Make a completion of what `find(client, prefix)` returns: words, each with a remark.

    Offers nothing where the cluster does not answer at once, and no word that is more than a word
    to a shell: agents choose names, and who completes one may run it.
    """

    def complete(
        context: click.Context, _parameter: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from agentkeeper import AgentKeeperError  # noqa: PLC0415
        from agentkeeper.client import AgentKeeperClient  # noqa: PLC0415

        endpoints = context.params.get("endpoints") or [DEFAULT_ENDPOINT]
        try:
            with AgentKeeperClient(endpoints=endpoints, timeout=COMPLETION_TIMEOUT_S) as client:
                found = find(client, incomplete)
        except (AgentKeeperError, ValueError):
            return []
        fitting = [
            CompletionItem(word, help=printable(remark))
            for word, remark in found
            if word.startswith(incomplete) and HARMLESS.fullmatch(word)
        ]
        return fitting[:COMPLETIONS]

    return complete


AGENT_IDS = completing(
    lambda client, _prefix: [(a.agent_id, a.card.name) for a in client.list_agents()]
)
LEASES = completing(
    lambda client, prefix: [
        (i.lease.task_id, i.lease.holder_agent_id)
        for i in client.list_leases(prefix, limit=LOOKED_AT)
    ]
)
GROUPS = completing(
    lambda client, prefix: [
        (e.state.group, e.state.leader_agent_id)
        for e in client.list_elections(prefix, limit=LOOKED_AT)
    ]
)
POLICIES = completing(
    lambda client, _prefix: [
        (p.id, f"{p.effect.value} {p.subject}") for p in client.list_policies()
    ]
)
TASKS = completing(
    lambda client, _prefix: [(t.id, f"{t.type} {t.status.value}") for t in client.list_tasks()]
)
