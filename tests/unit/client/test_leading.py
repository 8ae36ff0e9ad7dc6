"""Leading a group: one at a time, and whoever led knows before the next one does."""

import pytest
from sdk_story import (
    LONG_S,
    PATIENCE_S,
    Suspended,
    Way,
    an_agent,
    background,
    eventually,
)

from agentkeeper import AgentLost, InvalidArgument, LeadershipLost, NotFound
from agentkeeper.errors import Unavailable
from agentkeeper.testing import FakeKeeper

GROUP = "group"


class Camp:
    """Two clients with an agent each."""

    def __init__(self, keeper: FakeKeeper) -> None:
        self.keeper = keeper
        self.one, self.two = keeper.client(), keeper.client()
        self.first = an_agent(self.one, "first", ttl=30)
        self.second = an_agent(self.two, "second", ttl=30)
        self.told = []

    def first_leads(self):
        return self.one.lead(GROUP, self.first, on_lost=self.told.append)

    def second_waits(self, **options):
        waiting = background(self.two.lead, GROUP, self.second, **options)
        eventually(lambda: self.second.agent_id in self.candidates(), "a second candidate")
        return waiting

    def candidates(self):
        election = self.keeper._stack.machine.state.elections.get(GROUP)
        return () if election is None else election.candidates


@pytest.fixture
def camp(fake_keeper: FakeKeeper) -> Camp:
    return Camp(fake_keeper)


def leads(leadership) -> bool:
    try:
        leadership.check()
    except LeadershipLost:
        return False
    return True


def test_the_first_candidate_leads_at_once(camp: Camp):
    leadership = camp.first_leads()
    assert (leadership.group, leadership.agent_id) == (GROUP, camp.first.agent_id)
    assert leadership.term == 1
    assert leads(leadership)
    assert not leadership.lost
    camp.keeper.advance(3600)
    assert leads(leadership)


def test_the_second_one_leads_when_the_first_resigns(camp: Camp):
    first = camp.first_leads()
    waiting = camp.second_waits()
    camp.keeper.advance(3600)
    assert not waiting.done()
    first.resign()
    assert not leads(first)
    assert not first.lost, "given back"
    second = waiting.result(PATIENCE_S)
    assert second.term == first.term + 1
    assert leads(second)
    first.resign()
    camp.keeper.advance(0)
    assert leads(second), "resigning twice harms nobody"
    assert camp.told == []


def test_the_second_one_leads_when_the_first_deregisters(camp: Camp):
    first = camp.first_leads()
    waiting = camp.second_waits()
    camp.first.deregister()
    assert waiting.result(PATIENCE_S).term == first.term + 1
    assert first.lost
    assert not leads(first)
    eventually(lambda: camp.told == [first], "a call back with the leadership")


def test_one_that_is_cut_off_knows_before_the_next_one_leads(camp: Camp):
    first = camp.first_leads()
    waiting = camp.second_waits()
    camp.keeper.disconnect(camp.one)
    lost_at = won_at = None
    for _ in range(700):
        camp.keeper.advance(0.1)
        lost_at = camp.keeper.now if lost_at is None and not leads(first) else lost_at
        # In time of the keeper: its own word, not when a thread gets to hear of it.
        won = camp.candidates()[:1] == (camp.second.agent_id,)
        won_at = camp.keeper.now if won_at is None and won else won_at
        assert not (leads(first) and won)
    assert lost_at < won_at < 61
    assert waiting.result(PATIENCE_S).term == 2
    eventually(lambda: camp.told == [first], "a call back")
    with pytest.raises(LeadershipLost) as lost:
        first.check()
    assert first.lost.reason in lost.value.details()


def test_a_leader_whose_machine_has_slept_does_not_count_on_it(fake_keeper: FakeKeeper):
    client = fake_keeper.client()
    machine = Suspended(fake_keeper, client)
    leadership = client.lead(GROUP, an_agent(client, ttl=30))
    machine.sleep(3600)
    assert not leads(leadership)
    assert leadership.lost


def test_a_group_that_had_a_leader_before_can_be_led_again(camp: Camp):
    """What a new watch tells first is the state from before."""
    for term in (1, 2, 3):
        with camp.first_leads() as leadership:
            assert leadership.term == term
            camp.keeper.advance(0)
            assert leads(leadership)
            camp.keeper.advance(100)
            assert leads(leadership)
    assert camp.told == []


def test_whoever_leads_already_leads(camp: Camp):
    first = camp.first_leads()
    again = camp.first_leads()
    assert again.term == first.term
    camp.keeper.advance(60)
    assert leads(first)
    assert leads(again)
    again.resign()
    camp.keeper.advance(0)
    assert first.lost
    assert not leads(first)


