"""The SDK against real daemons: what it promises when replicas die, hang and come back."""

import queue
import threading
import time
from collections import Counter

import grpc
import pytest

from agentkeeper import (
    AgentKeeperClient,
    AgentKeeperError,
    AgentStatus,
    InvalidArgument,
    NotFound,
    OutcomeUnknown,
    PermissionDenied,
    PolicyEffect,
    TaskStatus,
    Unavailable,
)
from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.launcher import LocalCluster

from .conftest import calls_of
from .waiting import eventually

OUTAGE_S = 15.0  # far more than any failover takes; what a call may need at worst
NOBODY = "a-tool-that-nobody-has"


@pytest.fixture(scope="module")
def shared():
    """A cluster for tests that harm nobody."""
    with LocalCluster(3) as cluster:
        yield cluster


@pytest.fixture
def cluster():
    """A cluster for tests that kill."""
    with LocalCluster(3) as cluster:
        yield cluster


@pytest.fixture
def client(cluster):
    with cluster.client() as client:
        yield client


class Load:
    """Threads that write until told to stop, and what became of each write."""

    def __init__(self, client, threads=8):
        self.client = client
        self.acked = []
        self.failed = []
        self.slowest_s = 0.0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(n,)) for n in range(threads)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _write(self, number):
        count = 0
        while not self._stop.is_set():
            count += 1
            tag = f"{number}.{count}"
            begin = time.monotonic()
            try:
                self.client.create_task("load", tag.encode(), required_tools=[NOBODY])
            except AgentKeeperError as error:
                self.failed.append((tag, error))
            else:
                self.acked.append(tag)
            self.slowest_s = max(self.slowest_s, time.monotonic() - begin)

    def wait_for(self, count, timeout_s=OUTAGE_S):
        """Wait for `count` more acknowledged writes."""
        enough = len(self.acked) + count
        eventually(lambda: len(self.acked) >= enough, f"{enough} writes", timeout_s)

    def check(self):
        """No call failed, no write was lost, none took effect twice."""
        assert self.failed == []
        written = Counter(t.input.decode() for t in self.client.list_tasks() if t.type == "load")
        assert [tag for tag in self.acked if written[tag] == 0] == []
        assert [tag for tag, times in written.items() if times > 1] == []


def take(received, count):
    return [received.get(timeout=OUTAGE_S) for _ in range(count)]


# ---------------------------------------------------------------- every method


@pytest.mark.parametrize("through", ["leader", "follower", "all"])
def test_every_method(shared, through):
    leader = shared.leader()
    endpoints = {
        "leader": [leader.endpoint],
        "follower": [shared.followers()[0].endpoint],
        "all": shared.endpoints,
    }[through]
    with AgentKeeperClient(endpoints=endpoints) as client:
        with client.register(
            "scraper", "Fetches web pages", "1.0", ["browser", through], {"k": "v"}, ttl=20
        ) as agent:
            _registry(client, agent, through)
            _leases(client, agent, through)
            _elections(client, agent, through)
            _policies(client, through)
            _tasks(client, agent, through)
        assert client.get_agent(agent.agent_id).status is AgentStatus.DEAD


def _registry(client, agent, through):
    info = client.get_agent(agent.agent_id)
    assert (info.status, info.card.name, info.card.tools) == (
        AgentStatus.ALIVE,
        "scraper",
        ["browser", through],
    )
    assert info.card.metadata == {"k": "v"}
    assert [a.agent_id for a in client.find("pages", tools=[through])] == [agent.agent_id]
    assert client.find(tools=[NOBODY]) == []
    with pytest.raises(NotFound):
        client.get_agent("0" * 32)
    with pytest.raises(InvalidArgument) as caught:
        client.register("", "d", "v")
    assert "name" in caught.value.field


def _leases(client, agent, through):
    key = f"lease-{through}"
    with client.register("rival", "d", "v") as rival:
        first = client.acquire_lease(key, agent.agent_id, ttl=30)
        assert client.acquire_lease(key, rival.agent_id) is None
        again = client.acquire_lease(key, agent.agent_id)
        assert again.lease.token > first.lease.token
        with pytest.raises(PermissionDenied) as caught:
            first.renew()
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert again.renew(ttl=90).ttl_seconds == 90
        again.release()
        with pytest.raises(NotFound):
            again.renew()
        with client.acquire_lease(key, rival.agent_id) as lease:
            assert lease.lease.token > again.lease.token


