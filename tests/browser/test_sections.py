"""Every section shows what the SDK did, and what it does while somebody looks."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, Route, expect

from agentkeeper.cli.agents import FOUND, how_found
from agentkeeper.client import AgentKeeperClient
from agentkeeper.launcher import LocalCluster
from agentkeeper.types import FindMode, FoundAgents

Name = Callable[[str], str]
Opener = Callable[..., Page]


def stamp(page: Page) -> None:
    """Mark the page, so that a reload would be seen."""
    page.evaluate("window.stamped = true")


def assert_never_reloaded(page: Page) -> None:
    assert page.evaluate("window.stamped") is True


def test_the_cluster_as_it_is(cluster: LocalCluster, dashboard: Opener) -> None:
    leader = cluster.leader()
    page = dashboard(cluster.followers()[0])
    expect(page.locator(".sentence")).to_contain_text("All 3 replicas serve")
    expect(page.locator(".sentence")).to_contain_text(f"{leader.name} leads in term")
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(3)
    expect(rows.filter(has_text="leader")).to_contain_text(leader.name)
    expect(rows.filter(has_text="ready")).to_have_count(3)
    expect(rows.filter(has_text=leader.endpoint)).to_contain_text("leader")
    expect(page.locator("#link")).to_have_text(re.compile("live"))
    expect(page.locator(".plot path.line-0").first).to_have_attribute("d", re.compile("^M.*L"))
    expect(page.locator(".plot svg").first).to_have_attribute(
        "aria-label", re.compile("Operations, the last five minutes. Now: cluster .* /s")
    )


def test_agents_come_and_go_while_somebody_looks(
    cluster: LocalCluster, client: AgentKeeperClient, dashboard: Opener, name: Name
) -> None:
    reader = name("reader")
    page = dashboard(cluster.followers()[0], f"agents?name_prefix={reader}")
    expect(page.locator(".nothing")).to_be_visible()
    stamp(page)
    with client.register(reader, "Reads invoices", "1.2.3", ["pdf", "ocr"], {"team": "books"}) as a:
        listed = page.locator("tbody tr")
        expect(listed).to_have_count(1)
        expect(listed).to_contain_text("ALIVE")
        expect(listed).to_contain_text("pdf")
        expect(listed.locator("time").first).to_have_text(re.compile(r"^\d+ s ago$"))
        client.acquire_lease(name("work"), a.agent_id)
        listed.locator("td").first.click()
        details = page.locator("#details")
        expect(details).to_contain_text(a.agent_id)
        expect(details).to_contain_text("books")
        expect(details).to_contain_text(name("work"))
        a.deregister()
        expect(details).to_contain_text("DEAD")
        expect(details).to_contain_text("0 leases")
        expect(page.get_by_role("button", name="Close")).to_be_focused()
        page.keyboard.press("Escape")
        expect(details).to_be_hidden()
    expect(page.locator("tbody tr")).to_have_count(0)
    page.get_by_label("dead").check()
    expect(page.locator("tbody tr")).to_contain_text("DEAD")
    expect(page.locator("tbody tr")).to_contain_text("deregistered")
    assert_never_reloaded(page)


def test_agents_are_found_by_what_they_do(
    cluster: LocalCluster, client: AgentKeeperClient, dashboard: Opener, name: Name
) -> None:
    tool = name("tool")
    with (
        client.register(name("a"), "Paints watercolours of lighthouses", "1", [tool]),
        client.register(name("b"), "Balances the books of small companies", "1", [tool]),
    ):
        page = dashboard(cluster.leader(), "agents")
        page.get_by_label("Has the tools").fill(tool)
        expect(page.locator("tbody tr")).to_have_count(2)
        page.get_by_label("Search by meaning or name").fill("lighthouse watercolour")
        expect(page.locator("tbody tr").first).to_contain_text(name("a"))
        expect(page.locator(".how")).to_have_text(FOUND[FindMode.LEXICAL])
        page.get_by_label("Search by meaning or name").fill("company books")
        expect(page.locator("tbody tr").first).to_contain_text(name("b"))
        first = client.find("company books", [tool])[0]
        expect(page.locator("tbody tr").first).to_contain_text(f"score {first.score:.2f}")
        page.get_by_label("Search by meaning or name").fill("")
        expect(page.locator("tbody tr").first).to_contain_text(name("a"))
        expect(page.locator(".score")).to_have_count(0)
        expect(page.locator(".how")).to_be_hidden()


@pytest.mark.parametrize(
    ("mode", "pending"),
    [("SEMANTIC", 0), ("SEMANTIC", 1), ("SEMANTIC", 1_234), ("LEXICAL", 7), ("UNSPECIFIED", 0)],
)
def test_a_search_says_how_it_found_in_the_words_of_the_command_line(
    cluster: LocalCluster,
    client: AgentKeeperClient,
    dashboard: Opener,
    name: Name,
    *,
    mode: str,
    pending: int,
) -> None:
    """Whatever the replica's own model can do: what it says is made by hand."""
    told = mode != "UNSPECIFIED"

    def answered(route: Route) -> None:
        response = route.fetch()
        scores = [0.6789 - i / 10 for i in range(len(response.json()["agents"]))] if told else []
        said = {"mode": mode, "pending": pending, "scores": scores}
        route.fulfill(response=response, json={**response.json(), **said})

    tool = name("tool")
    with client.register(name("a"), "Paints", "1", [tool]), client.register(name("b"), "", "1"):
        page = dashboard(cluster.leader(), f"agents?tools={tool}")
        page.route("**/api/find?*", answered)
        page.get_by_label("Search by meaning or name").fill("somebody who paints")
        known = FindMode(mode) if told else FindMode.UNKNOWN
        words = how_found(FoundAgents([], known, pending))
        if told:
            expect(page.locator(".how")).to_have_text(words)
            expect(page.locator("tbody tr")).to_contain_text("score 0.68")
        else:
            expect(page.locator(".note")).to_contain_text("A search ranks")
            expect(page.locator("tbody tr")).to_contain_text(name("a"))
            expect(page.locator(".how")).to_be_hidden()
            expect(page.locator(".score")).to_have_count(0)


