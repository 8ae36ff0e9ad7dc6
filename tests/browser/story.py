"""Something to look at: agents at work, as an afternoon of a small company would show them."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator

from agentkeeper.client import AgentKeeperClient

AGENTS = (
    ("orchestrator", "Splits goals into tasks and hands them out", ["plan"]),
    ("invoice-reader", "Reads incoming invoices and books them", ["pdf", "ocr", "ledger"]),
    ("web-researcher", "Searches the web and writes short reports", ["browser", "summarise"]),
    ("sql-analyst", "Answers questions from the warehouse in SQL", ["sql", "charts"]),
    ("release-notes", "Writes release notes from merged changes", ["git", "summarise"]),
    ("support-triage", "Sorts tickets and drafts first answers", ["tickets", "mail"]),
    ("night-watch", "Looks after dashboards and wakes people", ["alerts", "pager"]),
    ("translator", "Translates documents, keeps the layout", ["pdf", "translate"]),
)
LEASES = ("invoice-2031-0042", "deploy/eu-west", "report:weekly", "crm-sync", "ledger/close-may")
POLICIES = (
    ("finance-ledger", "invoice-*", "write", "ledger/*", "ALLOW"),
    ("no-ledger-close", "*", "write", "ledger/close-*", "DENY"),
    ("read-anything", "*", "read", "*", "ALLOW"),
    ("release-deploy", "release-*", "deploy", "eu-*", "ALLOW"),
)
TASKS = ("summarise-report", "book-invoice", "answer-ticket", "translate-contract")


@contextlib.contextmanager
def told(client: AgentKeeperClient) -> Iterator[None]:
    """The story, which goes on until it is left."""
    with contextlib.ExitStack() as open_things:
        agents = [
            open_things.enter_context(client.register(name, about, "1.4.2", tools, ttl=60))
            for name, about, tools in AGENTS
        ]
        standby = client.register("orchestrator", "Stands by", "1.4.2", ["plan"], ttl=60)
        open_things.enter_context(standby)
        client.register("batch-export", "Exported the May figures", "0.9.0", ["csv"]).deregister()
        for i, task_id in enumerate(LEASES):
            open_things.enter_context(
                client.acquire_lease(task_id, agents[1 + i % 5].agent_id, ttl=120 + 60 * i)
            )
        for agent in (agents[0], standby, agents[6]):
            client.campaign("orchestrators", agent.agent_id)
        client.campaign("night-shift", agents[6].agent_id)
        for policy in POLICIES:
            client.set_policy(*policy)
        for i in range(9):
            client.create_task(TASKS[i % 4], b'{"pages": 12, "language": "en"}', max_retries=2)
        agent = agents[2]
        with contextlib.suppress(Exception):
            for end in ("complete", "fail", "fail", "hold"):
                task = client.claim_task(agent.agent_id, timeout=2)
                if end == "complete":
                    client.complete_task(task.id, agent.agent_id, b'"done"')
                elif end == "fail":
                    client.fail_task(task.id, agent.agent_id, "the scan is blurred")
        yield


def busy(client: AgentKeeperClient, span_s: float) -> None:
    """Work that comes in waves, for a while."""
    began_s = time.monotonic()
    with client.register("batch-export", "Exports the figures of June", "0.9.1", ["csv"]) as agent:
        while (passed_s := time.monotonic() - began_s) < span_s:
            lease = client.acquire_lease("export/june", agent.agent_id)
            if lease is not None:
                lease.release()
            client.check_policy(agent.agent_id, "read", "ledger/june")
            time.sleep(0.01 + 0.03 * (1 + math.sin(passed_s / 6)))
