from __future__ import annotations

import itertools
import random

import pytest

from chaos.checkers import check_all
from chaos.history import History, Outcome
from tests.chaos.histories import NEVER, Script
from tests.chaos.naive import Player

LEASES = "linearizability of leases"
ELECTIONS = "linearizability of elections"
TASKS = "linearizability of tasks"
REGISTRY = "linearizability of the registry"
POLICIES = "linearizability of policies"


def violations(history: History) -> dict[str, list[str]]:
    return {v.name: v.violations for v in check_all(history) if v.violations}


# ------------------------------------------------------------ a naive cluster


@pytest.mark.parametrize("workload", ["leases", "elections", "tasks"])
@pytest.mark.parametrize("seed", range(8))
def test_a_naive_cluster_passes_all_checks(workload: str, seed: int) -> None:
    history = Player(seed, workload).play(400)
    assert violations(history) == {}


@pytest.mark.parametrize(("workload", "least"), [("leases", 20), ("elections", 30), ("tasks", 30)])
def test_swapped_answers_are_mostly_found(workload: str, least: int) -> None:
    found = 0
    for seed in range(40):
        history = Player(seed, workload, unsure=0).play(300)
        gets = [o for o in history.operations if o.call == "get" and o.outcome is Outcome.OK]
        random.Random(seed).shuffle(gets)
        pairs = itertools.combinations(gets, 2)
        one, other = next((a, b) for a, b in pairs if a.key == b.key and a.value != b.value)
        one.value, other.value = other.value, one.value
        found += bool(violations(history))
    assert found >= least


