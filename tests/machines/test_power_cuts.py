"""The power is cut: what was not synced is gone from the disk."""

import subprocess
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from integration.conftest import converged
from integration.waiting import eventually

from agentkeeper.errors import NotFound
from chaos.backends.damage import wipe
from chaos.backends.disk import MIB, Disk, cut_power, fail
from chaos.backends.nodes import kill

from .clusters import cluster_on_disks
from .load import NOBODYS_TOOL, Load

pytestmark = pytest.mark.usefixtures("disks_can_fail")

ROUNDS = 3
PATIENCE_S = 30
DISK_BYTES = 64 * MIB
SMALL_SNAPSHOTS = ("--snapshot-entries", "100")


def start(nodes):
    for node in nodes:
        node.start()


@pytest.mark.parametrize("machines", ["all", "one"])
def test_a_power_cut_loses_nothing_that_was_acknowledged(folder, rng, seed, machines):
    with (
        cluster_on_disks(folder, DISK_BYTES, *SMALL_SNAPSHOTS) as (cluster, disks),
        Load(cluster, seed) as load,
    ):
        nodes = list(cluster.nodes.values())
        for _ in range(ROUNDS):
            load.await_writes(rng.randint(1, 150))
            victims = nodes if machines == "all" else [rng.choice(nodes)]
            load.tell(f"cut the power of {victims}")
            cut_power(victims, disks)
            if machines == "one":
                load.await_writes(rng.randint(1, 50))
            start(victims)
            load.await_more(1, "everybody goes on")
        cluster.wait_ready()
        load.finish()
        assert converged(cluster)


def test_a_leader_whose_disk_fails_ends_and_is_not_waited_for(folder, seed):
    with (
        cluster_on_disks(folder, DISK_BYTES) as (cluster, disks),
        Load(cluster, seed) as load,
    ):
        leader = cluster.leader()
        fail([disks[leader.name]])
        eventually(lambda: not leader.running, "its end")
        assert leader.exit_code != 0
        assert str(leader.data_dir) in leader.log_tail()
        load.await_more(3, "everybody goes on without it")
        assert cluster.leader() is not leader
        cut_power([leader], disks)
        leader.start()
        cluster.wait_ready()
        load.finish()
        assert converged(cluster)


def test_a_disk_that_somebody_still_has_mounted_is_not_mounted_as_it_was(folder):
    with (
        Disk(folder / "image", folder / "mounted", 8 * MIB) as disk,
        a_copy_of_all_mounts() as copy,
    ):
        fail([disk])
        unmounting = threading.Thread(target=disk.unmount)
        unmounting.start()
        eventually(lambda: not disk.folder.is_mount(), "the mount is gone from here")
        assert unmounting.is_alive()
        copy.kill()
        unmounting.join(PATIENCE_S)
        disk.mount()
        (disk.folder / "file").write_text("it can be written to")


@contextmanager
def a_copy_of_all_mounts():
    """A process in a mount namespace of its own."""
    with subprocess.Popen(["unshare", "--mount", "sleep", "infinity"]) as copy:
        ours = Path("/proc/self/ns/mnt").readlink()
        eventually(lambda: Path(f"/proc/{copy.pid}/ns/mnt").readlink() != ours, "its namespace")
        try:
            yield copy
        finally:
            copy.kill()


def test_power_cuts_while_a_cluster_begins_leave_one_that_works(folder):
    with cluster_on_disks(folder, DISK_BYTES) as (cluster, disks):
        nodes = list(cluster.nodes.values())
        first = nodes[0]
        for seen in (
            lambda: any(first.data_dir.glob("*.log")),
            (first.data_dir / "identity.json").exists,
            lambda: first.status() is not None,
            lambda: any(node.ready() for node in nodes),
        ):
            kill(nodes)
            for node in nodes:
                wipe(node)
            cluster.start()
            eventually(seen, "that far")
            cut_power(nodes, disks)
            start(nodes)
            cluster.wait_ready()
            with cluster.client() as client:
                client.create_task("a first one", required_tools=[NOBODYS_TOOL])
                assert len(client.list_tasks()) == 1


@pytest.mark.parametrize("durability", ["fsync", "os"])
def test_what_a_power_cut_of_all_takes(folder, durability):
    """With `os` it may be anything, so nothing is asserted of it: the figure is printed."""
    with cluster_on_disks(folder, DISK_BYTES, "--durability", durability) as (cluster, disks):
        with cluster.client() as client:
            tasks = [
                client.create_task(f"task {i}", required_tools=[NOBODYS_TOOL]) for i in range(300)
            ]
        nodes = list(cluster.nodes.values())
        cut_power(nodes, disks)
        start(nodes)
        cluster.wait_ready()
        with cluster.client() as client:
            lost = [task for task in tasks if not is_there(client, task.id)]
        print(f"--durability {durability}: {len(lost)} of {len(tasks)} acknowledged writes lost")
        if durability == "fsync":
            assert lost == []


def is_there(client, task_id):
    try:
        client.get_task(task_id)
    except NotFound:
        return False
    return True
