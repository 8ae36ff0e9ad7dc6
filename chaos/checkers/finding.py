"""What `find` answers: all agents that were certainly there, and none that was certainly not."""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

from chaos.checkers.lives import Lives
from chaos.checkers.verdict import Findings, Verdict
from chaos.history import FOREVER_NS, History, Operation, Outcome

LIMIT = 10
"""Of answers, where the call asked for none."""


class _Agent(NamedTuple):
    agent: str
    from_ns: int
    """It was certainly registered by then."""
    until_ns: int
    """Until then it was certainly ALIVE."""
    registered: Operation


def check_finding(history: History, lives: Lives) -> Verdict:
    """All answers of `find`."""
    findings = Findings(history)
    answered = [o for o in history.operations if o.outcome is Outcome.OK]
    by_tool: defaultdict[str, list[_Agent]] = defaultdict(list)
    tools: dict[str, set[str]] = {}
    searches: defaultdict[str, list[Operation]] = defaultdict(list)
    for o in answered:
        if o.call == "register":
            agent = o.value["agent"]
            tools[agent] = set(o.args.get("tools") or ())
            for tool in tools[agent]:
                until_ns = lives.silent_from(agent)
                by_tool[tool].append(_Agent(agent, o.end_ns, until_ns, o))
        elif o.call == "find":
            searches[o.key].append(o)
    gone_by = {o.key: o.end_ns for o in answered if o.call == "deregister"}
    for tool, of_tool in searches.items():
        for search in of_tool:
            for agent in search.value["agents"]:
                if gone_by.get(agent, FOREVER_NS) < search.start_ns:
                    findings.add(f"{agent} was found after it had been deregistered", search)
                elif agent in tools and tool not in tools[agent]:
                    findings.add(f"{agent} was found, which has not that tool", search)
        findings.checked += len(of_tool)
        _none_missing(findings, of_tool, by_tool[tool])
    return findings.verdict(
        "finding agents",
        "Every answer has all agents that were certainly ALIVE, and none that was deregistered.",
    )


def _none_missing(findings: Findings, searches: list[Operation], agents: list[_Agent]) -> None:
    """Both in the order of their times: the agents that may be there yet are few."""
    coming = sorted(agents, key=lambda agent: agent.from_ns, reverse=True)
    there: list[_Agent] = []
    for search in searches:
        while coming and coming[-1].from_ns < search.start_ns:
            there.append(coming.pop())
        there = [agent for agent in there if agent.until_ns > search.start_ns]
        found = set(search.value["agents"])
        if len(found) >= int(search.args.get("limit") or LIMIT):
            continue
        for agent in there:
            if agent.until_ns > search.end_ns and agent.agent not in found:
                findings.add(f"{agent.agent} was not found", agent.registered, search)
