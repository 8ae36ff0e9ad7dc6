"""Watch through a follower and through the leader: order, filters, resuming."""

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.client import methods
from agentkeeper.server.watch import PROGRESS_EVENTS

from .waiting import eventually
from .wire import INVALID_ARGUMENT, payload_of, refused, subject_of


def make_events(wire, name):
    """Let something happen, some of it about agents; returns the agent's id."""
    agent_id = wire.register(name("worker"))
    lease = wire.acquire(name("key"), agent_id).lease
    wire.release(lease)
    wire.set_policy(name("policy"))
    wire.create_task(name("task"))
    wire.call(methods.CAMPAIGN, pb.CampaignRequest(group=name("group"), agent_id=agent_id))
    wire.call(methods.DEREGISTER, pb.DeregisterRequest(agent_id=agent_id))
    return agent_id


def test_everything_that_happens_anywhere_is_told_in_order_and_once(here, there, name):
    watch = here.watch_all()
    agent_id = make_events(there, name)
    make_events(here, lambda stem: name("other-" + stem))
    watch.wait_for("agent.died", agent_id)
    eventually(
        lambda: [event.topic for event in watch.events].count("agent.died") >= 2, "both deaths"
    )
    numbers = watch.sequences
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    topics = [e.topic for e in watch.events if subject_of(e) in (agent_id, name("key"))]
    assert topics == ["agent.registered", "lease.acquired", "lease.released", "agent.died"]


def test_a_watch_takes_prefixes(here, there, name):
    watch = here.watch_all("lease.", "agent.died")
    agent_id = make_events(there, name)
    watch.wait_for("agent.died", agent_id)
    mine = [event.topic for event in watch.events if subject_of(event) in (agent_id, name("key"))]
    assert mine == ["lease.acquired", "lease.released", "agent.died"]


def test_a_watch_resumes_on_any_replica(here, there, name):
    watch = here.watch_all()
    last = make_events(here, name)
    died = watch.wait_for("agent.died", last).sequence_number
    seen = [event for event in watch.events if event.sequence_number <= died]
    for wire in (here, there):
        for position in (0, len(seen) // 2, len(seen) - 2):
            after = seen[position].sequence_number
            resumed = wire.watch_all(after=after)
            resumed.wait_for("agent.died", last)
            rest = seen[position + 1 :]
            assert resumed.events[: len(rest)] == rest
            resumed.cancel()


def test_headers_mean_that_the_watch_is_live(here, there, name):
    for i in range(20):
        watch = here.watch_all("policy.")
        there.set_policy(name(f"policy{i}"))
        watch.wait_for("policy.set", name(f"policy{i}"))
        assert len(watch.events) == 1
        assert watch.headers["agentkeeper-index"].isdigit()
        watch.cancel()


def test_headers_tell_where_a_quiet_watch_begins(here, there, name):
    watch = here.watch_all("policy.")
    begin = int(watch.headers["agentkeeper-sequence"])
    there.set_policy(name("policy"))
    event = watch.wait_for("policy.set", name("policy"))
    assert event.sequence_number == begin + 1
    group = name("group")
    request = pb.WatchElectionRequest(group=group)
    begin = int(here.watch(methods.WATCH_ELECTION, request).headers["agentkeeper-sequence"])
    agent_id = there.register(name("worker"))
    there.call(methods.CAMPAIGN, pb.CampaignRequest(group=group, agent_id=agent_id))
    request = pb.WatchElectionRequest(group=group, after_sequence=begin)
    state = payload_of(there.watch(methods.WATCH_ELECTION, request).wait_for("leader.changed"))
    assert state.leader_agent_id == agent_id


def test_the_future_cannot_be_watched(here):
    for method, request in (
        (methods.WATCH, pb.WatchRequest(after_sequence=2**40)),
        (methods.WATCH_ELECTION, pb.WatchElectionRequest(group="g", after_sequence=2**40)),
    ):
        with refused(INVALID_ARGUMENT) as told:
            raise here.watch(method, request).ended()
        assert told["agentkeeper-field"] == "after_sequence"


def test_a_filtered_watch_tells_how_far_it_has_come(here, there, name):
    quiet = here.watch_all("agent.died")
    request = pb.WatchRequest(topics=["agent.died"], progress=True)
    election = pb.WatchElectionRequest(group=name("group"), progress=True)
    marked = [here.watch(methods.WATCH, request), here.watch(methods.WATCH_ELECTION, election)]
    policy = pb.Policy(id=name("p"), subject="s", action="a", resource="r", effect=1)
    stream = there.share()
    for _ in range(PROGRESS_EVENTS // 500):
        calls = [
            stream.new(methods.SET_POLICY, pb.SetPolicyRequest(policy=policy)) for _ in range(500)
        ]
        stream.send(*calls)
        for call in calls:
            stream.answer(call.id)
    stream.close()
    for watch in marked:
        begin = int(watch.headers["agentkeeper-sequence"])
        (mark,) = eventually(lambda w=watch: w.events, "a mark")
        assert mark == pb.Event(sequence_number=begin + PROGRESS_EVENTS)
        resumed = there.watch_all("agent.died", after=mark.sequence_number)
        agent_id = here.register(name("worker"))
        here.call(methods.DEREGISTER, pb.DeregisterRequest(agent_id=agent_id))
        resumed.wait_for("agent.died", agent_id)
    quiet.wait_for("agent.died", agent_id)
    assert all(event.topic for event in quiet.events)
