"""Leases: fencing tokens, the holder, the line of those who wait."""

import pytest
from core_story import FULL, NOT_FOUND, STALE, Story, reason

from agentkeeper.core import commands as c
from agentkeeper.core import limits
from agentkeeper.core.records import Acquired, Lease, Waiting


@pytest.fixture
def story():
    """Three agents with long lives, a session for each."""
    return Story().agent("ann", "bob", "cyd", ttl=10**8).session("sa", "sb", "sc").forget()


def test_the_first_to_ask_gets_the_lease_and_the_others_learn_who_has_it(story):
    mine = story.acquire("deploy", "ann")
    theirs = story.acquire("deploy", "bob")
    assert mine.acquired
    assert mine.lease.token > 0
    assert mine.lease.deadline_ms == 60_000
    assert not theirs.acquired
    assert theirs.lease.holder == "ann"
    assert theirs.lease.expires_wall_ms == mine.lease.expires_wall_ms
    assert theirs.lease.token == 0, "the token is the holder's secret"


def test_tokens_grow_over_all_leases_and_claims_for_ever(story):
    tokens = [story.acquire("deploy", "ann").lease.token, story.acquire("index", "bob").lease.token]
    story.release("deploy", "ann", tokens[0])
    tokens.append(story.acquire("deploy", "cyd").lease.token)
    story.task("t1")
    tokens.append(story.claim("ann").claim_token)
    tokens.append(story.at(10**7).acquire("deploy", "ann").lease.token)
    assert tokens == sorted(set(tokens))


def test_an_old_token_neither_renews_nor_releases(story):
    old = story.acquire("deploy", "ann", ttl=1_000).lease.token
    story.at(1_000)
    new = story.acquire("deploy", "ann").lease.token
    assert reason(story.renew("deploy", "ann", old)) == STALE
    assert reason(story.release("deploy", "ann", old)) == STALE
    assert reason(story.release("deploy", "bob", new)) == STALE
    assert story.state.leases.get("deploy").token == new


def test_unknown_agents_and_leases_are_not_found(story):
    assert reason(story.acquire("deploy", "nobody")) == NOT_FOUND
    assert reason(story.renew("deploy", "ann", 1)) == NOT_FOUND
    assert reason(story.release("deploy", "nobody", 1)) == NOT_FOUND


def test_the_holder_acquires_again_and_its_former_handle_is_stale(story):
    """Whoever assigned the work acquired on the agent's behalf; the agent takes over."""
    first = story.acquire("deploy", "ann", ttl=5_000).lease
    second = story.at(1_000).acquire("deploy", "ann", ttl=9_000).lease
    assert second.token > first.token
    assert second.deadline_ms == 10_000
    assert reason(story.renew("deploy", "ann", first.token)) == STALE
    assert story.topics() == ["lease.acquired deploy"] * 2


def test_an_exclusive_request_is_refused_even_to_the_holder(story):
    first = story.acquire("deploy", "ann").lease
    answer = story.acquire("deploy", "ann", exclusive=True)
    assert not answer.acquired
    assert story.state.leases.get("deploy") == first


def test_renewal_moves_the_deadline_and_ttl_0_keeps_the_last_ttl(story):
    token = story.acquire("deploy", "ann", ttl=5_000).lease.token
    assert story.at(4_000).renew("deploy", "ann", token, ttl=8_000).deadline_ms == 12_000
    assert story.at(11_999).renew("deploy", "ann", token).deadline_ms == 19_999
    assert story.topics()[1:] == ["lease.renewed deploy"] * 2


def test_a_lease_lasts_until_its_deadline_and_no_longer(story):
    story.acquire("deploy", "ann", ttl=5_000)
    assert not story.at(4_999).acquire("deploy", "bob").acquired
    assert story.at(5_000).acquire("deploy", "bob").acquired
    assert story.topics() == [
        "lease.acquired deploy", "lease.expired deploy", "lease.acquired deploy",
    ]  # fmt: skip


