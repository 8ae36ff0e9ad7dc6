"""What happens by chance once in a million runs: done on purpose, where a fault is planted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.consensus.port import Role

if TYPE_CHECKING:
    from tests.simulation.clients import Client
    from tests.simulation.host import Host
    from tests.simulation.world import World

STEP_S = 0.005
PATIENCE_S = 0.4


def _quiet(world: World) -> bool:
    """Whether all replicas run, and hear each other."""
    hosts = world.hosts.values()
    return not world.network.blocked and all(host.running is not None for host in hosts)


class Provocation:
    """Something that is done again and again as long as clients work."""

    every_s = 3.0

    def __init__(self, world: World, clients: list[Client]) -> None:
        self.world = world
        self.clients = clients
        world.at(world.time_s + 1.0, self._begin)

    def _begin(self) -> None:
        if not self.clients[0].stopped:
            self.world.at(self.world.time_s + self.every_s, self._begin)
            self.happen()

    def happen(self) -> None:
        raise NotImplementedError


class Handover(Provocation):
    """A leader tells two to stand, votes for one, and is restarted before the other asks it.

    The first successor hears of it, and stands; the second stands still meanwhile, and asks for
    votes in the same term when it goes on. Nobody else can tell it of that term: it is cut off
    from the first successor, which is cut off from the restarted voter as well.
    """

    def happen(self) -> None:
        world = self.world
        voter = world.leader()
        others = [host for host in world.hosts.values() if host is not voter]
        if voter is None or len(others) != 2 or not _quiet(world):
            return
        late, first = others
        self._cut(late, first)
        assert voter.process is not None
        voter.process.engine.transfer_leadership(first.node_id)
        self._tell(world.time_s + PATIENCE_S, voter, first, late)

    def _tell(self, until_s: float, voter: Host, first: Host, late: Host) -> None:
        """Tell the second once the first was told: by itself a leader waits for it to fail."""
        world = self.world
        raft = None if voter.process is None else voter.process.engine._raft
        if raft is None or not raft.leads or world.time_s > until_s:
            self._end(first, late, None)
            return
        [second] = [node for node in raft.others if node.id == late.node_id]
        if not raft.handing_over or raft.counted_index.get(second, 0) < raft.last_index:
            world.at(world.time_s + STEP_S / 10, self._tell, until_s, voter, first, late)
            return
        raft.send(second, {"type": "timeout_now", "term": raft.term})
        late.paused = True
        self._wait(world.time_s + PATIENCE_S, voter, first, late)

    def _wait(self, until_s: float, voter: Host, first: Host, late: Host) -> None:
        world = self.world
        if first.process is None or voter.process is None or world.time_s > until_s:
            self._end(first, late, None)
        elif first.process.engine.status().role is not Role.LEADER:
            world.at(world.time_s + STEP_S, self._wait, until_s, voter, first, late)
        else:
            world.seen["voters restarted between two candidates"] += 1
            self._cut(voter, first)
            world.kill(voter)
            world.at(world.time_s + STEP_S, world.start, voter)
            world.at(world.time_s + 0.25, self._resume, late)
            world.at(world.time_s + 1.0, self._end, first, late, voter)

    def _resume(self, late: Host) -> None:
        if late.paused and late.process is not None:
            late.paused = False
            late.process.resume()

    def _cut(self, one: Host, other: Host) -> None:
        network = self.world.network
        network.break_link(one.node_id, other.node_id)
        network.block(one.node_id, other.node_id)
        network.block(other.node_id, one.node_id)

    def _end(self, first: Host, late: Host, voter: Host | None) -> None:
        self._resume(late)
        for host in (late, voter):
            if host is not None:
                self.world.network.unblock(host.node_id, first.node_id)
                self.world.network.unblock(first.node_id, host.node_id)


class FullLeader(Provocation):
    """A leader's disk is full while another replica is away, so that each of the others counts."""

    def happen(self) -> None:
        world = self.world
        leader = world.leader()
        if leader is None or not _quiet(world):
            return
        others = [host for host in world.hosts.values() if host is not leader]
        for host in others[: len(world.ids) // 2]:
            world.kill(host)
            world.at(world.time_s + 1.0, world.start, host)
        leader.disk.capacity_bytes = leader.disk.used_bytes + 500
        world.at(world.time_s + 0.5, self._end, leader)

    def _end(self, leader: Host) -> None:
        leader.disk.capacity_bytes = None


class DyingWaiters(Provocation):
    """Agents end by their own wish while they wait in line for a lease."""

    every_s = 0.1

    def happen(self) -> None:
        leader = self.world.leader()
        if leader is None or leader.process is None:
            return
        state = leader.process.stack.machine.state
        for client in self.clients:
            for agent in client.agents:
                if state.waiters_by_agent.count(agent.agent_id):
                    client.lost(agent.agent_id)
                    request = pb.DeregisterRequest(agent_id=agent.agent_id)
                    client.ask("Deregister", request, lambda *_: None)
                    return