def test_leases_with_holder_token_and_time_left(
    cluster: LocalCluster, client: AgentKeeperClient, dashboard: Opener, name: Name
) -> None:
    work = name("work")
    page = dashboard(cluster.followers()[0], f"leases?task_id_prefix={work}")
    with client.register(name("holder"), "", "1") as agent:
        lease = client.acquire_lease(work, agent.agent_id, ttl=90)
        assert lease is not None
        listed = page.locator("tbody tr")
        expect(listed).to_contain_text(name("holder"))
        expect(listed.get_by_role("cell", name=str(lease.token), exact=True)).to_be_visible()
        left = listed.locator(".left-text")
        expect(left).to_have_text(re.compile(r"^1 min \d+ s$"))
        seen = left.inner_text()
        expect(left).not_to_have_text(seen)
        listed.locator("td").first.click()
        expect(page.locator("#details")).to_contain_text("nobody")
        page.keyboard.press("Escape")
        lease.release()
        expect(listed).to_have_count(0)


def test_elections_with_candidates_in_order(
    cluster: LocalCluster, client: AgentKeeperClient, dashboard: Opener, name: Name
) -> None:
    group = name("group")
    page = dashboard(cluster.followers()[0], f"elections?group_prefix={group}")
    with client.register(name("one"), "", "1") as one, client.register(name("two"), "", "1") as two:
        client.campaign(group, one.agent_id)
        client.campaign(group, two.agent_id)
        line = page.locator("tbody ol li")
        expect(line).to_have_count(2)
        expect(line.nth(0)).to_contain_text(name("one"))
        expect(line.nth(1)).to_contain_text(name("two"))
        client.resign(group, one.agent_id)
        expect(line).to_have_count(1)
        expect(line).to_contain_text(name("two"))
        expect(page.locator("tbody tr td").nth(2)).to_have_text("2")


def test_tasks_by_state_with_retries_and_reasons(
    cluster: LocalCluster, client: AgentKeeperClient, dashboard: Opener, name: Name
) -> None:
    kind = name("kind")
    page = dashboard(cluster.followers()[0], f"tasks?type={kind}")
    with client.register(name("worker"), "", "1", [kind]) as agent:
        task = client.create_task(kind, b'{"page": 7}', [kind], max_retries=1)
        listed = page.locator("tbody tr")
        expect(listed).to_contain_text("PENDING")
        client.claim_task(agent.agent_id)
        expect(listed).to_contain_text("CLAIMED")
        expect(listed).to_contain_text(name("worker"))
        client.fail_task(task.id, agent.agent_id, "the scan is blurred")
        expect(listed).to_contain_text("the scan is blurred")
        expect(listed).to_contain_text("1 of 1")
        client.claim_task(agent.agent_id)
        client.complete_task(task.id, agent.agent_id, b"done and dusted")
        expect(listed).to_contain_text("COMPLETED")
        listed.locator("td").first.click()
        expect(page.locator("#details")).to_contain_text('{"page": 7}')
        expect(page.locator("#details")).to_contain_text("done and dusted")
        page.keyboard.press("Escape")
        page.get_by_label("State").select_option("DEAD")
        expect(listed).to_have_count(0)


