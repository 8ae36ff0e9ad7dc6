"""LeaseService without waiting, through a follower and through the leader."""

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.client import methods

from .waiting import eventually
from .wire import NOT_FOUND, PERMISSION_DENIED, payload_of, refused


def renew(wire, lease, ttl=0):
    request = pb.RenewLeaseRequest(
        task_id=lease.task_id,
        agent_id=lease.holder_agent_id,
        token=lease.token,
        ttl_seconds=ttl,
    )
    return wire.call(methods.RENEW_LEASE, request).lease


def test_one_holds_a_lease_and_passes_it_on(here, there, name):
    one, two, key = here.register(name("one")), here.register(name("two")), name("key")
    held = here.acquire(key, one, ttl=60)
    assert held.acquired
    assert held.lease.token.value > 0
    refusal = there.acquire(key, two)
    assert (refusal.acquired, refusal.lease.holder_agent_id) == (False, one)
    assert refusal.lease.token.value == 0, "a token is its holder's secret"
    assert renew(there, held.lease).ttl_seconds == 60
    renewed = renew(here, held.lease, 90)
    assert (renewed.ttl_seconds, renewed.token) == (90, held.lease.token)
    there.release(held.lease)
    taken = here.acquire(key, two)
    assert taken.acquired
    assert taken.lease.token.value > held.lease.token.value


def test_the_holder_acquiring_again_makes_its_former_handle_stale(here, there, name):
    agent_id, key = here.register(name("one")), name("key")
    former = here.acquire(key, agent_id).lease
    lease = there.acquire(key, agent_id).lease
    assert lease.token.value > former.token.value
    for call in (renew, type(here).release):
        with refused(PERMISSION_DENIED):
            call(here, former)
    assert not here.acquire(key, agent_id, exclusive=True).acquired
    assert renew(there, lease).token == lease.token


def test_a_stale_or_foreign_token_wins_nothing(here, there, name):
    one, two, key = here.register(name("one")), here.register(name("two")), name("key")
    lease = here.acquire(key, one).lease
    wrong_token, wrong_agent = pb.Lease(), pb.Lease()
    wrong_token.CopyFrom(lease)
    wrong_token.token.value += 1
    wrong_agent.CopyFrom(lease)
    wrong_agent.holder_agent_id = two
    for wrong in (wrong_token, wrong_agent):
        for call in (renew, type(here).release):
            with refused(PERMISSION_DENIED, reason="stale_token"):
                call(there, wrong)
    here.release(lease)
    for call in (renew, type(here).release):
        with refused(NOT_FOUND):
            call(there, lease)
    with refused(NOT_FOUND):
        here.acquire(key, "0" * 32)


def test_a_lease_expires_and_its_next_token_is_higher(here, there, name):
    one, two, key = here.register(name("one")), here.register(name("two")), name("key")
    watch = there.watch_all("lease.")
    former = here.acquire(key, one, ttl=1).lease
    watch.wait_for("lease.expired", key)
    with refused(NOT_FOUND):
        renew(here, former)
    lease = there.acquire(key, two).lease
    assert lease.token.value > former.token.value


def test_the_death_of_its_holder_releases_a_lease(here, there, name):
    one, two, key = here.register(name("one")), here.register(name("two")), name("key")
    watch = there.watch_all("lease.")
    here.acquire(key, one)
    there.call(methods.DEREGISTER, pb.DeregisterRequest(agent_id=one))
    released = payload_of(watch.wait_for("lease.released", key))
    assert released.reason == "holder_died"
    assert here.acquire(key, two).acquired


def test_tokens_rise_over_all_leases_and_replicas(here, there, name):
    agent_id = here.register(name("one"))
    tokens = [
        wire.acquire(name(f"key{i}"), agent_id).lease.token.value
        for i in range(10)
        for wire in (here, there)
    ]
    assert tokens == sorted(set(tokens))


def test_a_token_is_valid_while_its_lease_is_held(here, there, name):
    agent_id, key = here.register(name("one")), name("key")

    def verify(wire, token, **metadata):
        request = pb.VerifyTokenRequest(task_id=key, token=token)
        return wire.call(methods.VERIFY_TOKEN, request, **metadata).valid

    wrong = pb.FencingToken(value=1)
    assert not verify(here, wrong), "nobody holds it"
    lease = here.acquire(key, agent_id).lease
    assert verify(there, lease.token)
    assert not verify(there, wrong)
    renew(here, lease)
    assert verify(there, lease.token)
    newer = here.acquire(key, agent_id).lease
    assert [verify(there, held.token) for held in (lease, newer)] == [False, True]
    there.release(newer)
    assert not verify(here, newer.token)
    assert not verify(here, newer.token, agentkeeper_consistency="stale")


def test_the_token_of_a_lease_that_is_over_is_not_valid(here, there, name):
    one, two = here.register(name("one")), here.register(name("two"))
    short = here.acquire(name("short"), one, ttl=1).lease
    orphan = here.acquire(name("orphan"), two).lease
    here.call(methods.DEREGISTER, pb.DeregisterRequest(agent_id=two))
    for lease in (orphan, short):
        request = pb.VerifyTokenRequest(task_id=lease.task_id, token=lease.token)
        eventually(lambda r=request: not there.call(methods.VERIFY_TOKEN, r).valid, "its end")
        assert here.acquire(lease.task_id, one, exclusive=True).acquired
