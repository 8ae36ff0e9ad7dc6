"""What somebody has begun on a page is not undone by what comes meanwhile."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from contextlib import ExitStack

import pytest
from playwright.sync_api import Page, expect

from agentkeeper.client import AgentKeeperClient
from agentkeeper.launcher import LocalCluster
from agentkeeper.server.http.live import STREAMS

Name = Callable[[str], str]
Opener = Callable[..., Page]

SELECTED = "getSelection().toString()"
BEAT = re.compile("/api/leases")


def select(page: Page, selector: str) -> None:
    page.evaluate("(s) => getSelection().selectAllChildren(document.querySelector(s))", selector)


def test_tiles_keep_the_focus_and_change_their_numbers(
    cluster: LocalCluster, client: AgentKeeperClient, dashboard: Opener, name: Name
) -> None:
    page = dashboard(cluster.leader())
    tile = page.locator(".tile").filter(has_text="Policies")
    tile.focus()
    page.evaluate("window.kept = document.activeElement")
    before = tile.locator("b").inner_text()
    client.set_policy(name("one-more"), "s", "a", "r", "ALLOW")
    expect(tile.locator("b")).not_to_have_text(before)
    assert page.evaluate("window.kept === document.activeElement && window.kept.isConnected")
    client.delete_policy(name("one-more"))


def test_rows_and_details_keep_focus_selection_and_scrolling(
    cluster: LocalCluster, client: AgentKeeperClient, dashboard: Opener, name: Name
) -> None:
    work = name("work")
    with client.register(name("holder"), "", "1") as agent:
        lease = client.acquire_lease(work, agent.agent_id, ttl=300)
        assert lease is not None
        page = dashboard(cluster.leader(), f"leases?task_id_prefix={work}")
        link = page.locator("tbody a.agent")
        link.focus()
        select(page, "tbody .name")
        page.evaluate("window.kept = document.activeElement")
        with page.expect_response(BEAT):  # remaining_ms differs each time
            pass
        with page.expect_response(BEAT):
            pass
        assert page.evaluate("window.kept === document.activeElement && window.kept.isConnected")
        assert page.evaluate(SELECTED) == work
        page.evaluate("getSelection().empty()")
        page.locator("tbody tr").locator("td").first.click()
        details = page.locator("#details")
        expect(details).to_contain_text("nobody")
        select(page, "#details dd code")
        client.acquire_lease(work, client.register(name("next"), "", "1").agent_id, wait=0)
        with page.expect_response(re.compile("/api/lease\\?")):
            pass
        assert page.evaluate(SELECTED) == work


def test_a_link_in_a_row_is_followed_and_the_row_is_not_opened(
    cluster: LocalCluster, client: AgentKeeperClient, dashboard: Opener, name: Name
) -> None:
    work = name("work")
    with client.register(name("holder"), "", "1") as agent:
        client.acquire_lease(work, agent.agent_id)
        page = dashboard(cluster.leader(), f"leases?task_id_prefix={work}")
        page.locator("tbody a.agent").focus()
        page.keyboard.press("Enter")
        expect(page.locator("#details")).to_contain_text(agent.agent_id)
        expect(page.locator("#details-title")).to_have_text(name("holder"))
        page.locator("#details a.chip").filter(has_text=work).click()
        expect(page.locator("#details-title")).to_have_text(work)
        page.go_back()
        expect(page.locator("#details-title")).to_have_text(name("holder"))
        page.keyboard.press("Escape")
        expect(page).to_have_url(re.compile(f"#/leases.task_id_prefix={work}$"))
        expect(page.locator("tbody a.agent")).to_be_visible()


@pytest.mark.parametrize("width", [360, 768, 1024, 1280])
def test_no_table_is_cut_off(
    cluster: LocalCluster, client: AgentKeeperClient, dashboard: Opener, name: Name, width: int
) -> None:
    with client.register(name("a" * 60), "d" * 90, "1", ["a-tool-of-some-length"]) as agent:
        client.acquire_lease(name("lease" * 20), agent.agent_id)
        client.campaign(name("group" * 20), agent.agent_id)
        client.create_task(name("type" * 20), b"", [name("only-its")])
        page = dashboard(cluster.leader())
        page.set_viewport_size({"width": width, "height": 800})
        for section in ("cluster", "agents", "leases", "elections", "tasks", "policies", "events"):
            page.goto(page.url.partition("#")[0] + f"#/{section}")
            expect(page.locator(".table")).to_be_visible()
            expect(page.locator("tbody tr, .nothing:visible").first).to_be_visible()
            wide = "document.querySelector('.table').scrollWidth"
            room = "document.querySelector('.table').clientWidth"
            assert page.evaluate(wide) <= page.evaluate(room), section


def test_a_search_says_what_it_does_not_go_by(
    cluster: LocalCluster, client: AgentKeeperClient, dashboard: Opener, name: Name
) -> None:
    with client.register(name("a"), "Paints lighthouses", "1"):
        page = dashboard(cluster.leader(), "agents?query=lighthouses&name_prefix=zzz&statuses=DEAD")
        expect(page.locator("tbody tr").first).to_contain_text(name("a"))
        expect(page.get_by_label("Name begins with")).to_be_disabled()
        expect(page.get_by_label("dead")).to_be_disabled()
        expect(page.get_by_label("Has the tools")).to_be_enabled()
        expect(page.locator("main .note")).to_contain_text("does not go by")
        page.get_by_label("Search by meaning or name").fill("")
        expect(page.get_by_label("Name begins with")).to_be_enabled()
        expect(page.locator("main .note")).to_be_hidden()


def test_single_keys_can_be_turned_off(cluster: LocalCluster, dashboard: Opener) -> None:
    page = dashboard(cluster.leader())
    expect(page.locator("tbody tr")).to_have_count(3)
    page.keyboard.press("?")
    page.get_by_label("Single keys do this").uncheck()
    page.get_by_role("button", name="Close").click()
    page.keyboard.press("2")
    page.get_by_role("button", name="Keys").click()
    expect(page.get_by_role("heading", name="Cluster")).to_be_visible()
    page.get_by_label("Single keys do this").check()
    page.keyboard.press("Escape")
    page.keyboard.press("2")
    expect(page.get_by_role("heading", name="Agents")).to_be_visible()


def test_esc_leaves_a_field_as_it_is(cluster: LocalCluster, dashboard: Opener) -> None:
    page = dashboard(cluster.leader(), "agents")
    field = page.get_by_label("Name begins with")
    field.fill("web-")
    expect(page).to_have_url(re.compile("name_prefix=web-"))
    page.keyboard.press("Escape")
    expect(field).not_to_be_focused()
    expect(field).to_have_value("web-")


def test_a_page_too_many_says_so_and_asks_for_itself(
    rough: LocalCluster, dashboard: Opener
) -> None:
    here = rough.followers()[0]
    host, _, port = here.metrics_addr.rpartition(":")
    with ExitStack() as others, rough.client() as client:
        for _ in range(STREAMS):
            other = others.enter_context(socket.create_connection((host, int(port))))
            other.sendall(b"GET /api/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert other.recv(12) == b"HTTP/1.1 200"
        page = dashboard(here, "agents")
        banner = page.locator("#banner")
        expect(banner).to_contain_text(f"{STREAMS} pages are open on this replica already")
        expect(page.locator("#link")).to_contain_text("every 5 s")
        client.register("meanwhile", "", "1", ttl=60)
        expect(page.locator("tbody tr")).to_contain_text("meanwhile")
        others.close()
        page.get_by_role("button", name="Try now").click()
        expect(page.locator("#link")).to_contain_text("live")
        expect(banner).to_be_hidden()


def test_older_events_follow_and_holes_are_told(
    cluster: LocalCluster, client: AgentKeeperClient, dashboard: Opener, name: Name
) -> None:
    many = name("many")
    for i in range(150):
        client.set_policy(f"{many}-{i}", "s", "a", "r", "ALLOW")
    page = dashboard(cluster.leader(), f"events?contains={many}")
    rows = page.locator("tbody tr.opens")
    expect(rows).to_have_count(100)
    older = page.get_by_role("button", name="Older")
    older.dblclick()
    expect(rows).to_have_count(150)
    numbers = rows.locator("td:first-child").all_inner_texts()
    assert len(set(numbers)) == 150
    expect(older).to_be_disabled()
    page.get_by_role("button", name="Go on").click()
    for i in range(150):
        client.delete_policy(f"{many}-{i}")
    expect(rows.first).to_contain_text(f"{many}-149")
    expect(older).to_be_enabled()