def _elections(client, agent, through):
    group = f"group-{through}"
    with client.register("standby", "d", "v") as standby:
        states = queue.Queue()
        state = client.campaign(group, agent.agent_id)
        assert state.leader_agent_id == agent.agent_id
        assert client.campaign(group, standby.agent_id) == state
        with client.watch_election(group, states.put):
            assert states.get(timeout=5) == state
            client.resign(group, agent.agent_id)
            changed = states.get(timeout=5)
        assert (changed.leader_agent_id, changed.term) == (standby.agent_id, state.term + 1)


def _policies(client, through):
    subject = f"agent:{through}"
    client.set_policy(f"allow-{through}", subject, "call", "tool:*", PolicyEffect.ALLOW)
    denied = client.set_policy(f"deny-{through}", subject, "call", "tool:rm", PolicyEffect.DENY)
    assert denied.effect is PolicyEffect.DENY
    assert client.check_policy(subject, "call", "tool:ls").allowed
    result = client.check_policy(subject, "call", "tool:rm")
    assert (result.allowed, result.reason) == (False, f'denied by policy "deny-{through}"')
    assert len(client.list_policies(subject)) == 2
    client.delete_policy(f"deny-{through}")
    assert client.check_policy(subject, "call", "tool:rm").allowed
    with pytest.raises(NotFound):
        client.delete_policy(f"deny-{through}")


def _tasks(client, agent, through):
    low = client.create_task("t", b"low", [through], ttl=30)
    high = client.create_task("t", b"high", [through], priority=5, max_retries=1)
    keyed = client.create_task("t", b"k", [NOBODY], idempotency_key=through)
    assert client.create_task("t", b"k", [NOBODY], idempotency_key=through).id == keyed.id
    claimed = client.claim_task(agent.agent_id)
    assert (claimed.id, claimed.status, claimed.input) == (high.id, TaskStatus.CLAIMED, b"high")
    assert client.extend_task(high.id, agent.agent_id, ttl=100).id == high.id
    client.fail_task(high.id, agent.agent_id, "once")
    assert client.get_task(high.id).retry_count == 1
    assert client.claim_task(agent.agent_id).id == high.id
    with pytest.raises(PermissionDenied):
        client.complete_task(high.id, agent.agent_id, claim_token=claimed.claim_token)
    client.fail_task(high.id, agent.agent_id, "twice")
    assert high.id in [t.id for t in client.list_tasks(TaskStatus.DEAD)]
    assert client.requeue_task(high.id).status is TaskStatus.PENDING
    client.complete_task(client.claim_task(agent.agent_id).id, agent.agent_id, b"done")
    assert client.get_task(high.id).output == b"done"
    assert client.claim_task(agent.agent_id).id == low.id
    client.complete_task(low.id, agent.agent_id)
    with pytest.raises(grpc.RpcError) as caught:
        client.claim_task(agent.agent_id, timeout=0.3)
    assert caught.value.code() in {
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNAVAILABLE,
    }


# ---------------------------------------------------------------- sessions


def test_a_forgotten_session_is_replaced(shared):
    with shared.client() as client:
        client.set_policy("p", "s", "a", "r", "ALLOW")
        session_id = client._core._caller._sessions._current.session_id
        with grpc.insecure_channel(shared.endpoints[0]) as channel:
            channel.unary_unary(
                "/agentkeeper.v1.SessionService/CloseSession",
                request_serializer=pb.CloseSessionRequest.SerializeToString,
                response_deserializer=pb.CloseSessionResponse.FromString,
            )(pb.CloseSessionRequest(session_id=session_id))
        client.set_policy("p", "s", "a", "r", "DENY")
        assert client._core._caller._sessions._current.session_id != session_id


def test_more_calls_at_once_than_a_session_s_window(shared):
    with shared.client() as client, client.register("claims", "d", "v", tools=[NOBODY]) as agent:
        waiting = [
            threading.Thread(target=_claim_and_complete, args=(client, agent)) for _ in range(20)
        ]
        for thread in waiting:
            thread.start()
        client._core._caller._sessions._current.window = 32
        for number in range(100):
            client.set_policy(f"window-{number % 10}", "s", "a", "r", "ALLOW")
        for _ in waiting:
            client.create_task("t", required_tools=[NOBODY])
        for thread in waiting:
            thread.join(OUTAGE_S)
            assert not thread.is_alive()


def _claim_and_complete(client, agent):
    client.complete_task(client.claim_task(agent.agent_id).id, agent.agent_id)


