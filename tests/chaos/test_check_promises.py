"""The checks of single promises: each broken history is caught by the check that it is for."""

from __future__ import annotations

from typing import Any

import pytest

from chaos.checkers import check_all
from chaos.checkers.verdict import TOLD
from chaos.checkers.windows import Windows
from chaos.history import History, Outcome
from tests.chaos.histories import NEVER, Script

TOKENS, TERMS, STORE = "fencing tokens", "terms", "fenced writes"
HOLDERS, CLAIMANTS = "holders of leases", "claimants of tasks"
LEASES_EARLY, CLAIMS_EARLY = "leases not ended early", "claims not ended early"
WORK, WATCHES, EVENTS = "work done once", "watches", "events of writes"
FINDING, FINAL, DIGESTS, ERRORS = "finding agents", "final state", "digests", "errors"


def script_of(workload: str) -> Script:
    script = Script(workload)
    script.register("a")
    script.register("b")
    script.alive(100, "a", "b", "c")
    return script


def test_an_empty_history_holds() -> None:
    assert all(verdict.holds for verdict in check_all(History([])))


def test_every_verdict_says_what_it_is_about() -> None:
    verdicts = check_all(script_of("leases").history)
    assert all(verdict.about.endswith(".") for verdict in verdicts)
    assert len({verdict.name for verdict in verdicts}) == len(verdicts)


def test_many_violations_are_counted_and_few_are_told() -> None:
    script = Script("leases")
    for number in range(TOLD + 5):
        script.call(number, number + 1, "get", "k", outcome=Outcome.BROKEN)
    verdict = script.verdict(ERRORS)
    assert len(verdict.violations) == TOLD + 1
    assert verdict.violations[-1] == "and 5 more"


# ------------------------------------------------------------ tokens and terms


def acquire(script: Script, start_s: float, end_s: float, key: str, token: int) -> None:
    script.call(start_s, end_s, "acquire", key, {"token": token}, agent="a", ttl=5)


def test_a_token_that_falls_is_found() -> None:
    script = script_of("leases")
    acquire(script, 1, 2, "k", 5)
    acquire(script, 1.5, 2, "m", 4)
    assert script.broken() == set()
    acquire(script, 3, 4, "l", 4 - 1)
    assert script.broken() == {TOKENS}


def test_a_token_given_twice_is_found() -> None:
    script = script_of("leases")
    acquire(script, 1, 2, "k", 5)
    acquire(script, 1, 2, "l", 5)
    assert script.broken() == {TOKENS}


def test_tokens_of_leases_and_claims_are_of_one_row() -> None:
    script = script_of("leases")
    acquire(script, 3, 4, "k", 5)
    task = {"id": "t", "type": "type", "token": 4, "retry_count": 0, "expired_claims": 0}
    script.call(5, 6, "claim", "", task, agent="a", workload="other")
    assert script.broken() == {TOKENS}


def campaign(script: Script, start_s: float, agent: str, leader: str, term: int) -> None:
    value = {"leader": leader, "term": term}
    script.call(start_s, start_s + 0.5, "campaign", "g", value, agent=agent)


def test_two_leaders_of_a_term_are_found() -> None:
    script = script_of("elections")
    campaign(script, 1, "a", "a", 1)
    campaign(script, 1.1, "b", "b", 1)
    assert TERMS in script.broken()


def test_a_leader_whom_only_a_watcher_saw_counts() -> None:
    script = script_of("elections")
    campaign(script, 1, "a", "a", 1)
    script.saw(2, 1, "leader.changed", group="g", leader="b", term=1)
    assert script.broken() == {TERMS}


def test_a_term_that_falls_is_found() -> None:
    script = script_of("elections")
    campaign(script, 1, "a", "a", 2)
    campaign(script, 3, "b", "b", 1)
    assert TERMS in script.broken()


# ------------------------------------------------------------ holders


def test_two_certain_holders_are_found() -> None:
    script = script_of("leases")
    acquire(script, 1, 2, "k", 1)
    script.call(5, 5.1, "renew", "k", {"token": 1}, agent="a", token=1, ttl=5)
    script.call(7, 9.9, "acquire", "k", {"token": 2}, agent="b", ttl=5)
    assert HOLDERS in script.broken()


def test_after_a_release_there_may_be_another() -> None:
    script = script_of("leases")
    acquire(script, 1, 2, "k", 1)
    script.call(2, 4, "release", "k", agent="a", token=1)
    script.call(3, 3.5, "acquire", "k", {"token": 2}, agent="b", ttl=5)
    assert script.broken() == set()


