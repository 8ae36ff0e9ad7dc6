"""Subscriptions that outlive the replica that serves them."""

import itertools
import queue
import threading

import grpc
import pytest
from google.protobuf.any_pb2 import Any

from agentkeeper import AgentInfo, AgentKeeperClient, ElectionState, WatchGap, errors
from agentkeeper._pb import agentkeeper_pb2 as pb

Code = grpc.StatusCode


class Bus:
    """Serves the events from 1 on from several stand-ins, each stream cut after `cut_after`."""

    def __init__(self, *daemons):
        self.condition = threading.Condition()
        self.last = 0
        self.oldest = 1
        self.requests = []
        self.cut_after = None
        self.cut_code = Code.UNAVAILABLE
        self.ended = False
        self.epoch = 0
        self.refuse = daemons[0].refuse
        for daemon in daemons:
            daemon.answers["Watch"] = self.watch

    def publish(self, count=1):
        with self.condition:
            self.last += count
            self.condition.notify_all()

    def end(self):
        with self.condition:
            self.ended = True
            self.condition.notify_all()

    def watch(self, request, context):
        after = request.after_sequence if request.HasField("after_sequence") else None
        with self.condition:
            self.requests.append(after)
            epoch = self.epoch
            position = self.last if after is None else after
            if position + 1 < self.oldest:
                self.refuse(context, Code.OUT_OF_RANGE, True, oldest=str(self.oldest))
        context.send_initial_metadata((("agentkeeper-sequence", str(self.last)),))
        for sent in itertools.count():
            if sent == self.cut_after:
                self.refuse(context, self.cut_code, True)
            with self.condition:
                while (
                    position >= self.last
                    and epoch == self.epoch
                    and not self.ended
                    and context.is_active()
                ):
                    self.condition.wait(0.1)
                if self.ended or not context.is_active():
                    return
                if epoch != self.epoch:
                    self.refuse(context, Code.UNAVAILABLE, True)
            position += 1
            yield event(position)


def event(sequence, topic="agent.died"):
    payload = Any()
    payload.Pack(pb.AgentInfo(agent_id=f"a{sequence}", status=pb.AGENT_STATUS_DEAD))
    return pb.Event(topic=topic, payload=payload, sequence_number=sequence)


@pytest.fixture
def bus(daemons):
    first, second = daemons(), daemons()
    bus = Bus(first, second)
    bus.addresses = [first.address, second.address]
    yield bus
    bus.end()


@pytest.fixture
def client(bus):
    with AgentKeeperClient(endpoints=bus.addresses) as client:
        yield client


def take(received, count):
    return [received.get(timeout=10) for _ in range(count)]


def test_nothing_after_the_return_is_missed(bus, client):
    bus.publish(5)
    received = queue.Queue()
    with client.watch(["agent."], received.put) as subscription:
        bus.publish(3)
        events = take(received, 3)
        assert subscription.active
    assert [e.sequence for e in events] == [6, 7, 8]
    assert isinstance(events[0].payload, AgentInfo)
    assert not subscription.active


def test_a_watch_resumes_without_gap_or_repeat(bus, client):
    bus.cut_after = 3
    received = queue.Queue()
    with client.watch([], received.put):
        bus.publish(20)
        assert [e.sequence for e in take(received, 20)] == list(range(1, 21))
    assert len(bus.requests) >= 7
    assert received.empty()


def test_a_watch_that_has_seen_nothing_resumes_where_it_began(bus, client):
    bus.publish(4)
    received = queue.Queue()
    with client.watch([], received.put):
        with bus.condition:
            bus.last += 1
            bus.epoch += 1  # the stream is cut before it has sent the event
            bus.condition.notify_all()
        assert received.get(timeout=10).sequence == 5
    assert bus.requests == [None, 4]


def test_a_slow_watcher_that_is_cut_resumes(bus, client):
    bus.cut_after, bus.cut_code = 2, Code.RESOURCE_EXHAUSTED
    received = queue.Queue()
    with client.watch([], received.put):
        bus.publish(6)
        assert [e.sequence for e in take(received, 6)] == [1, 2, 3, 4, 5, 6]


def test_a_watch_begins_after_a_number(bus, client):
    bus.publish(5)
    received = queue.Queue()
    with client.watch([], received.put, after=2):
        assert [e.sequence for e in take(received, 3)] == [3, 4, 5]


def test_what_is_gone_is_told(bus, client):
    bus.publish(10)
    bus.oldest = 8
    received = queue.Queue()
    with client.watch([], received.put, after=3, on_gap=received.put):
        gap, *events = take(received, 4)
    assert gap == WatchGap(after=3, oldest=8)
    assert [e.sequence for e in events] == [8, 9, 10]


def test_a_beginning_that_is_gone_is_an_error_unless_gaps_are_handled(bus, client):
    bus.publish(10)
    bus.oldest = 8
    with pytest.raises(errors.Compacted) as caught:
        client.watch([], print, after=3)
    assert caught.value.oldest == 8


def test_a_gap_while_disconnected_does_not_end_the_watch(bus, client):
    received = queue.Queue()
    with client.watch([], received.put, on_gap=received.put):
        bus.publish()
        assert received.get(timeout=10).sequence == 1
        with bus.condition:
            bus.last, bus.oldest = 9, 5
            bus.epoch += 1
            bus.condition.notify_all()
        gap, *events = take(received, 6)
    assert gap == WatchGap(after=1, oldest=5)
    assert [e.sequence for e in events] == [5, 6, 7, 8, 9]