def test_leaving_the_block_resigns(camp: Camp):
    with camp.first_leads():
        waiting = camp.second_waits()
    assert leads(waiting.result(PATIENCE_S))


def test_leaving_the_block_of_a_lost_leadership_does_not_raise(camp: Camp):
    with camp.first_leads() as first:
        camp.one.resign(GROUP, camp.first.agent_id)
        camp.keeper.advance(0)
        assert first.lost
    with camp.first_leads() as first:
        camp.first.deregister()
        assert first.lost


def test_leaving_the_block_with_an_exception_resigns_too(camp: Camp):
    with pytest.raises(ZeroDivisionError), camp.first_leads():
        raise ZeroDivisionError
    assert leads(camp.two.lead(GROUP, camp.second))


def test_time_that_is_over_withdraws_the_candidacy(camp: Camp):
    first = camp.first_leads()
    waiting = camp.second_waits(timeout=20)
    camp.keeper.advance(21)
    with pytest.raises(Unavailable) as late:
        waiting.result(PATIENCE_S)
    assert late.value.code().name == "DEADLINE_EXCEEDED"
    camp.keeper.advance(0)
    assert camp.second.agent_id not in camp.candidates()
    assert leads(first)
    first.resign()
    assert camp.candidates() == ()
    assert leads(camp.two.lead(GROUP, camp.second)), "may try again"


def test_a_candidacy_is_withdrawn_also_after_a_longer_outage(camp: Camp):
    first = camp.first_leads()
    camp.second.deregister()
    camp.second = an_agent(camp.two, "second", ttl=LONG_S)
    waiting = camp.second_waits(timeout=5)
    camp.keeper.disconnect(camp.two)
    camp.keeper.advance(30)
    with pytest.raises(Unavailable):
        waiting.result(PATIENCE_S)
    camp.keeper.reconnect(camp.two)
    camp.keeper.advance(30)
    assert camp.second.agent_id not in camp.candidates()
    first.resign()
    third = camp.keeper.client()
    assert leads(third.lead(GROUP, an_agent(third, "third"), timeout=5))


def test_one_that_registers_itself_again_while_it_waits_leads_as_another(camp: Camp):
    first = camp.first_leads()
    camp.second = an_agent(camp.two, "phoenix", ttl=10, reregister=True)
    former_id = camp.second.agent_id
    waiting = camp.second_waits()
    camp.keeper.disconnect(camp.two)
    camp.keeper.advance(60)
    camp.keeper.reconnect(camp.two)
    camp.keeper.advance(20)
    eventually(lambda: camp.second.agent_id in camp.candidates(), "a candidate by its new id")
    assert former_id != camp.second.agent_id
    assert former_id not in camp.candidates()
    first.resign()
    leadership = waiting.result(PATIENCE_S)
    assert leadership.agent_id == camp.second.agent_id
    assert leads(leadership)


def test_a_dead_agent_leads_no_more(camp: Camp):
    camp.first.deregister()
    with pytest.raises(AgentLost) as lost:
        camp.first_leads()
    assert isinstance(lost.value, NotFound)
    with pytest.raises(InvalidArgument):
        camp.two.lead("", camp.second)
    camp.keeper.advance(0)
    assert camp.keeper.calls_under_way == 0, "no watch is left"


def test_a_leader_outlives_an_outage_shorter_than_its_agent_does(camp: Camp):
    first = camp.first_leads()
    for _ in range(5):
        camp.keeper.disconnect(camp.one)
        camp.keeper.advance(25)
        camp.keeper.reconnect(camp.one)
        camp.keeper.advance(30)
        assert leads(first)
    assert camp.told == []


def test_terms_grow_whoever_leads(camp: Camp):
    terms = []
    for number in range(6):
        client, agent = [(camp.one, camp.first), (camp.two, camp.second)][number % 2]
        with client.lead(GROUP, agent) as leadership:
            terms.append(leadership.term)
    assert terms == sorted(set(terms))


def test_no_watch_is_left_once_nobody_leads(camp: Camp):
    with camp.first_leads():
        assert camp.keeper.calls_under_way == 1
    camp.keeper.advance(0)
    eventually(lambda: camp.keeper.calls_under_way == 0, "no watch")


def test_a_campaign_that_is_answered_late_is_won_all_the_same(camp: Camp):
    Way(camp.one).late_s["Campaign"] = 3
    leading = background(camp.first_leads)
    eventually(lambda: camp.first.agent_id in camp.candidates(), "a candidate")
    camp.keeper.advance(4)
    assert leads(leading.result(PATIENCE_S))