def test_what_the_sdk_renews_may_be_given_back_a_little_early() -> None:
    script = script_of("leases")
    value = {"token": 1}
    script.call(1, 2, "acquire", "k", value, agent="a", ttl=10, keep_alive=True)
    script.call(10, 10.9, "acquire", "k", {"token": 2}, agent="b", ttl=5)
    assert script.broken() == set()
    script.call(12, 12.1, "acquire", "k", {"token": 3}, agent="a", ttl=5)
    assert HOLDERS in script.broken()


@pytest.mark.parametrize("error", ["StaleToken", "NotFound"])
@pytest.mark.parametrize("call", ["renew", "release"])
def test_a_renewal_in_time_that_is_refused_is_found(error: str, call: str) -> None:
    script = script_of("leases")
    acquire(script, 1, 2, "k", 1)
    script.call(4, 4.1, "renew", "k", {"token": 1}, agent="a", token=1, ttl=5)
    script.call(8, 8.5, call, "k", error=error, agent="a", token=1, ttl=5)
    assert LEASES_EARLY in script.broken()


def test_a_renewal_that_came_too_late_may_be_refused() -> None:
    script = script_of("leases")
    acquire(script, 1, 2, "k", 1)
    script.call(5, 6.1, "renew", "k", error="NotFound", agent="a", token=1, ttl=5)
    assert script.broken() == set()


def test_a_renewal_after_an_acquisition_anew_may_be_refused() -> None:
    script = script_of("leases")
    acquire(script, 1, 2, "k", 1)
    acquire(script, 3, 3.5, "k", 2)
    script.call(4, 4.1, "renew", "k", error="StaleToken", agent="a", token=1, ttl=5)
    assert script.broken() == set()


def test_a_falling_write_that_was_accepted_is_found() -> None:
    script = script_of("leases")
    script.write("k", 2, "a")
    script.write("k", 1, "b", accepted=False)
    script.write("l", 1, "b")
    assert script.broken() == set()
    script.write("k", 1, "b")
    assert script.broken() == {STORE}


def test_two_writers_under_one_token_are_found() -> None:
    script = script_of("leases")
    script.write("k", 2, "a")
    script.write("k", 2, "b")
    assert script.broken() == {STORE}


# ------------------------------------------------------------ tasks


def created(script: Script, task_id: str = "t", start_s: float = 1, **args: Any) -> None:
    args = {"max_retries": 1, "ttl": 2, "idempotency_key": ""} | args
    script.call(start_s, start_s + 0.5, "create", "type", {"id": task_id}, **args)


def claimed(script: Script, start_s: float, agent: str, token: int) -> None:
    value = {"id": "t", "type": "type", "token": token, "retry_count": 0, "expired_claims": 0}
    script.call(start_s, start_s + 0.5, "claim", "", value, agent=agent)


def test_a_task_completed_twice_is_found() -> None:
    script = script_of("tasks")
    created(script)
    claimed(script, 2, "a", 1)
    script.call(3, 3.1, "complete", "t", agent="a", token=1)
    script.call(3, 3.1, "complete", "t", agent="a", token=1)
    assert WORK in script.broken()


def test_a_task_made_twice_is_found() -> None:
    script = script_of("tasks")
    created(script, idempotency_key="once")
    created(script, start_s=3, idempotency_key="once")
    assert script.broken() == set()
    created(script, "u", start_s=3, idempotency_key="once")
    assert script.broken() == {WORK}


def test_two_claims_at_once_are_found() -> None:
    script = script_of("tasks")
    created(script)
    claimed(script, 2, "a", 1)
    claimed(script, 3, "b", 2)
    assert CLAIMANTS in script.broken()


def test_a_claim_ended_early_is_found() -> None:
    script = script_of("tasks")
    created(script)
    claimed(script, 2, "a", 1)
    script.call(3.5, 3.9, "complete", "t", error="StaleToken", agent="a", token=1)
    assert CLAIMS_EARLY in script.broken()


@pytest.mark.parametrize(
    ("status", "completed", "holds"),
    [
        ("COMPLETED", True, True),
        ("PENDING", True, False),
        ("COMPLETED", False, False),
        ("PENDING", False, True),
        ("DEAD", False, True),
        ("", False, False),
    ],
)
def test_tasks_end_as_they_were_told(status: str, completed: bool, holds: bool) -> None:
    script = script_of("tasks")
    created(script)
    claimed(script, 2, "a", 1)
    if completed:
        script.call(3, 3.1, "complete", "t", agent="a", token=1)
    agents = [{"agent": a, "status": "ALIVE", "reason": ""} for a in ("a", "b")]
    script.final(50, agents=agents, tasks=[{"id": "t", "status": status}] if status else [])
    assert script.broken() == (set() if holds else {WORK})


