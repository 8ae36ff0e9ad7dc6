"""The page itself: by keyboard, on a phone, in dark and light, and with whatever names come."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from playwright.sync_api import Page, expect

from agentkeeper.client import AgentKeeperClient
from agentkeeper.launcher import LocalCluster

Name = Callable[[str], str]
Opener = Callable[..., Page]

SECTIONS = ("cluster", "agents", "leases", "elections", "tasks", "policies", "events")
HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "<script>alert(2)</script>",
    "\"'><svg/onload=alert(3)>",
    "\u202egnp.exe \u2066\u200f\u0627\u0644",
    "{agents} ${alert(4)} {{7*7}}",
    "javascript:alert(5)//%0a&amp;#x3c;",
    "W" * 250,
    "\U0001f9d1\u200d\U0001f680" * 20,
)
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
FOCUSED = "document.activeElement.outerHTML.slice(0, 200)"


@pytest.fixture
def hostile(client: AgentKeeperClient) -> Iterator[None]:
    """Everything that has a name, with names that nobody should have."""
    with ExitStack() as held:
        for i, text in enumerate(HOSTILE):
            agent = held.enter_context(
                client.register(text, text * 30, text[:200], [text], {text: text})
            )
            lease = client.acquire_lease(f"{text}/{i}", agent.agent_id)
            assert lease is not None
            held.callback(lease.release)
            client.campaign(text, agent.agent_id)
            client.set_policy(text, text, text, text, "ALLOW")
            client.create_task(text, text.encode(), [text])
            task = client.claim_task(agent.agent_id)
            client.fail_task(task.id, agent.agent_id, text)
        yield
        for text in HOSTILE:
            client.delete_policy(text)


def test_names_are_shown_and_never_obeyed(
    cluster: LocalCluster, dashboard: Opener, hostile: None
) -> None:
    page = dashboard(cluster.leader())
    for section in SECTIONS[1:]:
        page.goto(page.url.partition("#")[0] + f"#/{section}")
        first = page.locator("tbody").get_by_text(HOSTILE[0]).first
        expect(first).to_be_visible()
        assert page.locator("main img, main script, main svg[onload]").count() == 0, section
        assert page.evaluate(OVERFLOW) == 0, section
        if section == "policies":
            continue
        page.locator("tbody tr").first.locator("td").first.click()
        expect(page.locator("#details")).to_be_visible()
        assert page.locator("dialog img, dialog script").count() == 0, section
        page.keyboard.press("Escape")
    page.goto(page.url.partition("#")[0] + "#/policies")
    for label in ("May", "do", "on"):
        page.get_by_role("textbox", name=label, exact=True).fill(HOSTILE[0])
    page.keyboard.press("Enter")
    expect(page.locator(".verdict")).to_contain_text("ALLOWED")
    expect(page.locator(".verdict")).to_contain_text(HOSTILE[0])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_needs_no_sideways_scrolling(
    cluster: LocalCluster, dashboard: Opener, hostile: None, scheme: str
) -> None:
    page = dashboard(cluster.leader(), color_scheme=scheme)
    page.set_viewport_size({"width": 360, "height": 740})
    for section in SECTIONS:
        page.goto(page.url.partition("#")[0] + f"#/{section}")
        expect(page.locator("tbody tr").first).to_be_visible()
        assert page.evaluate(OVERFLOW) == 0, section
        active = page.locator("#tabs a[aria-current]")
        expect(active).to_be_in_viewport()
        if section not in ("cluster", "policies"):
            page.locator("tbody tr").first.locator("td").first.click()
            expect(page.locator("#details")).to_be_visible()
            box = page.locator("#details").bounding_box()
            assert box is not None
            assert box["width"] <= 360
            page.keyboard.press("Escape")


def test_dark_and_light_follow_the_system_until_one_is_chosen(
    cluster: LocalCluster, dashboard: Opener
) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    light = dashboard(cluster.leader(), color_scheme="light")
    dark = dashboard(cluster.leader(), color_scheme="dark")
    colours = {"light": light.evaluate(ground), "dark": dark.evaluate(ground)}
    assert colours["light"] != colours["dark"]
    button = light.get_by_role("button", name="Theme")
    expect(button).to_have_accessible_name("Theme: system")
    button.click()
    expect(button).to_have_accessible_name("Theme: dark")
    assert light.evaluate(ground) == colours["dark"]
    light.reload()
    assert light.evaluate(ground) == colours["dark"]
    light.keyboard.press("t")
    expect(button).to_have_accessible_name("Theme: light")
    assert light.evaluate(ground) == colours["light"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_told_from_its_ground(
    cluster: LocalCluster, dashboard: Opener, scheme: str
) -> None:
    page = dashboard(cluster.leader(), color_scheme=scheme)
    expect(page.locator("tbody tr").first).to_be_visible()
    assert page.evaluate(CONTRAST) == []


CONTRAST = """() => {
  // WCAG 2.2, 1.4.3: at least 4.5 to 1, for every element that has text of its own.
  const paint = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    paint.clearRect(0, 0, 1, 1);
    paint.fillStyle = colour;
    paint.fillRect(0, 0, 1, 1);
    return [...paint.getImageData(0, 0, 1, 1).data];
  };
  const light = (c) => {
    const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = c.map((v) => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = rgba(getComputedStyle(e).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !element.checkVisibility() || element.matches(":disabled")) continue;
    const [a, b] = [light(rgba(getComputedStyle(element).color)), light(ground(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push(`${element.className || element.tagName}: ${ratio.toFixed(2)}`);
  }
  return poor;
}"""


def test_all_of_it_by_keyboard(
    cluster: LocalCluster, client: AgentKeeperClient, dashboard: Opener, name: Name
) -> None:
    with client.register(name("a"), "", "1") as a, client.register(name("b"), "", "1") as b:
        page = dashboard(cluster.leader())
        expect(page.locator("tbody tr")).to_have_count(3)
        page.keyboard.press("Tab")
        assert "Skip to content" in page.evaluate(FOCUSED)
        page.keyboard.press("Enter")
        expect(page.locator("main")).to_be_focused()
        page.keyboard.press("2")
        expect(page.get_by_role("heading", name="Agents")).to_be_visible()
        page.keyboard.press("/")
        expect(page.get_by_label("Search by meaning or name")).to_be_focused()
        page.keyboard.press("Tab")
        expect(page.get_by_label("Name begins with")).to_be_focused()
        page.keyboard.press("Escape")
        expect(page.locator("tbody tr")).to_have_count(2)  # there is something to go to
        page.keyboard.press("r")
        expect(page.locator("tbody tr").first).to_be_focused()
        page.keyboard.press("ArrowDown")
        expect(page.locator("tbody tr").nth(1)).to_be_focused()
        page.keyboard.press("End")
        expect(page.locator("tbody tr").last).to_be_focused()
        page.keyboard.press("Enter")
        details = page.locator("#details")
        expect(details).to_contain_text(b.agent_id)
        page.keyboard.press("Escape")
        expect(details).to_be_hidden()
        expect(page.locator("tbody tr").last).to_be_focused()
        page.keyboard.press("ArrowUp")
        page.keyboard.press("Enter")
        expect(details).to_contain_text(a.agent_id)
        page.keyboard.press("Escape")
        page.keyboard.press("?")
        expect(page.locator("#keys")).to_contain_text("go to the filter")
        page.keyboard.press("Escape")
        page.keyboard.press("7")
        expect(page.locator(".status")).to_contain_text("shown")
        page.locator("main").focus()
        page.keyboard.press("Space")
        expect(page.get_by_role("button", name="Go on")).to_be_visible()
        page.keyboard.press("1")
        for _ in range(40):
            page.keyboard.press("Tab")
            if "tile" in page.evaluate(FOCUSED):
                break
        page.keyboard.press("Enter")
        expect(page).to_have_url(re.compile("#/agents$"))


def test_what_a_screen_reader_is_told(cluster: LocalCluster, dashboard: Opener) -> None:
    page = dashboard(cluster.leader())
    expect(page.get_by_role("navigation", name="Sections")).to_be_visible()
    expect(page.get_by_role("link", name=re.compile("^Cluster"))).to_have_attribute(
        "aria-current", "page"
    )
    expect(page.get_by_role("table", name="Replicas")).to_be_visible()
    expect(page.get_by_role("columnheader", name="Health")).to_be_visible()
    expect(page.get_by_role("img", name=re.compile("^Latency"))).to_be_visible()
    expect(page.get_by_role("status").filter(has_text="replicas serve")).to_be_visible()
    page.keyboard.press("2")
    expect(page.get_by_role("search", name="Filter agents")).to_be_visible()
    expect(page.get_by_role("group", name="State")).to_be_visible()
    assert page.evaluate(
        "[...document.querySelectorAll('input, select')].every((i) => i.labels.length)"
    )