def wait(story, agent_id, number=1, task_id="deploy", ms=30_000):
    """Wait in line as the agent's own session, or ask again under the same number."""
    return story.acquire(
        task_id, agent_id, ttl=7_000, wait=ms, session=f"s{agent_id[0]}", number=number, attempt=1
    )


def test_those_who_wait_are_served_in_the_order_of_their_coming(story):
    token = story.acquire("deploy", "ann").lease.token
    assert isinstance(wait(story, "bob"), Waiting)
    assert isinstance(wait(story, "cyd"), Waiting)
    story.release("deploy", "ann", token)
    assert story.state.leases.get("deploy").holder == "bob"
    assert not story.acquire("deploy", "ann").acquired, "a newcomer doesn't jump the line"
    granted = wait(story, "bob").lease
    story.release("deploy", "bob", granted.token)
    assert story.state.leases.get("deploy").holder == "cyd"


def test_asking_again_keeps_the_place_in_line(story):
    story.acquire("deploy", "ann", ttl=5_000)
    wait(story, "bob")
    wait(story, "cyd")
    assert isinstance(wait(story, "bob"), Waiting)
    assert story.at(5_000).state.leases.get("deploy").holder == "bob"


def test_asking_again_confirms_a_grant_and_starts_its_ttl(story):
    story.acquire("deploy", "ann", ttl=5_000)
    wait(story, "bob")
    granted = story.at(5_000).state.leases.get("deploy")
    assert granted.deadline_ms == 5_000 + limits.GRANT_CONFIRM_MS
    confirmed = story.at(9_000) and wait(story, "bob")
    assert confirmed == Acquired(True, story.state.leases.get("deploy"))
    assert confirmed.lease.token == granted.token
    assert confirmed.lease.deadline_ms == 9_000 + 7_000
    assert confirmed.lease.grant is None
    assert wait(story, "bob") == confirmed, "from now on it is an answer like any other"


def test_a_grant_that_nobody_confirms_passes_on(story):
    story.acquire("deploy", "ann", ttl=5_000)
    wait(story, "bob")
    wait(story, "cyd")
    story.at(5_000).forget().at(5_000 + limits.GRANT_CONFIRM_MS)
    assert story.topics() == ["lease.expired deploy unconfirmed", "lease.acquired deploy"]
    assert story.state.leases.get("deploy").holder == "cyd"


def test_a_withdrawn_request_leaves_the_line_or_passes_its_grant_on(story):
    token = story.acquire("deploy", "ann").lease.token
    for agent_id in ("bob", "cyd"):
        wait(story, agent_id)
    story.do(c.Withdraw("sb", 1, 1))
    story.release("deploy", "ann", token)
    assert story.state.leases.get("deploy").holder == "cyd"
    story.forget().do(c.Withdraw("sc", 1, 1))
    assert story.topics() == ["lease.released deploy unconfirmed"]
    assert len(story.state.leases) == 0
    assert reason(wait(story, "cyd")) == ("ABORTED", "withdrawn"), "a late copy finds it over"


def test_who_no_longer_waits_is_passed_over(story):
    story.acquire("deploy", "ann", ttl=60_000)
    wait(story, "bob", ms=1_000)
    wait(story, "cyd", ms=90_000)
    story.at(1_000 + limits.WAITER_SLACK_MS)
    assert [w.agent_id for w in story.state.waiters.values()] == ["cyd"]
    assert story.at(60_000).state.leases.get("deploy").holder == "cyd"


@pytest.mark.parametrize("ending", [c.Deregister("bob"), c.CloseSession("sb")])
def test_death_of_agent_or_session_takes_it_out_of_the_line(story, ending):
    story.acquire("deploy", "ann")
    wait(story, "bob")
    story.do(ending)
    assert len(story.state.waiters) == 0
    assert story.state.lines == {}


