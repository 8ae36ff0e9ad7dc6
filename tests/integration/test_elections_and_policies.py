"""ElectionService and EntitlementsService through a follower and through the leader."""

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.client import methods

from .waiting import eventually
from .wire import NOT_FOUND, payload_of, refused


def campaign(wire, group, agent_id):
    request = pb.CampaignRequest(group=group, agent_id=agent_id)
    return wire.call(methods.CAMPAIGN, request).state


def resign(wire, group, agent_id):
    wire.call(methods.RESIGN, pb.ResignRequest(group=group, agent_id=agent_id))


def watch_election(wire, group, after=None):
    request = pb.WatchElectionRequest(group=group, after_sequence=after)
    return wire.watch(methods.WATCH_ELECTION, request)


def test_the_longest_waiting_candidate_leads_with_the_next_term(here, there, name):
    group = name("group")
    first, second, third = (here.register(name(stem)) for stem in ("one", "two", "three"))
    assert campaign(here, group, first).leader_agent_id == first
    assert campaign(there, group, second).leader_agent_id == first
    assert campaign(here, group, third).term == 1
    assert campaign(here, group, first).term == 1
    resign(here, group, first)
    state = campaign(there, group, third)
    assert (state.leader_agent_id, state.term) == (second, 2)
    there.call(methods.DEREGISTER, pb.DeregisterRequest(agent_id=second))
    state = campaign(here, group, third)
    assert (state.leader_agent_id, state.term) == (third, 3)
    resign(there, group, third)
    assert campaign(here, group, first).term == 4


def test_an_election_is_watched_from_its_present_state_and_resumed(here, there, name):
    group = name("group")
    first, second = here.register(name("one")), here.register(name("two"))
    campaign(there, group, first)
    watch = watch_election(here, group)
    present = watch.wait_for("leader.changed", group)
    assert payload_of(present).leader_agent_id == first
    campaign(here, group, second)
    resign(there, group, first)
    resign(there, group, second)
    eventually(lambda: len(watch.events) == 3, "three states")
    leaders = [payload_of(event).leader_agent_id for event in watch.events]
    terms = [payload_of(event).term for event in watch.events]
    assert (leaders, terms) == ([first, second, ""], [1, 2, 2])
    resumed = watch_election(there, group, present.sequence_number)
    eventually(lambda: len(resumed.events) == 2, "what came after")
    assert resumed.events == watch.events[1:]


def test_a_group_nobody_campaigned_in_has_no_state_to_tell(here, name):
    group = name("group")
    watch = watch_election(here, group)
    agent_id = here.register(name("one"))
    campaign(here, group, agent_id)
    watch.wait_for("leader.changed", group)
    assert len(watch.events) == 1


def test_only_agents_campaign(here, name):
    for call in (campaign, resign):
        with refused(NOT_FOUND):
            call(here, name("group"), "0" * 32)


def test_policies_are_set_listed_checked_and_deleted(here, there, name):
    subject = name("agent")
    allow, deny = name("a"), name("b")
    here.set_policy(allow, subject + "*")
    assert there.check(subject).reason == f'allowed by policy "{allow}"'
    here.set_policy(deny, subject, pb.POLICY_EFFECT_DENY)
    verdict = there.check(subject)
    assert (verdict.allowed, verdict.reason) == (False, f'denied by policy "{deny}"')
    for wire in (here, there):
        listed = wire.call(methods.LIST_POLICIES, pb.ListPoliciesRequest(subject_prefix=subject))
        assert [policy.id for policy in listed.policies] == [allow, deny]
    here.call(methods.DELETE_POLICY, pb.DeletePolicyRequest(id=deny))
    assert there.check(subject).allowed
    there.call(methods.DELETE_POLICY, pb.DeletePolicyRequest(id=allow))
    verdict = here.check(subject)
    assert not verdict.allowed
    assert "no matching" in verdict.reason
    with refused(NOT_FOUND):
        here.call(methods.DELETE_POLICY, pb.DeletePolicyRequest(id=allow))