# ---------------------------------------------------------------- waiting in line


def calls(cluster, method):
    return sum(calls_of(node, method) for node in cluster.nodes.values())


def await_more_calls(client, cluster, **counts):
    """Wait until the replicas have taken that many calls, and what those ask is in the log."""
    for method, count in counts.items():
        eventually(lambda m=method, n=count: calls(cluster, m) >= n, f"{count} {method}")
    # What the client asks later, of the replica it uses, gets into the log later.
    client.set_policy("after", "nobody", "does", "nothing", PolicyEffect.DENY)


def test_a_lease_is_waited_for_in_line(shared):
    with shared.client() as client:
        agents = [client.register(f"waiter-{n}", "d", "v") for n in range(4)]
        lease = client.acquire_lease("queue", agents[0].agent_id)
        order, granted = [], queue.Queue()

        def wait(agent):
            granted.put((agent, client.acquire_lease("queue", agent.agent_id, wait=OUTAGE_S)))

        threads = []
        for agent in agents[1:]:
            threads.append(threading.Thread(target=wait, args=(agent,)))
            before = calls(shared, "AcquireLease")
            threads[-1].start()
            await_more_calls(client, shared, AcquireLease=before + 1)
        for _ in agents[1:]:
            lease.release()
            agent, lease = granted.get(timeout=OUTAGE_S)
            order.append(agent)
        assert order == agents[1:]
        assert client.acquire_lease("queue", agents[0].agent_id, wait=0.5) is None
        for agent in agents:
            agent.deregister()


# ---------------------------------------------------------------- replicas die


def test_a_killed_leader_costs_no_call(cluster, client):
    with Load(client) as load:
        load.wait_for(200)
        cluster.leader().kill()
        load.wait_for(200)
    load.check()
    assert load.slowest_s < OUTAGE_S


def test_a_paused_leader_costs_no_call(cluster, client):
    with Load(client) as load:
        load.wait_for(200)
        leader = cluster.leader()
        leader.pause()
        load.wait_for(200)
        leader.resume()
        load.wait_for(200)
    load.check()
    assert load.slowest_s < OUTAGE_S


def test_a_paused_follower_costs_little(cluster, client):
    with Load(client) as load:
        load.wait_for(100)
        for follower in cluster.followers():
            follower.pause()
            load.wait_for(100)
            follower.resume()
    load.check()
    assert load.slowest_s < 6.0


def test_a_rolling_restart_costs_no_call(cluster, client):
    with Load(client) as load:
        for node in cluster.nodes.values():
            load.wait_for(50)
            assert node.terminate() == 0
            node.start()
            cluster.wait_ready(nodes=[node])
    load.check()


def test_a_watch_goes_on_through_the_death_of_its_replica(cluster, client):
    received = queue.Queue()
    with client.watch(["policy."], received.put) as subscription:
        client.set_policy("first", "s", "a", "r", "ALLOW")
        first = received.get(timeout=OUTAGE_S)
        _node_of(cluster, subscription).kill()
        for number in range(20):
            client.set_policy(f"p{number}", "s", "a", "r", "ALLOW")
        ids = [event.payload.id for event in take(received, 20)]
    assert first.payload.id == "first"
    assert ids == [f"p{number}" for number in range(20)]
    assert received.empty()


def test_a_watch_that_saw_nothing_goes_on_where_it_began(cluster, client):
    received = queue.Queue()
    with client.watch(["policy."], received.put) as subscription:
        node = _node_of(cluster, subscription)
        node.pause()
        client.set_policy("while-deaf", "s", "a", "r", "ALLOW")
        node.kill()
        assert received.get(timeout=OUTAGE_S).payload.id == "while-deaf"


def test_a_watch_notices_that_its_replica_hangs(cluster, client):
    received = queue.Queue()
    with client.watch([], received.put) as subscription:
        client.set_policy("before", "s", "a", "r", "ALLOW")
        before = received.get(timeout=OUTAGE_S)
        node = _node_of(cluster, subscription)
        node.pause()
        begin = time.monotonic()
        client.set_policy("after", "s", "a", "r", "ALLOW")
        after = received.get(timeout=OUTAGE_S)
        assert time.monotonic() - begin < 10.0
        node.resume()
    assert after.sequence == before.sequence + 1


def _node_of(cluster, subscription):
    endpoint = subscription._stream._opening.result()._feed._endpoint
    return next(node for node in cluster.nodes.values() if node.endpoint == endpoint)


