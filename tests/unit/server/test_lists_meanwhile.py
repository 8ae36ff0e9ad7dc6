"""Lists that are made while others have turns, and what is due but not worked off."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.core import commands as c
from agentkeeper.core import limits
from agentkeeper.core.records import Waiting
from agentkeeper.server.caller import Caller
from agentkeeper.server.services import pages
from agentkeeper.server.services.registry import RegistryService
from agentkeeper.server.services.tasks import TaskService
from agentkeeper.server.turns import Turns

from .listed import Keeper


@pytest.fixture
async def keeper() -> Keeper:
    return Keeper()


# ---------------------------------------------------------------- turns


async def test_others_get_turns_while_a_list_is_made(keeper: Keeper) -> None:
    for i in range(500):
        keeper.do(c.CreateTask(f"t{i}", "crawl", b"", (), 0, 60_000, 0, ""))
    turns = 0

    class Counted(Turns):
        async def take(self) -> None:
            nonlocal turns
            turns += 1
            await super().take()

    replica: Any = SimpleNamespace(read=keeper.tasks.replica.read, turns=Counted())
    tasks = TaskService(replica)
    await tasks.list_tasks(pb.ListTasksRequest(type="index"), Caller())
    passed_over, turns = turns, 0
    await tasks.list_tasks(pb.ListTasksRequest(), Caller())
    assert passed_over >= 500 // pages.SLICE
    assert turns >= 500


async def test_only_so_many_go_through_a_copy_at_a_time(keeper: Keeper) -> None:
    keeper.agent("ann")
    at_work, most = 0, 0

    class Held(Turns):
        async def take(self) -> None:
            nonlocal at_work, most
            at_work += 1
            most = max(most, at_work)
            await asyncio.sleep(0)
            at_work -= 1

    replica: Any = SimpleNamespace(read=keeper.registry.replica.read, turns=Held())
    registry = RegistryService(replica)
    calls = [registry.list_agents(pb.ListAgentsRequest(), Caller()) for _ in range(50)]
    answers = await asyncio.gather(*calls)
    assert all(len(answer.agents) == 1 for answer in answers)
    assert most == pages.COPIES


class Meanwhile(Turns):
    """Lets something happen at one of the turns."""

    def __init__(self, at_turn: int, happens: Callable[[], None]) -> None:
        super().__init__()
        self._left = at_turn
        self._happens = happens

    async def take(self) -> None:
        self._left -= 1
        if self._left == 0:
            self._happens()


@pytest.mark.parametrize("at_turn", [1, 2])
async def test_what_changes_while_a_page_is_made_is_told_as_it_is_then(
    keeper: Keeper, at_turn: int
) -> None:
    keeper.agent("ann", "bob", ttl_ms=1_000)
    for task in ("t1", "t2"):
        keeper.do(c.CreateTask(task, "crawl", b"", (), 0, 1_000, 0, ""))
    keeper.do(c.ClaimTask("ann"))

    def go_on() -> None:
        keeper.at(900)
        keeper.do(c.Heartbeat("ann"))
        keeper.do(c.ExtendTask("t1", "ann", 0, 1_000))
        keeper.at(1_100)

    keeper.replica.turns = Meanwhile(at_turn, go_on)
    agents = await keeper.registry.list_agents(pb.ListAgentsRequest(), Caller())
    assert [(a.card.name, a.status) for a in agents.agents] == [
        ("ann", pb.AGENT_STATUS_ALIVE),
        ("bob", pb.AGENT_STATUS_UNREACHABLE),
    ]
    keeper.at(1_500)
    keeper.do(c.Heartbeat("ann"))
    keeper.do(c.ExtendTask("t1", "ann", 0, 1_000))

    def go_further() -> None:
        keeper.at(2_400)
        keeper.do(c.Heartbeat("ann"))
        keeper.do(c.ExtendTask("t1", "ann", 0, 1_000))
        keeper.at(2_600)

    keeper.replica.turns = Meanwhile(at_turn, go_further)
    tasks = await keeper.tasks.list_tasks(pb.ListTasksRequest(), Caller())
    assert [(t.id, t.status) for t in tasks.tasks] == [
        ("t1", pb.TASK_STATUS_CLAIMED),
        ("t2", pb.TASK_STATUS_PENDING),
    ]


async def test_what_is_forgotten_while_a_page_is_made_is_left_out(keeper: Keeper) -> None:
    keeper.agent("ann", "bob")
    keeper.do(c.CreateTask("t", "crawl", b"", (), 0, 1_000, 0, ""))
    keeper.do(c.ClaimTask("ann"))
    keeper.do(c.CompleteTask("t", "ann", 0, b""))
    keeper.do(c.Deregister("bob"))

    def forget() -> None:
        keeper.state.agents.drop("bob")
        keeper.state.tasks.drop("t")

    keeper.replica.turns = Meanwhile(2, forget)
    assert await keeper.names(statuses=[1, 3]) == ["ann"]
    tasks = await keeper.tasks.list_tasks(pb.ListTasksRequest(), Caller())
    assert not tasks.tasks


# ---------------------------------------------------------------- what is due


@pytest.fixture
def nothing_is_worked_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "DUE_WORK_PER_ENTRY", 0)


@pytest.mark.usefixtures("nothing_is_worked_off")
async def test_an_agent_whose_heartbeat_is_late_is_not_found(keeper: Keeper) -> None:
    keeper.agent("ann", ttl_ms=1_000)
    keeper.agent("bob", ttl_ms=9_000)
    keeper.at(1_000)
    found = await keeper.registry.find(pb.FindRequest(), Caller())
    assert [agent.card.name for agent in found.agents] == ["bob"]


@pytest.mark.usefixtures("nothing_is_worked_off")
@pytest.mark.parametrize(("time_ms", "holder"), [(59_999, "ann"), (60_000, "")])
async def test_a_refused_lease_is_told_with_its_holder_while_it_has_one(
    keeper: Keeper, time_ms: int, holder: str
) -> None:
    keeper.agent("ann", "bob")
    keeper.acquire("deploy", agent="ann")

    async def submit(body: c.AcquireLease, caller: Caller) -> Waiting:
        keeper.at(time_ms)
        return Waiting()

    keeper.replica.submit = submit
    request = pb.AcquireLeaseRequest(task_id="deploy", agent_id="bob", ttl_seconds=60)
    answer = await keeper.leases.acquire_lease(request, Caller())
    assert not answer.acquired
    assert (answer.lease.holder_agent_id, answer.lease.token.value) == (holder, 0)


@pytest.mark.usefixtures("nothing_is_worked_off")
@pytest.mark.parametrize("others", [("bob",), ()])
async def test_a_watch_does_not_begin_with_a_leader_whose_death_is_due(
    keeper: Keeper, others: tuple[str, ...]
) -> None:
    keeper.agent("ann", ttl_ms=1_000)
    keeper.agent(*others)
    for agent in ("ann", *others):
        keeper.do(c.Campaign("east", agent))

    async def follow(*_: Any, **__: Any) -> Any:
        for event in ():
            yield event

    keeper.replica.hub = SimpleNamespace(follow=follow, check=lambda after: None)

    async def first() -> tuple[str, int]:
        request = pb.WatchElectionRequest(group="east")
        watch = await keeper.elections.watch_election(request, Caller())
        (event,) = [pb.Event.FromString(data) async for data in watch.events]
        state = pb.ElectionState()
        assert event.payload.Unpack(state)
        return state.leader_agent_id, state.term

    assert await first() == ("ann", 1)
    keeper.state.agents.put("ann", keeper.state.agents.get("ann")._replace(status=2))
    keeper.at(1_000)
    assert await first() == ("", 1), "who leads next, and by which term, is told once it is so"
