"""What operators ask: lists with their bounds, and single records with who waits for them."""

from typing import Any

import pytest

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.core import commands as c
from agentkeeper.core import limits
from agentkeeper.core.records import Effect, Policy
from agentkeeper.server.caller import Caller

from .listed import Keeper, refusal


@pytest.fixture
async def keeper() -> Keeper:
    return Keeper()


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
