"""What is there in the end: every acknowledged write that nothing undid."""

from __future__ import annotations

from collections import defaultdict

from chaos.checkers.holders import leases_held
from chaos.checkers.lives import Lives, may_have_effect
from chaos.checkers.verdict import Findings, Verdict
from chaos.history import Final, History, Operation, Outcome

DEAD_AGENTS = 20_000
"""The cluster remembers as many, for an hour."""
REMEMBERED_NS = 3_500 * 1_000_000_000


def check_presence(history: History, lives: Lives) -> list[Verdict]:
    """The final state, and that no call broke what the SDK promises of its errors."""
    verdicts = [_errors(history)]
    if history.final is not None:
        findings = Findings(history)
        _policies(findings, history, history.final)
        _agents(findings, history, history.final, lives)
        _leases(findings, history, history.final, lives)
        _elections(findings, history, history.final)
        about = "Every acknowledged write that nothing undid is there in the end."
        verdicts += [findings.verdict("final state", about), _digests(history, history.final)]
    return verdicts


def _errors(history: History) -> Verdict:
    findings = Findings(history, checked=len(history.operations))
    for operation in history.operations:
        if operation.outcome is Outcome.BROKEN:
            findings.add(operation.details or "an error that is none of the SDK's", operation)
    return findings.verdict(
        "errors", "Every error that a call raised is one that the SDK promises."
    )


def _digests(history: History, final: Final) -> Verdict:
    findings = Findings(history, checked=len(final.digests))
    if len(set(final.digests.values())) != 1:
        said = ", ".join(f"{name}: {digest}" for name, digest in sorted(final.digests.items()))
        findings.add(f"replicas differ at index {final.applied_index}: {said}")
    return findings.verdict("digests", "All replicas have the same state at the same log index.")


def _policies(findings: Findings, history: History, final: Final) -> None:
    """The last write of a policy is one after whose end no acknowledged one began."""
    by_id: defaultdict[str, list[Operation]] = defaultdict(list)
    for operation in history.of("policies"):
        if operation.call in ("set", "delete") and may_have_effect(operation.outcome):
            by_id[str(operation.args["id"])].append(operation)
    there = {row["id"]: str(row["effect"]).upper() for row in final.policies}
    for policy_id, writes in by_id.items():
        findings.checked += 1
        acknowledged = [o for o in writes if o.outcome is Outcome.OK]
        last_start_ns = max((o.start_ns for o in acknowledged), default=0)
        last = [o for o in writes if o.outcome is not Outcome.OK or o.end_ns >= last_start_ns]
        allowed = {_effect(operation) for operation in last}
        if not acknowledged:
            allowed.add("")
        if there.get(policy_id, "") not in allowed:
            is_now = there.get(policy_id) or "not there"
            findings.add(f"policy {policy_id} is {is_now} in the end", *last[-2:])


def _effect(write: Operation) -> str:
    return str(write.args["effect"]).upper() if write.call == "set" else ""


def _agents(findings: Findings, history: History, final: Final, lives: Lives) -> None:
    there = {row["agent"]: row for row in final.agents}
    remember = len(there) < DEAD_AGENTS
    for operation in history.operations:
        if operation.outcome is not Outcome.OK:
            continue
        if operation.call == "register":
            agent = operation.value["agent"]
            findings.checked += 1
            row = there.get(agent)
            if row is None:
                if remember and final.at_ns - operation.start_ns < REMEMBERED_NS:
                    findings.add(f"agent {agent} is gone", operation)
                continue
            dead = str(row["status"]).upper() == "DEAD"
            timed_out = dead and row.get("reason") == "timed_out"
            if timed_out and lives.timed_out_from(agent) > final.at_ns:
                findings.add(f"agent {agent} died though it was kept alive", operation)
            elif dead and lives.silent_from(agent) > final.at_ns:
                findings.add(f"agent {agent} is DEAD: {row.get('reason')}", operation)
        elif operation.call == "deregister":
            row = there.get(operation.key)
            if row is not None and str(row["status"]).upper() != "DEAD":
                findings.add(f"agent {operation.key} is {row['status']}", operation)


def _leases(findings: Findings, history: History, final: Final, lives: Lives) -> None:
    there = {row["key"]: row for row in final.leases}
    for key, holds in leases_held(history, lives).items():
        if not holds:
            continue
        findings.checked += 1
        row, last = there.get(key), holds[-1]
        token = 0 if row is None else row["token"]
        if row is not None and token < last.token:
            findings.add(f"lease {key!r} is held under {token}, of before", last.granted)
        if last.certain_until() > final.at_ns and token != last.token:
            findings.add(f"lease {key!r} is not held under {last.token}", last.granted)
        for hold in holds:
            for operation in hold.later:
                released = operation.call == "release" and operation.outcome is Outcome.OK
                if released and token == hold.token:
                    findings.add(f"lease {key!r} is held under a released token", operation)


def _elections(findings: Findings, history: History, final: Final) -> None:
    there = {row["group"]: row for row in final.elections}
    for operation in history.of("elections"):
        if operation.call not in ("campaign", "get") or operation.outcome is not Outcome.OK:
            continue
        findings.checked += 1
        row, value = there.get(operation.key), operation.value
        if row is None:
            findings.add(f"group {operation.key!r} is gone", operation)
        elif row["term"] < value["term"]:
            findings.add(f"group {operation.key!r} is in term {row['term']}", operation)
        elif row["term"] == value["term"] and row["leader"] not in ("", value["leader"]):
            said = f"{row['leader']} leads {operation.key!r} in the end, in the same term"
            findings.add(said, operation)
