"""Events: topics, payloads, prefixes and numbers."""

from collections.abc import Callable
from datetime import UTC

import grpc
import pytest

from .conftest import Deployment
from .helpers import Recorder, refused
from .legacy_client import AgentKeeperClient
from .legacy_proto import CLASSES, PACKAGE
from .legacy_types import AgentInfo, AgentStatus, ElectionState, Lease

Name = Callable[[str], str]

PAYLOADS = {
    "agent.registered": AgentInfo,
    "agent.unreachable": AgentInfo,
    "agent.died": AgentInfo,
    "lease.acquired": Lease,
    "lease.renewed": Lease,
    "lease.expired": Lease,
    "lease.released": Lease,
    "leader.changed": ElectionState,
}


def test_every_topic_of_a_life_comes_once_in_order_with_its_payload(
    client: AgentKeeperClient, name: Name
) -> None:
    events = Recorder()
    with (
        client.watch([], events).ready(),
        client.register(name("loud"), "Does everything", "1.0.0") as agent,
    ):
        agent_id, group = agent.agent_id, name("group")
        events.topic("agent.registered", agent_id)
        lease = client.acquire_lease(name("work"), agent_id)
        lease.renew(ttl=90)
        lease.release()
        state = client.campaign(group, agent_id)
        client.acquire_lease(name("short"), agent_id, ttl=1)
        events.topic("lease.expired", name("short"))
        agent.deregister()
        events.wait_for(
            lambda event: event in events.about(group) and not event.payload.leader_agent_id
        )
    mine = events.about(agent_id, group, name("work"), name("short"))
    topics = [event.topic for event in mine]
    assert topics[:6] == [
        "agent.registered",
        "lease.acquired",
        "lease.renewed",
        "lease.released",
        "leader.changed",
        "lease.acquired",
    ]
    assert topics[6] == "lease.expired"
    assert sorted(topics[7:]) == ["agent.died", "leader.changed"]
    assert all(type(event.payload) is PAYLOADS[event.topic] for event in mine)
    assert all(event.timestamp.tzinfo is UTC for event in mine)
    registered, acquired, renewed, released, changed = (event.payload for event in mine[:5])
    assert (registered.card.name, registered.status) == (name("loud"), AgentStatus.ALIVE)
    assert (acquired.token, acquired.holder_agent_id) == (lease.lease.token, agent_id)
    assert renewed.expires_at == lease.lease.expires_at
    assert released.token == lease.lease.token
    assert changed == state


def test_payloads_are_packed_under_the_messages_full_names(
    client: AgentKeeperClient, name: Name
) -> None:
    stream = client.call("Watch", topics=["agent.registered", "leader.", "lease.acquired"])
    stream.initial_metadata()
    with client.register(name("a"), "Packs", "1.0.0") as agent:
        client.acquire_lease(name("work"), agent.agent_id)
        client.campaign(name("group"), agent.agent_id)
        seen = {}
        for event in stream:
            seen[event.topic] = event.payload.type_url.rpartition("/")[2]
            payload = CLASSES[PAYLOADS[event.topic].__name__]()
            assert event.payload.Unpack(payload)
            assert event.HasField("occurred_at")
            if event.topic == "leader.changed" and payload.group == name("group"):
                break
        stream.cancel()
    assert seen == {topic: f"{PACKAGE}.{PAYLOADS[topic].__name__}" for topic in seen}
    assert len(seen) == 3


@pytest.mark.parametrize(
    ("topics", "expected"),
    [
        (["agent."], ["agent.registered", "agent.died"]),
        (["agent.died"], ["agent.died"]),
        (["lease.rel", "agent.reg"], ["agent.registered", "lease.released"]),
        (["lease."], ["lease.acquired", "lease.released"]),
        ([], ["agent.registered", "lease.acquired", "lease.released", "agent.died"]),
    ],
)
def test_a_watch_takes_prefixes_and_none_means_all(
    client: AgentKeeperClient, name: Name, topics: list[str], expected: list[str]
) -> None:
    events = Recorder()
    with client.watch(topics, events) as watch:
        watch.ready()
        with client.register(name("a"), "Is watched", "1.0.0") as agent:
            client.acquire_lease(name("work"), agent.agent_id).release()
        events.wait_for(
            lambda event: (
                event in events.about(agent.agent_id, name("work")) and event.topic == expected[-1]
            )
        )
    assert [event.topic for event in events.about(agent.agent_id, name("work"))] == expected


def test_numbers_rise_over_all_topics_and_are_the_same_for_every_watcher(
    client: AgentKeeperClient, name: Name
) -> None:
    everything, leases = Recorder(), Recorder()
    with client.watch([], everything) as one, client.watch(["lease."], leases) as two:
        one.ready()
        two.ready()
        with client.register(name("a"), "Is watched", "1.0.0") as agent:
            for _ in range(5):
                client.acquire_lease(name("work"), agent.agent_id).release()
        everything.topic("agent.died", agent.agent_id)
        leases.wait_for(lambda _: len(leases.about(name("work"))) == 10)
    numbers = [event.sequence for event in everything.kept]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    by_number = {event.sequence: event for event in everything.kept}
    assert all(by_number[e.sequence] == e for e in leases.about(name("work")))


def test_a_cancelled_watch_ends_and_the_client_goes_on(
    deployment: Deployment, client: AgentKeeperClient, name: Name
) -> None:
    events = Recorder()
    watch = client.watch(["agent."], events).ready()
    with client.register(name("a"), "Is watched", "1.0.0") as agent:
        events.topic("agent.registered", agent.agent_id)
        watch.cancel()
    assert watch.error.code() == grpc.StatusCode.CANCELLED
    assert client.get_agent(agent.agent_id).status is AgentStatus.DEAD
    assert [event.topic for event in events.about(agent.agent_id)] == ["agent.registered"]


def test_bad_topics_are_an_invalid_argument(client: AgentKeeperClient) -> None:
    for topics in (["x" * 10_000], ["agent\0."]):
        with refused(grpc.StatusCode.INVALID_ARGUMENT):
            next(client.call("Watch", topics=topics))
