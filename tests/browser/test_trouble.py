"""When the leader or its own replica is lost, the page says so, and recovers by itself."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import Page, expect

from agentkeeper.launcher import LocalCluster

Opener = Callable[..., Page]

UNCHANGED_FOR_TWO_BEATS = """() => {
  const text = document.querySelector("tbody .left-text").innerText;
  if (text !== window.seenText) {
    window.seenText = text;
    window.seenAt = performance.now();
  }
  return performance.now() - window.seenAt > 2500;
}"""
"""Time left has come to a stand: what was on its way when the leader was lost has been drawn."""


def test_a_new_leader_is_shown_when_the_old_one_is_killed(
    rough: LocalCluster, dashboard: Opener
) -> None:
    old = rough.leader()
    page = dashboard(rough.followers()[0])
    expect(page.locator(".sentence")).to_contain_text(f"{old.name} leads")
    page.evaluate("window.stamped = true")
    old.kill()
    expect(page.locator(".sentence")).to_contain_text("2 of 3 replicas serve")
    expect(page.locator(".sentence")).not_to_contain_text(f"{old.name} leads")
    lost = page.locator("tbody tr").filter(has_text=old.endpoint)
    expect(lost).to_contain_text("not connected")
    new = rough.leader()
    expect(page.locator("tbody tr").filter(has_text="leader")).to_contain_text(new.name)
    old.start()
    expect(page.locator(".sentence")).to_contain_text("All 3 replicas serve")
    expect(page.locator("#banner")).to_be_hidden()
    assert page.evaluate("window.stamped") is True


def test_without_a_leader_it_says_so_and_time_left_stands_still(
    rough: LocalCluster, dashboard: Opener
) -> None:
    here = rough.followers()[0]
    with rough.client() as client:
        agent = client.register("holder", "", "1", ttl=600)
        client.acquire_lease("work", agent.agent_id, ttl=600)
        page = dashboard(here, "leases")
        expect(page.locator("tbody tr")).to_contain_text("holder")
        others = [node for node in rough.nodes.values() if node is not here]
        for node in others:
            node.kill()
        expect(page.locator("#banner")).to_contain_text("The cluster has no leader")
        expect(page.locator("#link")).to_contain_text("no leader")
        left = page.locator("tbody .left-text")
        page.wait_for_function(UNCHANGED_FOR_TWO_BEATS)
        seen = left.inner_text()
        for node in others:
            node.start()
        expect(page.locator("#banner")).to_be_hidden()
        expect(page.locator("#link")).to_contain_text("live")
        expect(left).not_to_have_text(seen)


def test_when_its_own_replica_dies_it_waits_for_it(rough: LocalCluster, dashboard: Opener) -> None:
    here = rough.followers()[0]
    page = dashboard(here, "agents")
    expect(page.locator("#link")).to_contain_text("live")
    page.evaluate("window.stamped = true")
    here.kill()
    expect(page.locator("#banner")).to_contain_text("This replica does not answer")
    expect(page.locator("#link")).to_contain_text("not connected")
    with rough.client() as client:
        client.register("meanwhile", "", "1")
        here.start()
        expect(page.locator("tbody tr")).to_contain_text("meanwhile")
        expect(page.locator("#banner")).to_be_hidden()
        expect(page.locator("#toast")).to_have_text(re.compile("Connected again|^$"))
    assert page.evaluate("window.stamped") is True


def test_a_replica_that_hangs_is_noticed_too(rough: LocalCluster, dashboard: Opener) -> None:
    here = rough.followers()[0]
    page = dashboard(here, "events")
    expect(page.locator("#link")).to_contain_text("live")
    here.pause()
    expect(page.locator("#banner")).to_contain_text("This replica does not answer")
    here.resume()
    expect(page.locator("#banner")).to_be_hidden()
    with rough.client() as client:
        client.set_policy("after", "s", "a", "r", "ALLOW")
        expect(page.locator("tbody tr").first).to_contain_text("policy.set")


def test_a_replica_that_stops_says_goodbye(rough: LocalCluster, dashboard: Opener) -> None:
    here = rough.followers()[0]
    page = dashboard(here)
    expect(page.locator("#link")).to_contain_text("live")
    assert here.terminate() == 0
    expect(page.locator("#banner")).to_contain_text("This replica does not answer")
    here.start()
    expect(page.locator("#link")).to_contain_text("live")
