"""Sessions: a request and its retries take effect once (Raft thesis, section 6.3)."""

import pytest
from core_story import FULL, NOT_FOUND, STALE, Story, card, reason

from agentkeeper.core import commands as c
from agentkeeper.core import limits
from agentkeeper.core.records import Acquired, Waiting

EXPIRED = ("FAILED_PRECONDITION", "session_expired")
UNKNOWN = ("ABORTED", "outcome_unknown")
NOT_YOURS = ("PERMISSION_DENIED", "identity")


@pytest.fixture
def story():
    """One client with a session of four requests at a time."""
    return Story().agent("ann", "bob", ttl=10**8).session("s", window=4).forget()


def test_a_retry_gets_the_first_answer_and_does_nothing(story):
    first = story.acquire("deploy", "ann", session="s", number=1)
    story.release("deploy", "ann", first.lease.token)
    story.acquire("deploy", "bob")
    told = story.topics()
    assert story.acquire("deploy", "ann", session="s", number=1) == first
    assert story.topics() == told
    assert story.state.leases.get("deploy").holder == "bob"


def test_a_refusal_is_an_answer_too(story):
    story.acquire("deploy", "bob")
    first = story.acquire("deploy", "ann", session="s", number=1)
    assert not first.acquired
    story.do(c.Deregister("bob"))
    assert story.acquire("deploy", "ann", session="s", number=1) == first


def test_a_duplicate_within_one_entry_is_answered_from_the_first(story):
    command = c.Command("alice", "s", 1, 0, c.AcquireLease("deploy", "ann", 60_000, 0, False))
    first, second = story.batch(command, command)
    assert first == second
    assert story.topics() == ["lease.acquired deploy"]


def test_requests_may_arrive_in_any_order_within_the_window(story):
    assert story.acquire("b", "ann", session="s", number=4).acquired
    assert story.acquire("a", "ann", session="s", number=1).acquired
    assert reason(story.acquire("c", "ann", session="s", number=5)) == FULL
    assert story.acquire("c", "ann", session="s", number=5, seen=1).acquired
    assert sorted(n for _, n in story.state.answers) == [4, 5]


def test_what_was_seen_is_forgotten_and_never_run_again(story):
    body = c.AcquireLease("deploy", "ann", 60_000, 0, False)
    token = story.do(body, session="s", number=1).lease.token
    story.do(c.Heartbeat("ann"), session="s", number=2, seen=1)
    assert reason(story.do(body, session="s", number=1)) == UNKNOWN
    assert story.state.leases.get("deploy").token == token
    assert list(story.state.answers) == [("s", 2)]


def test_seen_never_falls_and_never_covers_the_request_that_says_it(story):
    beat = c.Heartbeat("ann")
    story.do(beat, session="s", number=3, seen=2)
    story.do(beat, session="s", number=4, seen=0)
    assert story.state.sessions.get("s").seen == 2
    assert story.do(beat, session="s", number=5, seen=5) == ()
    assert story.do(beat, session="s", number=6, seen=10**9) == ()
    assert story.state.sessions.get("s").seen == 2


def test_number_0_is_never_a_request(story):
    assert reason(story.do(c.Heartbeat("ann"), session="s", number=0)) == UNKNOWN


def test_without_a_session_every_command_counts(story):
    tokens = {story.acquire("deploy", "ann").lease.token for _ in range(3)}
    assert len(tokens) == 3


def test_waiting_is_not_an_answer(story):
    story.acquire("deploy", "bob", ttl=1_000)
    ask = {"wait": 60_000, "session": "s", "number": 1}
    assert isinstance(story.acquire("deploy", "ann", **ask), Waiting)
    assert isinstance(story.acquire("deploy", "ann", **ask), Waiting)
    assert isinstance(story.at(1_000).acquire("deploy", "ann", **ask), Acquired)
    assert list(story.state.answers) == [("s", 1)]


def test_a_claim_that_found_nothing_may_be_asked_again(story):
    assert isinstance(story.claim("ann", session="s", number=1), Waiting)
    story.task("t1")
    claimed = story.claim("ann", session="s", number=1)
    assert claimed.task_id == "t1"
    story.task("t2")
    assert story.claim("ann", session="s", number=1) == claimed


def test_a_number_stands_for_one_request(story):
    story.acquire("deploy", "ann", session="s", number=1)
    other = story.acquire("index", "ann", session="s", number=1)
    assert reason(other) == ("FAILED_PRECONDITION", "number_reused")
    assert list(story.state.leases) == ["deploy"]


def test_a_retry_may_draw_new_ids(story):
    first = story.do(c.Register("cyd", card("new"), 1_000, 0), session="s", number=1)
    again = story.do(c.Register("dan", card("new"), 1_000, 0), session="s", number=1)
    assert first == again == ("cyd",)
    assert "dan" not in story.state.agents


def test_a_session_lives_as_long_as_it_waits_for_something(story):
    story.do(c.OpenSession("short", 1_000, 4))
    story.acquire("deploy", "bob", ttl=30_000)
    story.acquire("deploy", "ann", wait=60_000, session="short", number=1)
    story.at(30_000)
    assert story.acquire("deploy", "ann", wait=60_000, session="short", number=1).acquired


def test_a_session_ends_in_cluster_time_unless_it_is_used(story):
    story.do(c.OpenSession("short", 1_000, 4))
    story.at(999).do(c.Heartbeat("ann"), session="short", number=1)
    assert story.at(1_998).do(c.Heartbeat("ann"), session="short", number=2) == ()
    story.at(2_998)
    assert "short" not in story.state.sessions
    assert [key for key in story.state.answers if key[0] == "short"] == []
    assert reason(story.do(c.Heartbeat("ann"), session="short", number=3)) == EXPIRED


