"""Tasks: claimed by one agent at a time, retried within bounds, finished once."""

import pytest
from core_story import FULL, NOT_FOUND, STALE, Story, reason

from agentkeeper.core import commands as c
from agentkeeper.core import limits
from agentkeeper.core.records import DONE, Task, TaskStatus, Waiting

PENDING, CLAIMED, COMPLETED, FAILED, DEAD = TaskStatus
NOT_CLAIMED = ("FAILED_PRECONDITION", "not_claimed")


@pytest.fixture
def story():
    return Story().agent("ann", "bob", ttl=10**8).agent("gus", ttl=10**8, tools=("gpu",)).forget()


def complete(story, task_id, agent_id, token=0, output=b""):
    return story.do(c.CompleteTask(task_id, agent_id, token, output))


def fail(story, task_id, agent_id, token=0):
    return story.do(c.FailTask(task_id, agent_id, token, "broke"))


def test_a_task_is_claimed_by_one_and_completed_once(story):
    story.task("t1", data=b"in")
    claimed = story.claim("ann")
    assert (claimed.status, claimed.claimed_by) == (CLAIMED, "ann")
    assert isinstance(story.claim("bob"), Waiting)
    assert complete(story, "t1", "ann", claimed.claim_token, b"out") == DONE
    assert story.state.tasks.get("t1").status == COMPLETED
    assert story.state.inputs.get("t1") == b"in"
    assert story.state.outputs.get("t1") == b"out"
    assert reason(complete(story, "t1", "ann", claimed.claim_token)) == NOT_CLAIMED
    assert story.topics() == ["task.created t1", "task.claimed t1", "task.completed t1"]


def test_higher_priority_first_then_older_first(story):
    for task_id, priority in (("a", 0), ("b", 5), ("c", 5), ("d", 9)):
        story.task(task_id, priority=priority)
    assert [story.claim("ann").task_id for _ in range(4)] == ["d", "b", "c", "a"]


def test_a_claim_gets_only_what_all_its_tools_cover(story):
    story.task("g", tools=("gpu",), priority=9)
    story.task("both", tools=("gpu", "browser"), priority=8)
    story.task("any")
    assert story.claim("ann").task_id == "any"
    assert isinstance(story.claim("ann"), Waiting)
    assert story.claim("gus").task_id == "g"
    assert isinstance(story.claim("gus"), Waiting)


def test_tools_are_a_set(story):
    task = story.task("t1", tools=("gpu", "browser", "gpu"))
    assert task.required_tools == ("browser", "gpu")


def test_a_requeued_task_keeps_its_place_in_line(story):
    story.task("first", retries=1)
    story.task("second")
    story.claim("ann")
    fail(story, "first", "ann")
    assert story.claim("bob").task_id == "first"


def test_failures_are_retried_and_then_the_task_is_dead(story):
    story.task("t1", retries=2)
    for retry in (1, 2):
        story.claim("ann")
        fail(story, "t1", "ann")
        task = story.state.tasks.get("t1")
        assert (task.status, task.retry_count, task.claimed_by) == (PENDING, retry, "")
    story.claim("ann")
    story.forget()
    fail(story, "t1", "ann")
    task = story.state.tasks.get("t1")
    assert (task.status, task.retry_count, task.failure_reason) == (DEAD, 2, "broke")
    assert story.topics() == ["task.dead t1 failed"]


def test_an_unanswered_claim_expires_and_another_agent_gets_the_task(story):
    story.task("t1", ttl=1_000)
    old = story.claim("ann")
    story.forget().at(999)
    assert story.topics() == []
    story.at(1_000)
    assert story.topics() == ["task.requeued t1 claim_expired"]
    assert reason(complete(story, "t1", "ann", old.claim_token)) == STALE
    new = story.claim("bob")
    assert new.claim_token > old.claim_token
    assert (new.expired_claims, new.retry_count) == (1, 0), "counted apart from failures"
    assert reason(fail(story, "t1", "ann")) == STALE


def test_a_former_claim_of_the_same_agent_is_stale_too(story):
    story.task("t1", ttl=1_000)
    old = story.claim("ann")
    new = story.at(1_000).claim("ann")
    assert reason(complete(story, "t1", "ann", old.claim_token)) == STALE
    assert complete(story, "t1", "ann", new.claim_token) == DONE


def test_token_0_stands_for_the_present_claim(story):
    story.task("t1")
    story.claim("ann")
    assert reason(complete(story, "t1", "bob")) == STALE
    assert complete(story, "t1", "ann") == DONE