def test_an_unhandled_gap_is_logged(bus, client, caplog):
    received = queue.Queue()
    with client.watch([], received.put):
        bus.publish()
        assert received.get(timeout=10).sequence == 1
        with bus.condition:
            bus.last, bus.oldest = 9, 9
            bus.epoch += 1
            bus.condition.notify_all()
        assert received.get(timeout=10).sequence == 9
    assert "missed events 2 to 8" in caplog.text


def test_a_failing_callback_does_not_cost_the_events_after_it(bus, client, caplog):
    received = queue.Queue()

    def callback(item):
        received.put(item)
        if item.sequence == 1:
            raise ZeroDivisionError

    with client.watch([], callback):
        bus.publish(2)
        assert [e.sequence for e in take(received, 2)] == [1, 2]
    assert "callback of a watch raised" in caplog.text


def test_the_callback_may_use_and_cancel(bus, client):
    done = threading.Event()

    def callback(item):
        client.find()
        subscription.cancel()
        done.set()

    subscription = client.watch([], callback)
    bus.publish(3)
    assert done.wait(10)
    assert len(bus.requests) == 1


def test_a_slow_callback_holds_no_more_than_the_buffer(bus, client):
    release, received = threading.Event(), []

    def callback(item):
        release.wait(10)
        received.append(item.sequence)
        if item.sequence == 5000:
            finished.set()

    finished = threading.Event()
    with client.watch([], callback) as subscription:
        bus.publish(5000)
        threading.Event().wait(0.5)
        assert len(subscription._stream._opening.result()._items) <= 1000
        release.set()
        assert finished.wait(20)
    assert received == list(range(1, 5001))


def test_a_refusal_at_the_beginning_is_raised(daemons):
    daemon = daemons()
    daemon.answers["Watch"] = lambda r, c: daemon.refuse(
        c, Code.INVALID_ARGUMENT, True, field="topics[0]"
    )
    with (
        AgentKeeperClient(endpoints=[daemon.address]) as client,
        pytest.raises(errors.InvalidArgument) as caught,
    ):
        client.watch(["x"], print)
    assert caught.value.field == "topics[0]"


def test_an_election_is_watched_from_its_present_state(daemons):
    daemon = daemons()

    def watch(request, context):
        context.send_initial_metadata((("agentkeeper-sequence", "9"),))
        for sequence, leader in ((4, "a"), (10, "b")):
            payload = Any()
            payload.Pack(pb.ElectionState(group=request.group, leader_agent_id=leader, term=1))
            yield pb.Event(topic="leader.changed", payload=payload, sequence_number=sequence)
        threading.Event().wait(0.2)

    daemon.answers["WatchElection"] = watch
    received = queue.Queue()
    with (
        AgentKeeperClient(endpoints=[daemon.address]) as client,
        client.watch_election("g", received.put),
    ):
        states = take(received, 2)
    assert [state.leader_agent_id for state in states] == ["a", "b"]
    assert isinstance(states[0], ElectionState)


def test_an_election_whose_changes_are_gone_tells_its_present_state(daemons):
    daemon = daemons()
    requests = []

    def watch(request, context):
        after = request.after_sequence if request.HasField("after_sequence") else None
        requests.append(after)
        if after is not None:
            daemon.refuse(context, Code.OUT_OF_RANGE, True, oldest="50")
        context.send_initial_metadata((("agentkeeper-sequence", "60"),))
        payload = Any()
        payload.Pack(pb.ElectionState(group=request.group, leader_agent_id="b", term=2))
        yield pb.Event(topic="leader.changed", payload=payload, sequence_number=30)
        ended.wait(10)

    ended = threading.Event()
    daemon.answers["WatchElection"] = watch
    received = queue.Queue()
    with (
        AgentKeeperClient(endpoints=[daemon.address]) as client,
        client.watch_election("g", received.put, after=3, on_gap=received.put),
    ):
        gap, state = take(received, 2)
    ended.set()
    assert gap == WatchGap(after=3, oldest=50)
    assert state.leader_agent_id == "b"
    assert requests[:2] == [3, None]


def test_topics_are_no_str(client):
    with pytest.raises(TypeError, match="sequence of prefixes"):
        client.watch("agent.", print)


def test_what_breaks_a_watch_unexpectedly_is_its_error(bus, client, monkeypatch, caplog):
    def convert_badly(message):
        raise ZeroDivisionError("newer than this")

    monkeypatch.setattr("agentkeeper.client.convert.event_from", convert_badly)
    with client.watch([], print) as subscription:
        bus.publish()
        subscription._background.join(10)
        assert not subscription.active
    assert subscription.error.code() is Code.INTERNAL
    assert "newer than this" in str(subscription.error)
    assert "a watch has ended" in caplog.text


def test_nothing_buffered_is_delivered_once_the_client_is_closed(bus):
    entered, release, received = threading.Event(), threading.Event(), []

    def callback(item):
        received.append(item.sequence)
        entered.set()
        release.wait(10)

    client = AgentKeeperClient(endpoints=bus.addresses)
    subscription = client.watch([], callback)
    bus.publish(20)
    assert entered.wait(10)
    client.close()
    release.set()
    subscription._background.join(10)
    assert received == [1]


def test_closing_the_client_ends_its_subscriptions(bus):
    client = AgentKeeperClient(endpoints=bus.addresses)
    subscription = client.watch([], print)
    client.close()
    subscription._background.join(5)
    assert not subscription.active