@pytest.mark.parametrize(
    ("workload", "call", "least"),
    [("leases", "acquire", 30), ("elections", "campaign", 20), ("tasks", "claim", 30)],
)
def test_dropped_writes_are_mostly_found(workload: str, call: str, least: int) -> None:
    """Of those that changed something: a grant, a claim, a campaign that made a candidate."""
    found = 0
    for seed in range(40):
        player = Player(seed, workload, unsure=0)
        history = player.play(300)
        changing = player.joins or [o for o in history.operations if o.call == call and o.value]
        history.operations.remove(changing[len(changing) // 2])
        found += bool(violations(history))
    assert found >= least


def test_twenty_thousand_calls_are_all_decided() -> None:
    history = History([])
    for seed in range(50):
        one = Player(seed, "elections", unsure=0.01).play(450)
        for operation in one.operations:
            operation.key = f"{seed}-{operation.key}"
        history.operations += [o for o in one.operations if o.workload == "elections"]
    history.operations.sort(key=lambda o: o.start_ns)
    verdict = next(v for v in check_all(history, budget=20_000) if v.name == ELECTIONS)
    assert verdict.holds
    assert verdict.undecided == 0
    assert verdict.checked > 20_000


# ------------------------------------------------------------ leases


def leases() -> Script:
    script = Script("leases")
    script.register("a")
    script.register("b")
    script.alive(100, "a", "b", "c")
    return script


def test_a_lease_passes_on_when_its_ttl_is_over() -> None:
    script = leases()
    script.call(1, 2, "acquire", "k", {"token": 1}, agent="a", ttl=5)
    script.call(3, 4, "acquire", "k", None, agent="b", ttl=5)
    script.call(5, 6.1, "acquire", "k", {"token": 2}, agent="b", ttl=5)
    script.call(7, 7.1, "renew", "k", error="StaleToken", agent="a", token=1, ttl=5)
    assert violations(script.history) == {}


def test_a_lease_that_ends_early_is_found() -> None:
    script = leases()
    script.call(1, 2, "acquire", "k", {"token": 1}, agent="a", ttl=5)
    script.call(5, 5.9, "acquire", "k", {"token": 2}, agent="b", ttl=5)
    assert script.broken() == {LEASES, "holders of leases"}
    told = violations(script.history)[LEASES]
    assert len(told) == 1
    assert "'k': 1 calls can be put in an order" in told[0]
    assert "b/actor acquire" in told[0]


def test_a_renewal_makes_a_lease_last() -> None:
    script = leases()
    script.call(1, 2, "acquire", "k", {"token": 1}, agent="a", ttl=5)
    script.call(4, 4.1, "renew", "k", {"token": 1}, agent="a", token=1, ttl=5)
    script.call(7, 8, "acquire", "k", {"token": 2}, agent="b", ttl=5)
    assert LEASES in script.broken()


@pytest.mark.parametrize("kind", ["killed", "paused"])
def test_a_dead_agent_has_no_lease(kind: str) -> None:
    script = leases()
    script.call(1, 2, "acquire", "k", {"token": 1}, agent="a", ttl=60)
    script.call(20, 21, "acquire", "k", {"token": 2}, agent="b", ttl=5)
    assert LEASES in script.broken()
    script.fault("a", kind, 3, 16)
    assert violations(script.history) == {}


def test_a_short_pause_is_no_death() -> None:
    script = leases()
    script.call(1, 2, "acquire", "k", {"token": 1}, agent="a", ttl=60)
    script.call(20, 21, "acquire", "k", {"token": 2}, agent="b", ttl=5)
    script.fault("a", "paused", 3, 5)
    assert LEASES in script.broken()


@pytest.mark.parametrize("call", ["release", "renew"])
def test_after_an_unanswered_call_a_lease_may_be_over(call: str) -> None:
    script = leases()
    script.call(1, 2, "acquire", "k", {"token": 1}, agent="a", ttl=60)
    script.call(4, NEVER, call, "k", agent="a", token=1, ttl=2)
    script.call(7, 8, "get", "k", error="NotFound")
    assert violations(script.history) == {}


def test_a_stale_read_of_a_lease_is_found() -> None:
    script = leases()
    script.call(1, 2, "acquire", "k", {"token": 1}, agent="a", ttl=5)
    script.call(3, 4, "release", "k", agent="a", token=1)
    script.call(5, 6, "get", "k", {"holder": "a", "token": 1})
    assert script.broken() == {LEASES}


def test_a_grant_that_passed_may_be_seen() -> None:
    script = leases()
    script.call(1, NEVER, "acquire", "k", agent="b", ttl=5, wait=2)
    script.call(3, 4, "get", "k", {"holder": "b", "token": 7})
    script.call(5, 6, "acquire", "k", {"token": 8}, agent="a", ttl=5)
    assert violations(script.history) == {}


def test_a_holder_out_of_nowhere_is_found() -> None:
    script = leases()
    script.call(3, 4, "get", "k", {"holder": "b", "token": 7})
    assert script.broken() == {LEASES}


def test_the_holder_may_acquire_anew_but_not_exclusively() -> None:
    script = leases()
    script.call(1, 2, "acquire", "k", {"token": 1}, agent="a", ttl=5)
    script.call(3, 3.1, "acquire", "k", None, agent="a", ttl=5, exclusive=True)
    script.call(3.2, 3.3, "acquire", "k", {"token": 2}, agent="a", ttl=5)
    assert violations(script.history) == {}
    script.call(3.4, 3.5, "acquire", "k", None, agent="a", ttl=5)
    assert script.broken() == {LEASES}


def test_a_refusal_without_a_holder_is_found() -> None:
    script = leases()
    script.call(3, 4, "acquire", "k", None, agent="b", ttl=5)
    script.call(5, 6, "renew", "l", error="StaleToken", agent="b", token=7, ttl=5)
    assert script.broken() == {LEASES}
    assert len(violations(script.history)[LEASES]) == 2


@pytest.mark.parametrize(("valid", "holds"), [(True, True), (False, False)])
def test_a_token_is_valid_while_it_is_held(valid: bool, holds: bool) -> None:
    script = leases()
    script.call(1, 2, "acquire", "k", {"token": 1}, agent="a", ttl=5)
    script.call(3, 4, "verify", "k", {"valid": valid}, token=1)
    assert (LEASES not in script.broken()) == holds


# ------------------------------------------------------------ elections


def elections() -> Script:
    script = Script("elections")
    for agent in ("a", "b", "c"):
        script.register(agent)
    script.alive(100, "a", "b", "c")
    script.call(1, 2, "campaign", "g", {"leader": "a", "term": 1}, agent="a")
    script.call(3, 4, "campaign", "g", {"leader": "a", "term": 1}, agent="b")
    return script


def test_the_next_candidate_leads_in_the_next_term() -> None:
    script = elections()
    script.call(5, 6, "resign", "g", agent="a")
    script.call(7, 8, "get", "g", {"leader": "b", "term": 2, "candidates": ["b"]})
    script.call(8, 9, "resign", "g", agent="b")
    script.call(10, 11, "get", "g", {"leader": "", "term": 2, "candidates": []})
    assert violations(script.history) == {}


def test_a_leader_displaced_is_found() -> None:
    script = elections()
    script.call(7, 8, "get", "g", {"leader": "b", "term": 2, "candidates": ["b", "a"]})
    assert script.broken() == {ELECTIONS}


def test_a_candidate_out_of_turn_is_found() -> None:
    script = elections()
    script.call(4.1, 4.9, "campaign", "g", {"leader": "a", "term": 1}, agent="c")
    script.call(5, 6, "resign", "g", agent="a")
    script.call(7, 8, "get", "g", {"leader": "c", "term": 2, "candidates": ["c", "b"]})
    assert script.broken() == {ELECTIONS}


def test_a_term_left_out_is_found() -> None:
    script = elections()
    script.call(5, 6, "resign", "g", agent="a")
    script.call(7, 8, "get", "g", {"leader": "b", "term": 3, "candidates": ["b"]})
    assert script.broken() == {ELECTIONS}


def test_a_dead_leader_is_followed() -> None:
    script = elections()
    script.call(30, 31, "get", "g", {"leader": "b", "term": 2, "candidates": ["b"]})
    assert script.broken() == {ELECTIONS}
    script.fault("a", "killed", 5)
    assert violations(script.history) == {}


def test_candidates_about_to_die_are_passed_over() -> None:
    script = elections()
    script.call(4.1, 4.9, "campaign", "g", {"leader": "a", "term": 1}, agent="c")
    script.fault("a", "killed", 5)
    script.fault("b", "killed", 5)
    script.call(30, 31, "get", "g", {"leader": "c", "term": 2, "candidates": ["c"]})
    assert violations(script.history) == {}


def test_who_deregisters_leaves() -> None:
    script = elections()
    script.call(5, 6, "deregister", "a", client="a")
    script.call(7, 8, "get", "g", {"leader": "a", "term": 1, "candidates": ["a", "b"]})
    assert script.broken() == {ELECTIONS}


# ------------------------------------------------------------ tasks


def tasks() -> Script:
    script = Script("tasks")
    script.register("a")
    script.register("b")
    script.alive(100, "a", "b", "c")
    script.call(1, 2, "create", "type", {"id": "t"}, max_retries=1, ttl=2, idempotency_key="")
    return script


def claim(script: Script, start_s: float, agent: str, token: int, retries: int = 0) -> None:
    value = {"id": "t", "type": "type", "token": token, "retry_count": retries}
    value["expired_claims"] = 0
    script.call(start_s, start_s + 0.5, "claim", "", value, agent=agent)


def seen(script: Script, start_s: float, status: str, token: int = 0, retries: int = 0) -> None:
    value = {"status": status, "token": token, "retry_count": retries}
    script.call(start_s, start_s + 0.1, "get", "t", value)


def test_a_task_is_retried_and_completed() -> None:
    script = tasks()
    claim(script, 2, "a", 1)
    script.call(3, 3.1, "fail", "t", agent="a", token=1)
    claim(script, 4, "b", 2, retries=1)
    script.call(5, 5.1, "complete", "t", error="StaleToken", agent="a", token=1)
    script.call(5, 5.1, "complete", "t", agent="b", token=2)
    script.call(5.2, 5.3, "complete", "t", error="Refused", agent="b", token=2)
    seen(script, 6, "COMPLETED", 2, 1)
    assert violations(script.history) == {}


def test_a_claim_that_ends_early_is_found() -> None:
    script = tasks()
    claim(script, 2, "a", 1)
    claim(script, 3, "b", 2)
    assert script.broken() == {TASKS, "claimants of tasks"}


def test_a_claim_that_is_over_passes_on() -> None:
    script = tasks()
    claim(script, 2, "a", 1)
    claim(script, 4, "b", 2)
    script.call(4.6, 4.7, "extend", "t", error="StaleToken", agent="a", token=1)
    assert violations(script.history) == {}


def test_a_retry_that_was_not_counted_is_found() -> None:
    script = tasks()
    claim(script, 2, "a", 1)
    script.call(3, 3.1, "fail", "t", agent="a", token=1)
    claim(script, 4, "b", 2, retries=0)
    assert script.broken() == {TASKS}


def test_a_failure_too_many_is_the_end() -> None:
    script = tasks()
    claim(script, 2, "a", 1)
    script.call(3, 3.1, "fail", "t", agent="a", token=1)
    claim(script, 4, "a", 2, retries=1)
    script.call(5, 5.1, "fail", "t", agent="a", token=2)
    seen(script, 6, "DEAD", 2, 1)
    assert violations(script.history) == {}
    claim(script, 7, "a", 3, retries=1)
    assert script.broken() == {TASKS}


def test_a_completion_that_was_forgotten_is_found() -> None:
    script = tasks()
    claim(script, 2, "a", 1)
    script.call(3, 3.1, "complete", "t", agent="a", token=1)
    seen(script, 6, "PENDING")
    assert script.broken() == {TASKS}


def test_a_completion_of_unknown_outcome_may_count() -> None:
    script = tasks()
    claim(script, 2, "a", 1)
    script.call(3, NEVER, "complete", "t", agent="a", token=1)
    seen(script, 3.5, "CLAIMED", 1)
    seen(script, 6, "COMPLETED", 1)
    assert violations(script.history) == {}


def test_a_task_whose_creation_was_not_answered_is_known_by_its_type() -> None:
    script = tasks()
    script.history.operations[-1].outcome = Outcome.OK
    creation = next(o for o in script.history.operations if o.call == "create")
    creation.outcome, creation.value = Outcome.UNKNOWN, None
    creation.end_ns = 2**63 - 1
    claim(script, 2, "a", 1)
    seen(script, 2.6, "CLAIMED", 1)
    assert violations(script.history) == {}


# ------------------------------------------------------------ the registry


def registry() -> Script:
    script = Script("registry")
    script.register("a")
    script.alive(100, "a", "c")
    return script


def status(script: Script, at_s: float, status: str, reason: str = "") -> None:
    script.call(at_s, at_s + 0.1, "get", "a", {"status": status, "reason": reason})


def test_an_agent_comes_and_goes() -> None:
    script = registry()
    status(script, 1, "ALIVE")
    script.call(2, 3, "deregister", "a")
    status(script, 2.5, "ALIVE")
    status(script, 4, "DEAD", "deregistered")
    script.call(5, 6, "deregister", "a", error="NotFound")
    script.call(5, 6, "heartbeat", "a", error="NotFound")
    assert violations(script.history) == {}


def test_an_agent_that_rises_is_found() -> None:
    script = registry()
    script.call(2, 3, "deregister", "a")
    status(script, 4, "ALIVE")
    assert script.broken() == {REGISTRY}


@pytest.mark.parametrize("told", ["UNREACHABLE", "DEAD"])
def test_an_agent_that_dies_without_cause_is_found(told: str) -> None:
    script = registry()
    status(script, 20, told, "timed_out" if told == "DEAD" else "")
    assert script.broken() == {REGISTRY}
    script.fault("a", "paused", 5, 19)
    assert violations(script.history) == {}


def test_a_forgotten_agent_is_found() -> None:
    script = registry()
    script.call(4, 5, "get", "a", error="NotFound")
    assert script.broken() == {REGISTRY}


def test_a_heartbeat_for_the_dead_is_found() -> None:
    script = registry()
    script.call(2, 3, "deregister", "a")
    script.call(4, 5, "heartbeat", "a")
    assert script.broken() == {REGISTRY}


# ------------------------------------------------------------ policies


def test_a_refusal_overrides() -> None:
    script = Script("policies")
    script.call(1, 2, "set", "s", effect="ALLOW", id="p")
    script.call(3, 4, "check", "s", {"allowed": True})
    script.call(5, 6, "set", "s", effect="DENY", id="q")
    script.call(7, 8, "check", "s", {"allowed": False})
    script.call(9, 10, "delete", "s", id="q")
    script.call(11, 12, "check", "s", {"allowed": True})
    script.call(11, 12, "delete", "s", error="NotFound", id="q")
    assert violations(script.history) == {}


def test_a_stale_check_is_found() -> None:
    script = Script("policies")
    script.call(1, 2, "set", "s", effect="ALLOW", id="p")
    script.call(3, 4, "set", "s", effect="DENY", id="p")
    script.call(5, 6, "check", "s", {"allowed": True})
    assert script.broken() == {POLICIES}


def test_a_write_of_unknown_outcome_may_take_effect_late() -> None:
    script = Script("policies")
    script.call(1, NEVER, "set", "s", effect="ALLOW", id="p")
    script.call(3, 4, "check", "s", {"allowed": False})
    script.call(5, 6, "check", "s", {"allowed": True})
    assert violations(script.history) == {}
    script.call(7, 8, "check", "s", {"allowed": False})
    assert script.broken() == {POLICIES}
