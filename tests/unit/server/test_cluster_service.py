"""ClusterService over whole stacks: counts, what replicas said, and snapshots piece by piece."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.consensus.port import PeerStatus, Role
from agentkeeper.core import commands as c
from agentkeeper.core import limits, snapshot
from agentkeeper.core.codec import ENCODING
from agentkeeper.core.snapshot import restore
from agentkeeper.server.caller import Caller
from agentkeeper.server.errors import CallError
from agentkeeper.server.services.method import Stream, Unary

from .helpers import CARD, settle, until
from .test_stack import Cluster


class Replica:
    """One replica's ClusterService, by the names of its methods."""

    def __init__(self, cluster: Cluster, node_id: str) -> None:
        self.stack = cluster.stacks[node_id]
        self.methods = {m.name: m for m in self.stack.services()["ClusterService"]}

    async def call(self, name: str, request: object) -> object:
        method = self.methods[name]
        assert isinstance(method, Unary)
        return await method.handle(request, Caller())

    async def save(self) -> AsyncGenerator[bytes, None]:
        method = self.methods["SaveSnapshot"]
        assert isinstance(method, Stream)
        return (await method.handle(pb.SaveSnapshotRequest(), Caller())).events


def pieces(events: list[bytes]) -> list[pb.SnapshotPiece]:
    return [pb.SnapshotPiece.FromString(event) for event in events]


async def test_the_summary_counts_everything() -> None:
    cluster = Cluster()
    replica = Replica(cluster, "b")
    for body in (
        c.Register("ann", CARD, 3_600_000, 0),
        c.Register("bob", CARD, 3_600_000, 0),
        c.Deregister("bob"),
        c.AcquireLease("deploy", "ann", 60_000, 0, False),
        c.Campaign("east", "ann"),
        *(c.CreateTask(f"t{i}", "t", b"", ("t",), 0, 60_000, 0, "") for i in range(4)),
        c.ClaimTask("ann"),
        c.CompleteTask("t0", "ann", 0, b""),
        c.ClaimTask("ann"),
        c.FailTask("t1", "ann", 0, "broke"),
        c.ClaimTask("ann"),
    ):
        await replica.stack.replica.submit(body, Caller())
    told = await replica.call("Summary", pb.SummaryRequest())
    assert isinstance(told, pb.SummaryResponse)
    assert (told.agents_alive, told.agents_unreachable, told.agents_dead) == (1, 0, 1)
    assert (told.leases, told.election_groups, told.policies) == (1, 1, 0)
    tasks = (told.tasks_pending, told.tasks_claimed, told.tasks_completed, told.tasks_dead)
    assert tasks == (1, 1, 1, 1)
    assert told.last_sequence == replica.stack.machine.state.last_sequence
    assert told.first_sequence == 1
    assert told.sessions >= 1


async def test_the_status_tells_what_each_replica_last_said_of_itself() -> None:
    cluster = Cluster()
    for name, engine in cluster.engines.items():
        peers = {other: PeerStatus(True, None) for other in "abc" if other != name}
        engine.state = replace(engine.state, peers=peers)
    cluster.engines["a"].state = replace(cluster.engines["a"].state, role=Role.LEADER)
    for name in "abc":
        announcement = c.Announce(name, f"{name}:1", "1.0", ENCODING)
        await cluster.stacks["a"].replica.submit(announcement, Caller())
    await settle()
    for _ in range(2):  # the version rises once all have been heard
        for stack in cluster.stacks.values():
            stack.tick()
        await settle()
    told = await Replica(cluster, "b").call("Status", pb.StatusRequest())
    assert isinstance(told, pb.StatusResponse)
    vitals = {replica.node_id: replica.vitals for replica in told.replicas}
    assert vitals["a"].role == pb.REPLICA_ROLE_LEADER
    assert 0 < vitals["c"].applied_index <= told.applied_index
    assert vitals["c"].age_ms < 5_000
    assert told.newest_version == ENCODING
    await until(lambda: cluster.stacks["c"].machine.state.cluster_version == ENCODING)


async def test_a_snapshot_is_of_one_moment_however_slowly_it_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(snapshot, "_PIECE_BYTES", 200)
    cluster = Cluster()
    for _ in range(20):
        await cluster.write("a")
    replica = Replica(cluster, "c")
    events = await replica.save()
    first = await anext(events)
    index = replica.stack.machine.applied_index
    digest = replica.stack.machine.state.digest()
    for _ in range(5):
        await cluster.write("b")
    taken = pieces([first, *[event async for event in events]])
    assert len(taken) > 5
    assert [piece.log_index for piece in taken] == [index, *[0] * (len(taken) - 1)]
    state, log_index = restore(b"".join(piece.data for piece in taken))
    assert (log_index, state.digest()) == (index, digest)
    assert replica.stack.machine.state.digest() != digest


async def test_no_more_are_sent_at_a_time_than_a_replica_has_room_for() -> None:
    replica = Replica(Cluster(), "a")
    streams = [await replica.save() for _ in range(limits.SNAPSHOTS_SENT + 1)]
    for events in streams[:-1]:
        await anext(events)
    with pytest.raises(CallError) as error:
        await anext(streams[-1])
    assert error.value.reason == "overloaded"
    await streams[0].aclose()
    assert await anext(await replica.save())


async def test_one_that_is_being_sent_ends_when_the_replica_stops() -> None:
    replica = Replica(Cluster(), "a")
    events = await replica.save()
    await anext(events)
    replica.stack.refuse_calls()
    with pytest.raises(CallError) as error:
        await anext(events)
    assert error.value.reason == "shutting_down"


@pytest.mark.parametrize("name", ["Status", "Summary"])
async def test_asking_costs_no_turn(name: str) -> None:
    """Both answer at once, from what there is."""
    request = pb.StatusRequest() if name == "Status" else pb.SummaryRequest()
    answering = asyncio.ensure_future(Replica(Cluster(), "c").call(name, request))
    await asyncio.sleep(0)
    assert answering.done()
