"""What operators ask: lists with their bounds, and single records with who waits for them."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.core import commands as c
from agentkeeper.core import limits
from agentkeeper.core.apply import apply
from agentkeeper.core.records import Card, Effect, Policy, Refused, Waiting
from agentkeeper.core.state import State
from agentkeeper.server.caller import Caller
from agentkeeper.server.errors import CallError
from agentkeeper.server.services import pages
from agentkeeper.server.services.elections import ElectionService
from agentkeeper.server.services.entitlements import EntitlementsService
from agentkeeper.server.services.leases import LeaseService
from agentkeeper.server.services.registry import RegistryService
from agentkeeper.server.services.tasks import TaskService
from agentkeeper.server.turns import Turns

WALL_MS = 1_700_000_000_000


class Keeper:
    """The services over a state that a test fills by commands, at times it chooses."""

    def __init__(self) -> None:
        self.state = State()
        self.callers: list[Caller] = []

        async def read(caller: Caller) -> State:
            self.callers.append(caller)
            return self.state

        async def settled(deadline_s: float | None) -> None:
            pass

        self.replica: Any = SimpleNamespace(
            read=read,
            turns=Turns(),
            state=self.state,
            index=SimpleNamespace(settled=settled),
            deadline_s=lambda caller: None,
        )
        replica = self.replica
        self.registry = RegistryService(replica)
        self.leases = LeaseService(replica)
        self.elections = ElectionService(replica)
        self.entitlements = EntitlementsService(replica)
        self.tasks = TaskService(replica)

    def at(self, time_ms: int) -> None:
        apply(self.state, c.Batch(time_ms, WALL_MS, ()))

    def do(self, body: Any, session: str = "", number: int = 0) -> Any:
        command = c.Command("x", session, number, 0, body)
        (result,), _ = apply(self.state, c.Batch(self.state.time_ms, WALL_MS, (command,)))
        assert not isinstance(result, Refused), result
        return result

    def agent(self, *names: str, tools: tuple[str, ...] = (), ttl_ms: int = 86_400_000) -> None:
        for name in names:
            self.do(c.Register(name, Card(name, "", "", (), tools, ()), ttl_ms, 0))

    def acquire(self, *task_ids: str, agent: str) -> None:
        for task_id in task_ids:
            self.do(c.AcquireLease(task_id, agent, 60_000, 0, False))

    async def names(self, **fields: Any) -> list[str]:
        answer = await self.registry.list_agents(pb.ListAgentsRequest(**fields), Caller())
        return [agent.card.name for agent in answer.agents]


@pytest.fixture
async def keeper() -> Keeper:
    return Keeper()


async def refusal(call: Any) -> CallError:
    with pytest.raises(CallError) as caught:
        await call
    return caught.value


# ---------------------------------------------------------------- agents


async def test_agents_that_live_are_listed_unless_others_are_asked_for(keeper: Keeper) -> None:
    keeper.agent("gone", "late", "fine")
    keeper.agent("short", ttl_ms=1_000)
    keeper.do(c.Deregister("gone"))
    keeper.at(1_000)
    assert await keeper.names() == ["late", "fine", "short"]
    assert await keeper.names(statuses=[pb.AGENT_STATUS_UNREACHABLE]) == ["short"]
    assert await keeper.names(statuses=[3, 2]) == ["gone", "short"]
    keeper.at(2_000)
    assert await keeper.names(statuses=[3]) == ["gone", "short"]


async def test_agents_are_found_by_name_and_all_of_the_tools(keeper: Keeper) -> None:
    keeper.agent("web-1", tools=("browser", "gpu"))
    keeper.agent("web-2", tools=("browser",))
    keeper.agent("other", tools=("browser", "gpu", "ssh"))
    assert await keeper.names(name_prefix="web-") == ["web-1", "web-2"]
    assert await keeper.names(tools=["gpu", "browser"]) == ["web-1", "other"]
    assert await keeper.names(name_prefix="web", tools=["gpu"]) == ["web-1"]


async def test_a_page_has_a_hundred_unless_told_otherwise(keeper: Keeper) -> None:
    keeper.agent(*(f"a{i:03}" for i in range(150)))
    first = await keeper.registry.list_agents(pb.ListAgentsRequest(), Caller())
    assert len(first.agents) == limits.LIST_LIMIT_DEFAULT == 100
    rest = pb.ListAgentsRequest(page_token=first.next_page_token, limit=1_000)
    second = await keeper.registry.list_agents(rest, Caller())
    assert [a.agent_id for a in second.agents] == [f"a{i:03}" for i in range(100, 150)]
    assert second.next_page_token == ""


async def test_a_page_ends_where_the_answer_would_be_too_large(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper.agent("a", "b", "c")
    one = pb.ListAgentsResponse(
        agents=[(await keeper.registry.list_agents(pb.ListAgentsRequest(), Caller())).agents[0]]
    )
    monkeypatch.setattr(limits, "RESPONSE_BYTES", 2 * one.ByteSize() + 20)
    assert await keeper.names(limit=10) == ["a", "b"]
    monkeypatch.setattr(limits, "RESPONSE_BYTES", 1)
    assert await keeper.names(limit=10) == ["a"], "one entry is always given"


async def test_reads_are_as_the_caller_asks(keeper: Keeper) -> None:
    caller = Caller(stale=True)
    await keeper.registry.list_agents(pb.ListAgentsRequest(), caller)
    assert keeper.callers == [caller]


# ---------------------------------------------------------------- leases


async def test_who_holds_a_lease_and_who_waits(keeper: Keeper) -> None:
    keeper.agent("ann", "bob", "eve")
    keeper.do(c.OpenSession("s", 3_600_000, 256))
    keeper.acquire("deploy", agent="ann")
    for number, agent in enumerate(("eve", "bob"), 1):
        keeper.do(c.AcquireLease("deploy", agent, 60_000, 30_000, False), "s", number)
    keeper.at(20_000)
    info = (await keeper.leases.get_lease(pb.GetLeaseRequest(task_id="deploy"), Caller())).lease
    assert (info.lease.task_id, info.lease.holder_agent_id) == ("deploy", "ann")
    assert info.lease.token.value == 1
    assert info.remaining_ms == 40_000
    assert list(info.waiting_agent_ids) == ["eve", "bob"]
    assert info.waiting == 2
    listed = (await keeper.leases.list_leases(pb.ListLeasesRequest(), Caller())).leases
    info.ClearField("waiting_agent_ids")
    assert list(listed) == [info]


async def test_of_a_long_line_the_first_hundred_are_named(keeper: Keeper) -> None:
    keeper.agent("ann")
    keeper.do(c.OpenSession("s", 3_600_000, 256))
    keeper.acquire("deploy", agent="ann")
    for number in range(120):
        keeper.agent(f"w{number:03}")
        body = c.AcquireLease("deploy", f"w{number:03}", 60_000, 30_000, False)
        keeper.do(body, "s", number + 1)
    info = (await keeper.leases.get_lease(pb.GetLeaseRequest(task_id="deploy"), Caller())).lease
    assert list(info.waiting_agent_ids) == [f"w{i:03}" for i in range(100)]
    assert info.waiting == 120


@pytest.mark.parametrize("held", [False, True])
async def test_a_lease_that_nobody_holds_is_not_found(
    keeper: Keeper, held: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "DUE_WORK_PER_ENTRY", 0)
    if held:  # its end has come and is not worked off
        keeper.agent("ann")
        keeper.acquire("deploy", agent="ann")
        keeper.at(60_000)
        assert "deploy" in keeper.state.leases
    asked = keeper.leases.get_lease(pb.GetLeaseRequest(task_id="deploy"), Caller())
    assert (await refusal(asked)).code == "NOT_FOUND"
    listed = await keeper.leases.list_leases(pb.ListLeasesRequest(), Caller())
    assert not listed.leases


async def test_leases_by_prefix_and_by_holder(keeper: Keeper) -> None:
    keeper.agent("ann", "bob")
    keeper.acquire("b/2", "a/1", "b/10", agent="ann")
    keeper.acquire("b/1", "c", agent="bob")

    async def keys(**fields: Any) -> list[str]:
        answer = await keeper.leases.list_leases(pb.ListLeasesRequest(**fields), Caller())
        return [info.lease.task_id for info in answer.leases]

    assert await keys() == ["a/1", "b/1", "b/10", "b/2", "c"]
    assert await keys(task_id_prefix="b/") == ["b/1", "b/10", "b/2"]
    assert await keys(holder_agent_id="ann") == ["a/1", "b/10", "b/2"]
    assert await keys(holder_agent_id="ann", task_id_prefix="b") == ["b/10", "b/2"]
    assert await keys(task_id_prefix="b/", page_token="b/1") == ["b/10", "b/2"]
    assert await keys(holder_agent_id="nobody") == []


async def test_a_page_token_of_another_list_is_refused(keeper: Keeper) -> None:
    request = pb.ListLeasesRequest(task_id_prefix="b/", page_token="a/1")
    error = await refusal(keeper.leases.list_leases(request, Caller()))
    assert (error.code, error.field) == ("INVALID_ARGUMENT", "page_token")
    agents = pb.ListAgentsRequest(page_token="a/1")
    assert (await refusal(keeper.registry.list_agents(agents, Caller()))).field == "page_token"


# ---------------------------------------------------------------- elections


async def test_a_group_with_its_candidates(keeper: Keeper) -> None:
    keeper.agent("ann", "bob", "eve")
    for agent in ("bob", "ann", "eve"):
        keeper.do(c.Campaign("east", agent))
    keeper.do(c.Campaign("west", "eve"))
    keeper.do(c.Resign("east", "bob"))
    request = pb.GetElectionRequest(group="east")
    election = (await keeper.elections.get_election(request, Caller())).election
    assert (election.state.leader_agent_id, election.state.term) == ("ann", 2)
    assert list(election.candidate_agent_ids) == ["ann", "eve"]
    assert election.candidates == 2
    listed = await keeper.elections.list_elections(pb.ListElectionsRequest(), Caller())
    assert [each.state.group for each in listed.elections] == ["east", "west"]
    assert listed.elections[0] == election
    only = await keeper.elections.list_elections(
        pb.ListElectionsRequest(group_prefix="w"), Caller()
    )
    assert [each.state.group for each in only.elections] == ["west"]


async def test_a_group_without_candidates_is_there_and_one_without_a_past_is_not(
    keeper: Keeper,
) -> None:
    keeper.agent("ann")
    keeper.do(c.Campaign("east", "ann"))
    keeper.do(c.Resign("east", "ann"))
    request = pb.GetElectionRequest(group="east")
    election = (await keeper.elections.get_election(request, Caller())).election
    assert (election.state.leader_agent_id, election.candidates) == ("", 0)
    unknown = keeper.elections.get_election(pb.GetElectionRequest(group="west"), Caller())
    assert (await refusal(unknown)).code == "NOT_FOUND"


# ---------------------------------------------------------------- policies


def policy(name: str, effect: Effect, subject: str = "ann") -> c.SetPolicy:
    return c.SetPolicy(Policy(name, subject, "call", "tool:*", effect))


async def explained(keeper: Keeper, *question: str) -> pb.ExplainPolicyResponse:
    subject, action, resource = question
    request = pb.ExplainPolicyRequest(subject=subject, action=action, resource=resource)
    answer = await keeper.entitlements.explain_policy(request, Caller())
    check = pb.CheckPolicyRequest(subject=subject, action=action, resource=resource)
    verdict = await keeper.entitlements.check_policy(check, Caller())
    assert (answer.allowed, answer.reason) == (verdict.allowed, verdict.reason)
    return answer


async def test_an_explanation_names_all_that_match_denials_first(keeper: Keeper) -> None:
    for name, effect, subject in (
        ("b-allow", Effect.ALLOW, "ann"),
        ("a-allow", Effect.ALLOW, "a*"),
        ("z-deny", Effect.DENY, "*"),
        ("y-deny", Effect.DENY, "bob"),
    ):
        keeper.do(policy(name, effect, subject))
    answer = await explained(keeper, "ann", "call", "tool:x")
    assert not answer.allowed
    assert answer.policy_id == "z-deny"
    assert [p.id for p in answer.matching] == ["z-deny", "a-allow", "b-allow"]
    assert answer.matches == 3
    answer = await explained(keeper, "ann", "read", "tool:x")
    assert (answer.allowed, answer.policy_id, answer.matches) == (False, "", 0)
    keeper.do(c.DeletePolicy("z-deny"))
    answer = await explained(keeper, "ann", "call", "tool:x")
    assert (answer.allowed, answer.policy_id) == (True, "a-allow")


async def test_of_many_matches_a_hundred_are_named(keeper: Keeper) -> None:
    for i in range(130):
        keeper.do(policy(f"p{i:03}", Effect.ALLOW))
    answer = await explained(keeper, "ann", "call", "tool:x")
    assert [p.id for p in answer.matching] == [f"p{i:03}" for i in range(100)]
    assert answer.matches == 130


async def test_policies_in_pages_or_all_at_once(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("c", "a", "b"):
        keeper.do(policy(name, Effect.ALLOW, f"team-{name}"))

    async def ids(**fields: Any) -> tuple[list[str], str]:
        answer = await keeper.entitlements.list_policies(pb.ListPoliciesRequest(**fields), Caller())
        return [p.id for p in answer.policies], answer.next_page_token

    assert await ids() == (["a", "b", "c"], "")
    assert await ids(subject_prefix="team-b") == (["b"], "")
    assert await ids(limit=2) == (["a", "b"], "b")
    assert await ids(limit=2, page_token="b") == (["c"], "")
    monkeypatch.setattr(limits, "RESPONSE_BYTES", 50)
    error = await refusal(keeper.entitlements.list_policies(pb.ListPoliciesRequest(), Caller()))
    assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "too_large")
    assert await ids(limit=9) == (["a"], "a")


# ---------------------------------------------------------------- tasks


async def test_tasks_by_type_and_by_who_claimed_them(keeper: Keeper) -> None:
    keeper.agent("ann", "bob")
    for name, type_ in (("t1", "crawl"), ("t2", "index"), ("t3", "crawl")):
        keeper.do(c.CreateTask(name, type_, b"in", (), 0, 60_000, 0, ""))
    for agent in ("ann", "bob"):
        keeper.do(c.ClaimTask(agent))
    keeper.do(c.CompleteTask("t1", "ann", 0, b"out"))

    async def ids(**fields: Any) -> list[str]:
        answer = await keeper.tasks.list_tasks(pb.ListTasksRequest(**fields), Caller())
        return [task.id for task in answer.tasks]

    assert await ids() == ["t1", "t2", "t3"]
    assert await ids(type="crawl") == ["t1", "t3"]
    assert await ids(claimed_by_agent_id="bob") == ["t2"]
    assert await ids(claimed_by_agent_id="ann") == ["t1"]
    assert await ids(claimed_by_agent_id="ann", status=pb.TASK_STATUS_CLAIMED) == []
    assert await ids(type="crawl", status=pb.TASK_STATUS_PENDING, limit=1) == ["t3"]


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