# ------------------------------------------------------------ events


def watched() -> Script:
    """A history in which each write has its event; the first and last are to enclose the others."""
    script = Script("policies")
    script.call(1, 2, "set", "s", effect="ALLOW", id="p")
    script.saw(2, 1, "policy.set", id="p", subject="s", effect="ALLOW")
    script.call(3, 4, "set", "s", effect="DENY", id="p")
    script.saw(4, 2, "policy.set", id="p", subject="s", effect="DENY")
    script.call(5, 6, "delete", "s", id="p")
    script.saw(6, 3, "policy.deleted", id="p", subject="s", effect="DENY")
    script.register("z", 10)
    script.saw(11, 4, "agent.registered", agent="z", status="ALIVE", reason="")
    script.alive(20, "z", "c")
    return script


def test_a_watch_that_saw_all_holds() -> None:
    assert watched().broken() == set()
    assert watched().verdict(EVENTS).checked == 2  # the first was before, the last is the end


def test_a_jump_is_found() -> None:
    script = watched()
    del script.history.seen[1]
    assert WATCHES in script.broken()


def test_a_gap_that_was_told_is_counted() -> None:
    script = watched()
    script.history.seen[1].topic = "gap"
    script.history.seen[1].payload = {"after": 1, "oldest": 3}
    assert script.broken() == set()
    assert script.verdict(WATCHES).undecided == 1
    assert script.verdict(EVENTS).undecided == 1


def test_an_event_given_twice_is_found() -> None:
    script = watched()
    script.history.seen.insert(2, script.history.seen[1])
    assert script.broken() == {WATCHES}


def test_watchers_that_differ_are_found() -> None:
    script = watched()
    script.saw(7, 2, "policy.set", "other", id="p", subject="s", effect="ALLOW")
    assert script.broken() == {WATCHES}


def test_a_counter_that_begins_anew_is_found() -> None:
    script = watched()
    script.saw(12, 4, "gap", after=4, oldest=1)
    assert script.broken() == {WATCHES}


def test_a_missing_event_is_found() -> None:
    script = watched()
    script.history.seen[1].payload["effect"] = "ALLOW"
    assert script.broken() == {EVENTS}


def test_one_write_with_two_events_is_found() -> None:
    script = watched()
    script.saw(12, 5, "agent.registered", agent="z", status="ALIVE", reason="")
    assert script.broken() == {EVENTS}


def test_what_was_before_the_watcher_is_not_missed() -> None:
    script = watched()
    script.call(0, 0.5, "set", "s", effect="DENY", id="q")
    script.call(0.6, 0.7, "delete", "s", id="q")
    assert script.broken() == set()


def test_tokens_that_fall_from_event_to_event_are_found() -> None:
    script = Script("leases")
    script.saw(1, 1, "lease.acquired", key="k", holder="a", token=2)
    script.saw(2, 2, "lease.acquired", key="l", holder="a", token=1)
    assert script.broken() == {WATCHES}


@pytest.mark.parametrize(("term", "holds"), [(2, True), (1, False), (3, False)])
def test_terms_rise_by_one(term: int, holds: bool) -> None:
    script = Script("elections")
    script.saw(1, 1, "leader.changed", group="g", leader="a", term=1)
    script.saw(2, 2, "leader.changed", group="g", leader="", term=1)
    script.saw(3, 3, "leader.changed", group="g", leader="a", term=term)
    assert (WATCHES not in script.broken()) == holds


# ------------------------------------------------------------ finding


def finding() -> Script:
    script = Script("registry")
    script.register("a", tools=["t"])
    script.register("b", tools=["t"])
    script.alive(100, "a", "b", "c")
    return script


def find(script: Script, start_s: float, *agents: str, limit: int = 10) -> None:
    script.call(start_s, start_s + 1, "find", "t", {"agents": list(agents)}, limit=limit)


def test_all_agents_are_found() -> None:
    script = finding()
    find(script, 1, "a", "b")
    find(script, 1, "a", limit=1)
    script.call(3, 4, "deregister", "a")
    find(script, 3, "b")
    find(script, 2.5, "a", "b")
    find(script, 5, "b")
    assert script.broken() == set()


def test_an_agent_that_was_not_found_is_told() -> None:
    script = finding()
    find(script, 1, "a")
    assert script.broken() == {FINDING}
    script.fault("b", "paused", 0.5, 1.5)
    assert script.broken() == set()


def test_an_agent_found_after_its_end_is_told() -> None:
    script = finding()
    script.call(3, 4, "deregister", "a")
    find(script, 5, "a", "b")
    assert script.broken() == {FINDING}