def test_claims_that_expire_too_often_end_a_poisonous_task(story):
    story.task("t1", ttl=1_000, retries=100)
    for i in range(1, limits.CLAIM_EXPIRIES + 1):
        assert story.claim("ann").task_id == "t1"
        story.at(i * 1_000)
    task = story.state.tasks.get("t1")
    assert (task.status, task.expired_claims) == (DEAD, limits.CLAIM_EXPIRIES)
    assert "10 claims" in task.failure_reason
    assert story.topics()[-1] == "task.dead t1 claim_expired"
    assert isinstance(story.claim("bob"), Waiting)


def test_an_extension_moves_the_end_of_the_claim(story):
    story.task("t1", ttl=1_000)
    token = story.claim("ann").claim_token
    extended = story.at(900).do(c.ExtendTask("t1", "ann", token, 5_000))
    assert (extended.deadline_ms, extended.ttl_ms) == (5_900, 1_000)
    assert story.at(5_800).do(c.ExtendTask("t1", "ann", token, 0)).deadline_ms == 6_800
    assert reason(story.do(c.ExtendTask("t1", "bob", token, 0))) == STALE
    assert story.at(6_800).state.tasks.get("t1").status == PENDING


def test_a_claim_that_is_due_counts_as_expired_before_it_is_worked_off(story, monkeypatch):
    story.task("t1", ttl=1_000)
    token = story.claim("ann").claim_token
    monkeypatch.setattr(limits, "DUE_WORK_PER_ENTRY", 0)
    story.now = 1_000
    assert reason(complete(story, "t1", "ann", token)) == STALE
    assert story.state.tasks.get("t1").status == PENDING


def test_one_idempotency_key_makes_one_task(story):
    first = story.task("t1", key="nightly")
    assert story.task("t2", key="nightly") == first
    assert "t2" not in story.state.tasks
    claimed = story.claim("ann")
    again = story.task("t3", key="nightly")
    assert (again.task_id, again.status) == ("t1", CLAIMED)
    assert claimed.claim_token > again.claim_token == 0, "the token is the claimant's secret"
    complete(story, "t1", "ann")
    story.at(limits.TASK_RETENTION_MS).task("t4", key="nightly")
    assert sorted(story.state.tasks) == ["t4"]


def test_a_task_id_is_taken_once(story):
    story.task("t1")
    assert reason(story.task("t1")) == ("ALREADY_EXISTS", "exists")


def test_the_claims_of_a_lost_agent_count_and_those_of_one_that_leaves_do_not(story):
    for task_id in ("t1", "t2"):
        story.task(task_id, ttl=10**8)
    story.agent("eve", ttl=1_000)
    story.claim("eve")
    story.claim("ann")
    story.forget().do(c.Deregister("ann"))
    story.at(1_000).at(2_000)
    assert [t for t in story.topics() if t.startswith("task")] == [
        "task.requeued t2 claimant_left", "task.requeued t1 claimant_died",
    ]  # fmt: skip
    assert [story.state.tasks.get(t).expired_claims for t in ("t1", "t2")] == [1, 0]


def test_a_dead_task_can_be_requeued_by_hand(story):
    story.task("t1", data=b"in")
    assert reason(story.do(c.RequeueTask("t1"))) == ("FAILED_PRECONDITION", "not_dead")
    assert reason(story.do(c.RequeueTask("t0"))) == NOT_FOUND
    story.claim("ann")
    fail(story, "t1", "ann")
    fresh = story.do(c.RequeueTask("t1"))
    assert (fresh.status, fresh.failure_reason, fresh.completed_wall_ms) == (PENDING, "", 0)
    assert story.at(limits.TASK_RETENTION_MS).claim("bob").task_id == "t1"


def test_a_claim_whose_answer_got_lost_is_given_back(story):
    story.session("s").task("t1")
    story.claim("ann", session="s", number=1, attempt=7)
    story.forget().do(c.Withdraw("s", 1, 7))
    assert story.topics() == ["task.requeued t1 claim_withdrawn"]
    assert story.state.tasks.get("t1").expired_claims == 0
    assert reason(story.claim("ann", session="s", number=1)) == ("ABORTED", "withdrawn")


def test_a_claim_is_not_given_back_once_a_later_attempt_has_its_answer(story):
    story.session("s").task("t1")
    claimed = story.claim("ann", session="s", number=1, attempt=7)
    assert story.claim("ann", session="s", number=1, attempt=8) == claimed
    story.do(c.Withdraw("s", 1, 7))
    assert complete(story, "t1", "ann", claimed.claim_token) == DONE


def test_a_withdrawn_request_to_create_leaves_the_claimant_alone(story):
    """Its answer was somebody's task under the same key, and that somebody is at work."""
    story.session("s").task("t1", key="nightly")
    token = story.claim("ann").claim_token
    body = c.CreateTask("t2", "crawl", b"", (), 0, 1_000, 0, "nightly")
    story.do(body, session="s", number=1)
    story.do(c.Withdraw("s", 1, 0))
    assert complete(story, "t1", "ann", token) == DONE


