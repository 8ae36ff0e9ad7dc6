"""Replicas on different machines, and the network between them cut, both ways or one."""

import itertools
from contextlib import contextmanager

import pytest
from certificates import Authority
from integration.conftest import converged

from .clusters import cluster_in_network, sharing_a_secret
from .load import Load

pytestmark = pytest.mark.usefixtures("networks_can_be_cut")

ROUNDS = 4


@contextmanager
def under_load(folder, seed, guard=None):
    """A cluster at work; afterwards, with the network healed, everything must be there."""
    with (
        cluster_in_network(folder, **(guard or sharing_a_secret(folder))) as (cluster, network),
        Load(cluster, seed) as load,
    ):
        yield cluster, network, load
        network.heal()
        cluster.wait_ready()
        load.await_more(1, "everybody goes on")
        load.finish()
        assert converged(cluster)


def with_certificates(folder):
    """Settings by which each replica has a certificate that names it."""
    authority = Authority(folder)
    issued = {name: authority.issue(name) for name in "abc"}
    for files in issued.values():
        files.key.chmod(0o600)
    node_args = {
        name: [
            *("--raft-tls-cert", str(files.certificate)),
            *("--raft-tls-key", str(files.key)),
            *("--raft-tls-ca", str(files.authority)),
        ]
        for name, files in issued.items()
    }
    return {"node_args": node_args}


@pytest.mark.parametrize("guard", [sharing_a_secret, with_certificates])
def test_a_leader_that_is_cut_off_is_replaced(folder, seed, guard):
    with under_load(folder, seed, guard(folder)) as (cluster, network, load):
        for cut in (network.isolate, network.unplug):
            leader = cluster.leader()
            load.tell(f"cut off {leader}")
            cut(leader.name)
            load.await_more(3, "everybody goes on without it")
            assert cluster.leader() is not leader
            assert leader.unready_reason()
            network.heal()
            cluster.wait_ready()


@pytest.mark.parametrize("deaf", [False, True], ids=["mute", "deaf"])
def test_a_leader_that_reaches_nobody_or_hears_nobody_is_replaced(folder, seed, deaf):
    with under_load(folder, seed) as (cluster, network, load):
        leader = cluster.leader()
        load.tell(f"{leader} hears or reaches nobody")
        for other in cluster.followers():
            network.cut(*((other.name, leader.name) if deaf else (leader.name, other.name)))
        load.await_more(3, "everybody goes on without it")
        assert cluster.leader() is not leader


def test_one_way_cuts_between_any_two_stall_nobody_for_good(folder, seed):
    """Whichever way is cut, there is a majority that hears each other."""
    with under_load(folder, seed) as (cluster, network, load):
        for source, target in itertools.permutations(cluster.nodes, 2):
            load.tell(f"nothing passes from {source} to {target}")
            network.cut(source, target)
            load.await_more(2, "everybody goes on")
            network.heal()


def test_random_cuts_under_load(folder, rng, seed):
    with under_load(folder, seed) as (cluster, network, load):
        ways = list(itertools.permutations(cluster.nodes, 2))
        for _ in range(ROUNDS):
            load.await_writes(rng.randint(1, 100))
            cuts = rng.sample(ways, rng.randint(1, len(ways)))
            load.tell(f"cut {cuts}")
            for source, target in cuts:
                network.cut(source, target)
            if len(cuts) < 3:
                load.await_writes(rng.randint(1, 100))
            network.heal()
            load.await_more(1, "everybody goes on")
