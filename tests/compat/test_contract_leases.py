"""Leases: one holder, tokens that only grow, the codes of refusals."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import grpc
import pytest

from .helpers import Recorder, crashing, newer_fields, refused
from .legacy_client import AgentHandle, AgentKeeperClient
from .legacy_proto import CLASSES

Name = Callable[[str], str]


@pytest.fixture
def pair(client: AgentKeeperClient, name: Name) -> Any:
    with (
        client.register(name("one"), "Works", "1.0.0") as one,
        client.register(name("two"), "Works too", "1.0.0") as two,
    ):
        yield one, two


Pair = tuple[AgentHandle, AgentHandle]


def test_a_held_lease_is_not_acquired(client: AgentKeeperClient, name: Name, pair: Pair) -> None:
    one, two = pair
    held = client.acquire_lease(name("work"), one.agent_id)
    assert (held.lease.task_id, held.lease.holder_agent_id) == (name("work"), one.agent_id)
    assert client.acquire_lease(name("work"), two.agent_id) is None
    answer = client.call("AcquireLease", task_id=name("work"), agent_id=two.agent_id)
    assert not answer.acquired
    held.release()
    assert client.acquire_lease(name("work"), two.agent_id).lease.holder_agent_id == two.agent_id


def test_tokens_grow_over_all_leases(client: AgentKeeperClient, name: Name, pair: Pair) -> None:
    tokens = [0]
    for _ in range(3):
        for key in ("x", "y"):
            with client.acquire_lease(name(key), pair[0].agent_id) as handle:
                tokens.append(handle.lease.token)
    assert tokens == sorted(set(tokens))


def test_a_lease_without_ttl_has_sixty_seconds_and_keeps_its_own_at_renewal(
    client: AgentKeeperClient, name: Name, pair: Pair
) -> None:
    plain = client.acquire_lease(name("plain"), pair[0].agent_id, ttl=0).lease
    assert plain.expires_at - plain.acquired_at == timedelta(seconds=60)
    with client.acquire_lease(name("long"), pair[0].agent_id, ttl=300) as handle:
        first = handle.lease
        renewed = handle.renew()
        assert renewed.token == first.token
        assert first.expires_at <= renewed.expires_at < first.expires_at + timedelta(seconds=60)
        longer = handle.renew(ttl=900)
        assert longer.expires_at > renewed.expires_at + timedelta(seconds=500)
        again = handle.renew(ttl=0)
        assert again.expires_at >= longer.expires_at


def test_an_orchestrators_lease_passes_to_its_agent_when_the_agent_acquires_it(
    client: AgentKeeperClient, name: Name, pair: Pair
) -> None:
    assigned = client.acquire_lease(name("work"), pair[0].agent_id, ttl=120)
    with client.acquire_lease(name("work"), pair[0].agent_id, ttl=120) as working:
        assert working.lease.token > assigned.lease.token
        with refused(grpc.StatusCode.PERMISSION_DENIED):
            assigned.renew()
        working.renew()


def test_wrong_tokens_and_strangers_are_denied(
    client: AgentKeeperClient, name: Name, pair: Pair
) -> None:
    one, two = pair
    work = name("work")
    client.acquire_lease(name("earlier"), one.agent_id)  # so that the token before is not 0
    with client.acquire_lease(work, one.agent_id) as handle:
        right = handle.lease.token
        for agent_id, token in (
            (one.agent_id, right + 1),
            (one.agent_id, right - 1),
            (two.agent_id, right),
        ):
            key = {
                "task_id": work,
                "agent_id": agent_id,
                "token": CLASSES["FencingToken"](value=token),
            }
            for method in ("RenewLease", "ReleaseLease"):
                with refused(grpc.StatusCode.PERMISSION_DENIED):
                    client.call(method, **key)
        handle.renew()


def test_a_lease_taken_over_is_denied_to_its_former_holder(
    client: AgentKeeperClient, name: Name, pair: Pair
) -> None:
    one, two = pair
    former = client.acquire_lease(name("work"), one.agent_id)
    former.release()
    with client.acquire_lease(name("work"), two.agent_id) as present:
        assert present.lease.token > former.lease.token
        for call in (former.renew, former.release):
            with refused(grpc.StatusCode.PERMISSION_DENIED):
                call()


def test_unknown_and_expired_leases_are_not_found(
    client: AgentKeeperClient, name: Name, pair: Pair
) -> None:
    events = Recorder()
    key = {
        "task_id": name("never"),
        "agent_id": pair[0].agent_id,
        "token": CLASSES["FencingToken"](value=1),
    }
    for method in ("RenewLease", "ReleaseLease"):
        with refused(grpc.StatusCode.NOT_FOUND):
            client.call(method, **key)
    with client.watch(["lease.expired"], events) as watch:
        watch.ready()
        short = client.acquire_lease(name("short"), pair[0].agent_id, ttl=1)
        expired = events.topic("lease.expired", name("short"))
    assert expired.payload.token == short.lease.token
    for call in (short.renew, short.release):
        with refused(grpc.StatusCode.NOT_FOUND):
            call()
    assert client.acquire_lease(name("short"), pair[1].agent_id) is not None


def test_a_lease_freed_by_death_says_so(client: AgentKeeperClient, name: Name) -> None:
    stream = client.call("Watch", topics=["lease.released"])
    stream.initial_metadata()
    with crashing(client, name("victim"), ttl=30) as victim:
        client.acquire_lease(name("work"), victim.agent_id)
        victim.deregister()
    for event in stream:
        lease = CLASSES["Lease"]()
        assert event.payload.Unpack(lease)
        if lease.task_id == name("work"):
            assert newer_fields(lease)[6]
            break
    stream.cancel()


def test_bad_input_is_an_invalid_argument(
    client: AgentKeeperClient, name: Name, pair: Pair
) -> None:
    for task_id, ttl in (("", 60), ("x" * 10_000, 60), ("bell\a", 60), (name("w"), 2**32 - 1)):
        with refused(grpc.StatusCode.INVALID_ARGUMENT):
            client.acquire_lease(task_id, pair[0].agent_id, ttl)