def test_a_session_that_is_due_has_ended_before_it_is_worked_off(story, monkeypatch):
    story.do(c.OpenSession("short", 1_000, 4))
    monkeypatch.setattr(limits, "DUE_WORK_PER_ENTRY", 0)
    story.now = 1_000
    assert reason(story.acquire("deploy", "ann", session="short", number=1)) == EXPIRED
    assert len(story.state.leases) == 0


def test_opening_again_gives_the_same_session(story):
    story.do(c.Heartbeat("ann"), session="s", number=2, seen=1)
    assert story.do(c.OpenSession("s", 1, 1)) == story.state.sessions.get("s")
    assert story.state.sessions.get("s").seen == 1


def test_closing_withdraws_what_it_waits_for(story):
    story.acquire("deploy", "bob")
    story.acquire("deploy", "ann", wait=60_000, session="s", number=1)
    assert story.do(c.CloseSession("s")) == ()
    assert len(story.state.waiters) == len(story.state.sessions) == 0
    assert reason(story.do(c.CloseSession("s"))) == NOT_FOUND


def test_a_session_is_its_callers_own(story):
    assert reason(story.do(c.OpenSession("s", 1, 1), identity="mallory")) == NOT_YOURS
    assert reason(story.do(c.CloseSession("s"), identity="mallory")) == NOT_YOURS
    stolen = story.do(c.Deregister("ann"), session="s", number=1, identity="mallory")
    assert reason(stolen) == NOT_YOURS
    assert len(story.state.answers) == 0


def test_the_session_of_a_replica_carries_the_calls_of_many(story):
    story.do(c.OpenSession("edge", 10**9, 4), identity="replica:a")
    for number, identity in enumerate(("alice", "bob"), start=1):
        beat = story.do(c.Heartbeat("ann"), session="edge", number=number, identity=identity)
        assert beat == ()
    assert reason(story.do(c.CloseSession("edge"))) == NOT_YOURS


def test_in_the_session_of_a_replica_waiting_is_an_answer(story):
    """It takes a new number for each try, so an old copy must not run after the new one."""
    story.do(c.OpenSession("edge", 10**9, 4), identity="replica:a")
    assert isinstance(story.claim("ann", session="edge", number=1), Waiting)
    story.task("t1")
    assert isinstance(story.claim("ann", session="edge", number=1), Waiting)
    assert story.claim("ann", session="edge", number=2).task_id == "t1"


def test_sessions_of_clients_are_bounded_and_replicas_always_get_theirs(story, monkeypatch):
    monkeypatch.setattr(limits, "SESSIONS", 1)
    assert reason(story.do(c.OpenSession("t", 1_000, 4))) == FULL
    edge = story.do(c.OpenSession("edge", 1_000, 4), identity="replica:a")
    assert edge.session_id == "edge"
    assert story.do(c.OpenSession("s", 1_000, 4)).session_id == "s"


def test_withdrawing_stops_a_copy_that_comes_later(story):
    story.do(c.Withdraw("s", 1, 7))
    late = story.do(c.Register("cyd", card(), 1_000, 0), session="s", number=1)
    assert reason(late) == ("ABORTED", "withdrawn")
    assert "cyd" not in story.state.agents


def test_an_attempt_withdraws_for_itself_alone(story):
    """The client has turned to another replica meanwhile, and waits there."""
    story.acquire("deploy", "bob")
    ask = {"wait": 60_000, "session": "s", "number": 1}
    story.acquire("deploy", "ann", **ask, attempt=7)
    story.acquire("deploy", "ann", **ask, attempt=8)
    story.do(c.Withdraw("s", 1, 7))
    assert isinstance(story.acquire("deploy", "ann", **ask, attempt=8), Waiting)
    assert len(story.state.waiters) == 1
    story.do(c.Withdraw("s", 1, 8))
    assert len(story.state.waiters) == 0


@pytest.mark.parametrize("key", [("s", 9), ("s", 0), ("unknown", 1)])
def test_withdrawing_what_can_not_be_is_done_and_keeps_nothing(story, key):
    assert story.do(c.Withdraw(*key, 7)) == ()
    assert len(story.state.answers) == 0


def test_a_stale_token_stays_stale_through_retries(story):
    token = story.acquire("deploy", "ann", ttl=1_000).lease.token
    story.at(1_000)
    body = c.RenewLease("deploy", "ann", token, 0)
    assert reason(story.do(body, session="s", number=1)) == NOT_FOUND
    story.acquire("deploy", "bob")
    assert reason(story.do(body, session="s", number=1)) == NOT_FOUND, "the first answer"
    assert reason(story.do(body, session="s", number=2)) == STALE


@pytest.mark.parametrize("late_copy", [True, False])
def test_a_late_copy_does_not_let_its_withdrawal_take_what_a_retry_was_given(story, late_copy):
    """The first call's copy arrives after the retry's answer, and its withdrawal after that."""
    body = c.AcquireLease("deploy", "ann", 60_000, 5_000, False)
    granted = story.do(body, session="s", number=1, attempt=8)
    if late_copy:
        assert story.do(body, session="s", number=1, attempt=7) == granted
    story.do(c.Withdraw("s", 1, 7))
    assert story.state.leases.get("deploy") == granted.lease


def test_what_waits_under_a_number_that_was_seen_waits_no_more(story):
    """The client has given the request up and gone on, before any withdrawal arrives."""
    token = story.acquire("deploy", "ann").lease.token
    story.acquire("deploy", "bob", wait=30_000, session="s", number=1, attempt=7)
    story.do(c.Heartbeat("bob"), session="s", number=2, seen=1)
    story.release("deploy", "ann", token)
    assert story.state.leases.get("deploy") is None