@pytest.mark.parametrize("way", ["kill", "terminate", "pause"])
@pytest.mark.parametrize("victim", ["serving", "leader"])
def test_those_who_wait_outlive_a_replica(cluster, client, way, victim):
    """A claim and a place in a lease's line, while the replica they wait at or the leader ends."""
    worker = client.register("worker", "d", "v", tools=["t"])
    holder, waiter = client.register("holder", "d", "v"), client.register("waiter", "d", "v")
    lease = client.acquire_lease("k", holder.agent_id)
    claimed, granted = queue.Queue(), queue.Queue()
    threading.Thread(target=lambda: claimed.put(client.claim_task(worker.agent_id))).start()
    threading.Thread(
        target=lambda: granted.put(client.acquire_lease("k", waiter.agent_id, wait=OUTAGE_S))
    ).start()
    await_more_calls(client, cluster, ClaimTask=1, AcquireLease=2)
    serving = client._core._caller.endpoints.pick(())
    node = next(node for node in cluster.nodes.values() if node.endpoint == serving)
    getattr(cluster.leader() if victim == "leader" else node, way)()
    task = client.create_task("x", required_tools=["t"])
    assert claimed.get(timeout=OUTAGE_S).id == task.id
    client.complete_task(task.id, worker.agent_id)
    lease.release()
    assert granted.get(timeout=OUTAGE_S).lease.token > lease.lease.token
    assert client.get_task(task.id).expired_claims == 0


def test_a_claim_that_is_asked_for_again_and_again_is_made_once(shared, monkeypatch):
    monkeypatch.setattr("agentkeeper.client.core.CLAIM_WAIT_S", 0.02)
    monkeypatch.setattr("agentkeeper.client.retry.attempt_timeout_s", lambda *_: 0.02)
    count = 30
    with shared.client() as client, shared.client() as creator:
        agent = client.register("impatient", "d", "v", tools=["hasty"])
        claimed, failed = [], []

        def claim():
            try:
                while len(claimed) < count:
                    task = client.claim_task(agent.agent_id)
                    claimed.append(task.id)
                    client.complete_task(task.id, agent.agent_id)
            except AgentKeeperError as error:
                failed.append(error)

        thread = threading.Thread(target=claim)
        thread.start()
        created = []
        for number in range(count):
            created.append(creator.create_task("x", required_tools=["hasty"], ttl=5).id)
            time.sleep(number % 5 / 100)  # so that attempts end at different points of a claim
        thread.join(OUTAGE_S)
        assert not thread.is_alive()
        assert failed == []
        assert sorted(claimed) == sorted(created)
        agent.deregister()


def test_an_agent_stays_alive_through_failovers(cluster, client):
    with client.register("lively", "d", "v", ttl=4) as agent:
        for _ in range(2):
            leader = cluster.leader()
            leader.kill()
            time.sleep(5)  # more than a ttl
            assert client.get_agent(agent.agent_id).status is AgentStatus.ALIVE
            leader.start()
            cluster.wait_ready()


def test_without_a_majority_calls_end_in_time(cluster, client):
    client.set_policy("p", "s", "a", "r", "ALLOW")
    for follower in cluster.followers():
        follower.kill()
    for call in (lambda: client.find(timeout=3), lambda: client.create_task("x", timeout=3)):
        begin = time.monotonic()
        with pytest.raises((Unavailable, OutcomeUnknown)):
            call()
        assert 2.0 < time.monotonic() - begin < 4.5
    for node in cluster.nodes.values():
        node.kill()
    with pytest.raises(Unavailable):
        client.find(timeout=1)  # by now the client has noticed: no write is under way to the dead
    with pytest.raises(Unavailable):
        client.create_task("x", timeout=1)
    cluster.start()
    assert client.list_policies()[0].id == "p"


# ---------------------------------------------------------------- embedded


def test_embedded_daemons_live_side_by_side(tmp_path):
    with AgentKeeperClient.embedded() as one, AgentKeeperClient.embedded() as other:
        one.set_policy("p", "s", "a", "r", "ALLOW")
        assert other.list_policies() == []
    with AgentKeeperClient.embedded(data_dir=tmp_path / "d") as client:
        client.set_policy("kept", "s", "a", "r", "ALLOW")
    with AgentKeeperClient.embedded(data_dir=str(tmp_path / "d")) as client:
        assert [policy.id for policy in client.list_policies()] == ["kept"]