def test_policies_and_the_box_that_explains(
    cluster: LocalCluster, client: AgentKeeperClient, dashboard: Opener, name: Name
) -> None:
    who, allow, deny = name("who"), name("allow"), name("deny")
    client.set_policy(allow, who, "*", "ledger/*", "ALLOW")
    page = dashboard(cluster.followers()[0], f"policies?subject_prefix={who}")
    expect(page.locator("tbody tr")).to_contain_text(allow)

    def check(resource: str) -> None:
        page.get_by_role("textbox", name="May").fill(who)
        page.get_by_label("do", exact=True).fill("write")
        page.get_by_label("on", exact=True).fill(resource)
        page.keyboard.press("Enter")

    verdict = page.locator(".verdict")
    check("ledger/may")
    expect(verdict).to_contain_text("ALLOWED")
    expect(verdict).to_contain_text(allow)
    client.set_policy(deny, who, "write", "ledger/may", "DENY")
    expect(page.locator("tbody tr")).to_have_count(2)
    check("ledger/may")
    expect(verdict).to_contain_text("DENIED")
    expect(verdict.locator("li")).to_have_count(2)
    expect(verdict.locator("li.decided")).to_contain_text(deny)
    check("garden")
    expect(verdict).to_contain_text("no matching policy")
    expect(verdict.locator("li")).to_have_count(0)


def test_events_as_they_happen(
    cluster: LocalCluster, client: AgentKeeperClient, dashboard: Opener, name: Name
) -> None:
    first, second = name("first"), name("second")
    client.set_policy(first, "s", "a", "r", "ALLOW")
    page = dashboard(cluster.followers()[0], "events?topics=policy")
    listed = page.locator("tbody tr")
    expect(listed.filter(has_text=first)).to_have_count(1)
    stamp(page)
    client.set_policy(second, "s", "a", "r", "DENY")
    expect(listed.first).to_contain_text(second)
    expect(listed.first).to_contain_text("policy.set")
    expect(listed.first).to_contain_text("DENY")
    with client.register(name("not-asked-for"), "", "1"):
        client.delete_policy(second)
        expect(listed.first).to_contain_text("policy.deleted")
    expect(listed.filter(has_text="agent.registered")).to_have_count(0)
    page.get_by_label("About").fill(first)
    expect(listed).to_have_count(1)
    page.get_by_role("button", name="Pause").click()
    client.delete_policy(first)
    expect(page.locator(".status")).to_contain_text("1 held back")
    expect(listed).to_have_count(1)
    page.get_by_role("button", name="Go on").click()
    expect(listed).to_have_count(2)
    listed.first.locator("td").first.click()
    expect(page.locator("#details pre")).to_contain_text(f'"id": "{first}"')
    assert_never_reloaded(page)


def test_pages_and_filters_are_in_the_address(
    cluster: LocalCluster, client: AgentKeeperClient, dashboard: Opener, name: Name
) -> None:
    lot = name("lot")
    agents = [
        client.register(f"{lot}-{i:03}", "", "1", ["even"] * (i % 2 == 0)) for i in range(120)
    ]
    page = dashboard(cluster.leader(), "agents")
    page.get_by_label("Name begins with").fill(lot)
    expect(page).to_have_url(re.compile(f"name_prefix={lot}"))
    listed = page.locator("tbody tr")
    expect(listed.first).to_contain_text(f"{lot}-000")
    expect(listed).to_have_count(50)
    page.get_by_role("button", name="Next").click()
    expect(listed.first).to_contain_text(f"{lot}-050")
    page.get_by_role("button", name="Next").click()
    expect(listed).to_have_count(20)
    expect(page.get_by_role("button", name="Next")).to_be_disabled()
    other = dashboard(cluster.followers()[0], page.url.partition("#/")[2])
    expect(other.locator("tbody tr").first).to_contain_text(f"{lot}-100")
    page.go_back()
    expect(listed.first).to_contain_text(f"{lot}-050")
    page.get_by_label("Has the tools").fill("even")
    expect(listed.first).to_contain_text(f"{lot}-000")
    expect(listed.nth(1)).to_contain_text(f"{lot}-002")
    expect(page).to_have_url(re.compile(f"name_prefix={lot}"))
    for agent in agents:
        agent.deregister()
