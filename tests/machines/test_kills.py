"""SIGKILL of any and all replicas at any moment."""

import pytest
from integration.conftest import converged

from agentkeeper.launcher import LocalCluster
from chaos.backends.nodes import kill

from .load import Load

ROUNDS = 6
SMALL_SNAPSHOTS = ("--snapshot-entries", "100")


@pytest.mark.parametrize("replicas", [1, 3])
def test_kills_at_any_moment_lose_nothing(rng, seed, replicas):
    with (
        LocalCluster(replicas=replicas, extra_args=SMALL_SNAPSHOTS) as cluster,
        Load(cluster, seed) as load,
    ):
        nodes = list(cluster.nodes.values())
        for round in range(ROUNDS):
            load.await_writes(rng.randint(1, 150))
            all_at_once = round % 2 == 0
            victims = nodes if all_at_once else rng.sample(nodes, rng.randint(1, len(nodes)))
            load.tell(f"kill {victims}")
            kill(victims)
            if 2 * len(victims) < len(nodes):
                load.await_writes(rng.randint(1, 50))
            for node in rng.sample(victims, len(victims)):
                node.start()
            load.await_more(1, "everybody goes on")
        cluster.wait_ready()
        load.finish()
        assert converged(cluster)