def test_the_claims_of_one_agent_are_bounded(story, monkeypatch):
    monkeypatch.setattr(limits, "CLAIMS_EACH", 1)
    story.task("t1")
    story.task("t2")
    story.claim("ann")
    assert reason(story.claim("ann")) == FULL
    assert story.claim("bob").task_id == "t2"


def test_finished_tasks_are_kept_for_a_while_and_in_bounds(story, monkeypatch):
    monkeypatch.setattr(limits, "FINISHED_TASKS", 2)
    for i, task_id in enumerate(("c", "a", "b")):
        story.at(i).task(task_id)
        story.claim("ann")
        complete(story, task_id, "ann")
    assert sorted(story.state.tasks) == ["a", "b"]
    assert sorted(story.at(limits.TASK_RETENTION_MS + 1).state.tasks) == ["b"]


def test_unfinished_tasks_and_distinct_tool_sets_are_bounded(story, monkeypatch):
    monkeypatch.setattr(limits, "TASKS", 2)
    monkeypatch.setattr(limits, "TOOL_SETS", 1)
    story.task("t1")
    assert reason(story.task("t2", tools=("gpu",))) == FULL
    story.task("t2")
    assert reason(story.task("t3")) == FULL
    story.claim("ann")
    complete(story, "t1", "ann")
    assert story.task("t3").status == PENDING


def test_finished_tasks_make_room_for_bytes(story, monkeypatch):
    monkeypatch.setattr(limits, "TASK_BYTES", 10)
    for task_id in ("t1", "t2"):
        story.task(task_id, data=b"1234")
        story.claim("ann")
        complete(story, task_id, "ann")
    story.task("t3", data=b"12345")
    assert sorted(story.state.tasks) == ["t2", "t3"]
    assert story.state.task_bytes == 9


def test_a_refusal_for_want_of_bytes_forgets_nothing(story, monkeypatch):
    monkeypatch.setattr(limits, "TASK_BYTES", 10)
    story.task("t1", data=b"1234")
    story.claim("ann")
    complete(story, "t1", "ann")
    assert reason(story.task("t2", data=b"x" * 11)) == FULL
    story.task("t3", data=b"123456")
    story.claim("ann")
    assert reason(complete(story, "t3", "ann", output=b"x" * 5)) == FULL
    assert sorted(story.state.tasks) == ["t1", "t3"]
    assert story.state.tasks.get("t3").status == CLAIMED


def test_a_task_that_dies_of_its_expiry_and_is_forgotten_at_once_is_not_found(story, monkeypatch):
    monkeypatch.setattr(limits, "FINISHED_TASKS", 1)
    monkeypatch.setattr(limits, "CLAIM_EXPIRIES", 1)
    story.task("a", ttl=1_000)
    story.task("b")
    story.claim("ann")
    story.claim("bob")
    monkeypatch.setattr(limits, "DUE_WORK_PER_ENTRY", 0)
    story.now = 1_000
    complete(story, "b", "bob")
    assert reason(complete(story, "a", "ann")) == NOT_FOUND
    assert sorted(story.state.tasks) == ["b"]


def test_tool_sets_stay_bounded_when_claimed_tasks_come_back(story, monkeypatch):
    monkeypatch.setattr(limits, "TOOL_SETS", 2)
    story.agent("all", ttl=10**8, tools=[f"tool{i}" for i in range(3)])
    for i in range(2):
        story.task(f"t{i}", tools=(f"tool{i}",), retries=1)
        story.claim("all")
    assert reason(story.task("t2", tools=("tool2",))) == FULL
    for i in range(2):
        fail(story, f"t{i}", "all")
    assert len(list(story.state.pending.sets())) == 2


def test_finished_tasks_make_room_for_the_names_of_tools(story, monkeypatch):
    monkeypatch.setattr(limits, "TASK_BYTES", 10)
    story.agent("all", ttl=10**8, tools=("long-name",))
    story.task("t1", tools=("long-name",))
    assert reason(story.task("t2", data=b"12")) == FULL
    story.claim("all")
    complete(story, "t1", "all")
    story.task("t2", data=b"12")
    assert sorted(story.state.tasks) == ["t2"]
    assert story.state.task_bytes == 2


def test_events_carry_the_task_as_it_became(story):
    story.task("t1")
    story.claim("ann")
    statuses = [(e.topic, t.status) for e, t in zip(story.events, tasks_told(story), strict=True)]
    assert statuses == [("task.created", PENDING), ("task.claimed", CLAIMED)]


def tasks_told(story):
    return [story.payloads(Task, e.topic)[0] for e in story.events]
