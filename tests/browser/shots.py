"""Makes the screenshots of docs/dashboard.md: `python -m tests.browser.shots`, in docs/images."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Browser, Page

from agentkeeper.client import AgentKeeperClient
from agentkeeper.launcher import LocalCluster, Node
from benchmarks.chromium import chromium

from .story import busy, told

IMAGES = Path(__file__).parents[2] / "docs" / "images"
WIDE = {"width": 1280, "height": 832}
NARROW = {"width": 360, "height": 768}
HISTORY_S = 75.0
"""Long enough for the plots to show something."""


def main() -> None:
    """Start a cluster, tell the story, and take the pictures."""
    IMAGES.mkdir(exist_ok=True)
    with (
        LocalCluster(replicas=3) as cluster,
        AgentKeeperClient(endpoints=[(node := cluster.followers()[0]).endpoint]) as client,
        told(client),
        chromium() as browser,
    ):
        page = _open(browser, node, "light", WIDE)
        busy(client, HISTORY_S)
        _shoot(page, "dashboard-cluster")
        for section in ("agents", "leases", "tasks", "events"):
            _go(page, section)
            _shoot(page, f"dashboard-{section}")
        _go(page, "policies")
        for label, text in (
            ("May", "invoice-reader"),
            ("do", "write"),
            ("on", "ledger/close-may"),
        ):
            page.get_by_role("textbox", name=label, exact=True).fill(text)
        page.keyboard.press("Enter")
        page.locator(".verdict .answer").wait_for()
        _shoot(page, "dashboard-policies")
        page = _open(browser, node, "dark", WIDE)
        _shoot(page, "dashboard-dark")
        page = _open(browser, node, "light", NARROW)
        _go(page, "agents")
        _shoot(page, "dashboard-phone")


def _open(browser: Browser, node: Node, scheme: str, size: dict[str, int]) -> Page:
    context = browser.new_context(color_scheme=scheme, viewport=size)
    page = context.new_page()
    page.goto(f"http://{node.metrics_addr}/")
    page.locator("tbody tr").first.wait_for()
    return page


def _go(page: Page, section: str) -> None:
    page.goto(page.url.partition("#")[0] + f"#/{section}")
    page.locator("tbody tr").first.wait_for()


def _shoot(page: Page, name: str) -> None:
    page.screenshot(path=IMAGES / f"{name}.png")


if __name__ == "__main__":
    main()