def test_the_death_of_the_holder_frees_its_leases_for_those_who_wait(story):
    story.acquire("deploy", "ann")
    story.acquire("index", "ann")
    wait(story, "bob")
    story.forget().do(c.Deregister("ann"))
    assert story.topics() == [
        "agent.died ann deregistered",
        "lease.released deploy holder_died", "lease.acquired deploy",
        "lease.released index holder_died",
    ]  # fmt: skip
    assert story.payloads(Lease, "lease.acquired")[0].holder == "bob"


def test_the_line_is_bounded(story, monkeypatch):
    monkeypatch.setattr(limits, "LEASE_WAITERS_EACH", 1)
    monkeypatch.setattr(limits, "LEASE_WAITERS", 2)
    for task_id in ("deploy", "index", "report"):
        story.acquire(task_id, "ann")
    assert isinstance(wait(story, "bob", 1), Waiting)
    assert reason(wait(story, "cyd", 1)) == FULL
    assert isinstance(wait(story, "bob", 2, "index"), Waiting)
    assert reason(wait(story, "bob", 3, "report")) == FULL


def test_leases_are_bounded_and_a_refusal_names_the_bound(story, monkeypatch):
    monkeypatch.setattr(limits, "LEASES", 1)
    story.acquire("deploy", "ann")
    refused = story.acquire("index", "bob")
    assert reason(refused) == FULL
    assert "leases: the limit is 1" in refused.message


def test_the_leases_of_one_agent_are_bounded_and_the_line_passes_it_over(story, monkeypatch):
    monkeypatch.setattr(limits, "LEASES_EACH", 1)
    story.acquire("deploy", "ann", ttl=5_000)
    assert reason(story.acquire("index", "ann")) == FULL
    assert story.acquire("deploy", "ann", ttl=5_000).acquired, "anew is not one more"
    for agent_id in ("bob", "cyd"):
        wait(story, agent_id)
    story.acquire("index", "bob")
    assert story.at(5_000).state.leases.get("deploy").holder == "cyd"


def test_a_lease_whose_answer_got_lost_is_given_back(story):
    ask = {"wait": 1_000, "session": "sa", "number": 1}
    story.acquire("deploy", "ann", **ask, attempt=7)
    story.forget().do(c.Withdraw("sa", 1, 7))
    assert story.topics() == ["lease.released deploy unconfirmed"]
    assert reason(story.acquire("deploy", "ann", **ask)) == ("ABORTED", "withdrawn")


def test_a_lease_that_several_calls_were_given_is_taken_back_by_none(story):
    """One of them may have delivered it, and the log can't say which."""
    ask = {"wait": 1_000, "session": "sa", "number": 1}
    lease = story.acquire("deploy", "ann", **ask, attempt=7).lease
    assert story.acquire("deploy", "ann", **ask, attempt=8).lease == lease
    for attempt in (7, 8):
        story.do(c.Withdraw("sa", 1, attempt))
    assert story.state.leases.get("deploy") == lease


def test_the_end_of_a_session_passes_on_what_it_has_not_confirmed(story):
    story.acquire("deploy", "ann", ttl=5_000)
    for agent_id in ("bob", "cyd"):
        wait(story, agent_id)
    story.at(5_000).do(c.CloseSession("sb"))
    assert story.state.leases.get("deploy").holder == "cyd"


def test_a_long_chain_of_deaths_is_no_deeper_than_one(monkeypatch):
    """Each agent waits for the lease of the one before it; all fall silent at once."""
    story, count = Story().session("s"), 600
    ids = [f"agent{i:04}" for i in range(count)]
    story.agent(*ids, ttl=1_000)
    for i, agent_id in enumerate(ids):
        story.acquire(f"lease{i:04}", agent_id, ttl=10**8)
        if i:
            story.acquire(
                f"lease{i - 1:04}", agent_id, ttl=10**8, wait=10**8, session="s", number=i
            )
    monkeypatch.setattr(limits, "DUE_WORK_PER_ENTRY", 10**6)
    story.at(1_000).at(2_000)
    assert len(story.state.leases) == len(story.state.waiters) == 0