def test_an_agent_without_the_tool_is_told() -> None:
    script = finding()
    script.register("x", tools=["u"])
    script.alive(100, "x")
    find(script, 5, "a", "b", "x")
    assert script.broken() == {FINDING}


# ------------------------------------------------------------ the end


def test_replicas_that_differ_are_found() -> None:
    script = Script("policies")
    script.final(9).digests["r1"] = "another"
    assert script.broken() == {DIGESTS}


def test_errors_that_nobody_promised_are_found() -> None:
    script = Script("policies")
    script.call(1, 2, "check", "s", outcome=Outcome.BROKEN)
    assert script.broken() == {ERRORS}


@pytest.mark.parametrize(("effect", "holds"), [("DENY", True), ("ALLOW", False), ("", False)])
def test_the_last_policy_is_there(effect: str, holds: bool) -> None:
    script = Script("policies")
    script.call(1, 2, "set", "s", effect="ALLOW", id="p")
    script.call(3, 4, "set", "s", effect="DENY", id="p")
    script.final(9, policies=[{"id": "p", "effect": effect}] if effect else [])
    assert script.broken() == (set() if holds else {FINAL})


def test_the_last_policy_may_be_one_of_two() -> None:
    script = Script("policies")
    script.call(1, 4, "set", "s", effect="ALLOW", id="p")
    script.call(3, 5, "set", "s", effect="DENY", id="p")
    script.call(1, NEVER, "delete", "s", id="p")
    for policies in ([{"id": "p", "effect": "ALLOW"}], [{"id": "p", "effect": "DENY"}], []):
        script.final(9, policies=policies)
        assert script.broken() == set()


@pytest.mark.parametrize(
    ("row", "holds"),
    [
        ({"status": "ALIVE", "reason": ""}, True),
        ({"status": "DEAD", "reason": "timed_out"}, False),
        ({"status": "DEAD", "reason": "deregistered"}, False),
        (None, False),
    ],
)
def test_agents_are_there(row: dict[str, Any] | None, holds: bool) -> None:
    script = script_of("registry")
    agents = [{"agent": "b", "status": "ALIVE", "reason": ""}]
    script.final(50, agents=agents + ([{"agent": "a", **row}] if row else []))
    assert script.broken() == (set() if holds else {FINAL})


def test_agents_whose_clients_ended_may_be_dead() -> None:
    script = script_of("registry")
    row = {"status": "DEAD", "reason": "timed_out"}
    script.final(200, agents=[{"agent": a, **row} for a in ("a", "b")])
    assert script.broken() == set()


def test_a_deregistered_agent_that_lives_is_found() -> None:
    script = script_of("registry")
    script.call(1, 2, "deregister", "a")
    row = {"status": "ALIVE", "reason": ""}
    script.final(50, agents=[{"agent": a, **row} for a in ("a", "b")])
    assert script.broken() == {FINAL}


@pytest.mark.parametrize(
    ("leases", "holds"),
    [
        ([{"key": "k", "holder": "a", "token": 2}], True),
        ([{"key": "k", "holder": "a", "token": 1}], False),
        ([], False),
    ],
)
def test_leases_are_there(leases: list[dict[str, Any]], holds: bool) -> None:
    script = script_of("leases")
    acquire(script, 1, 2, "k", 1)
    script.call(3, 4, "release", "k", agent="a", token=1)
    script.call(5, 6, "acquire", "k", {"token": 2}, agent="a", ttl=60)
    agents = [{"agent": a, "status": "ALIVE", "reason": ""} for a in ("a", "b")]
    script.final(50, leases=leases, agents=agents)
    assert script.broken() == (set() if holds else {FINAL})


@pytest.mark.parametrize(
    ("leader", "term", "holds"),
    [("a", 1, True), ("", 1, True), ("b", 2, True), ("b", 1, False), ("a", 0, False)],
)
def test_terms_are_there(leader: str, term: int, holds: bool) -> None:
    script = script_of("elections")
    campaign(script, 1, "a", "a", 1)
    agents = [{"agent": a, "status": "ALIVE", "reason": ""} for a in ("a", "b")]
    row = {"group": "g", "leader": leader, "term": term, "candidates": []}
    script.final(50, elections=[row], agents=agents)
    assert script.broken() == (set() if holds else {FINAL})


def test_windows_meet() -> None:
    windows = Windows([(5, 9), (1, 2), (6, 7), (9, 12)])
    assert windows.meet(2, 3)
    assert windows.meet(0, 1)
    assert windows.meet(10, 30)
    assert not windows.meet(3, 4)
    assert not windows.meet(13, 30)
    assert not Windows([]).meet(0, 9)
