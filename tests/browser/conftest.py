"""One browser for all tests, clusters of real processes, and pages that must not complain."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from agentkeeper.client import AgentKeeperClient
from agentkeeper.launcher import LocalCluster, Node

sys.path.append(str(Path(__file__).parents[2]))
from benchmarks.chromium import PATH, chromium

REFUSED = "net::ERR_"
"""What a browser writes to its console when a replica is gone. A page can't keep it from that."""
WATCH_POLICY = """
window.violations = [];
addEventListener("securitypolicyviolation", (e) => violations.push(e.violatedDirective));
"""

PATIENCE_MS = 15_000

Opener = Callable[..., Page]


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    if PATH is None:
        pytest.skip("there is no chromium here")
    expect.set_options(timeout=PATIENCE_MS)
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="package")
def cluster() -> Iterator[LocalCluster]:
    """Three replicas, for tests that do no harm."""
    with LocalCluster(replicas=3) as cluster:
        yield cluster


@pytest.fixture
def rough() -> Iterator[LocalCluster]:
    """Three replicas to hurt."""
    with LocalCluster(replicas=3) as cluster:
        yield cluster


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[AgentKeeperClient]:
    with cluster.client() as client:
        yield client


@pytest.fixture
def name() -> Callable[[str], str]:
    """Makes names that no other test uses."""
    suffix = uuid.uuid4().hex[:8]
    return lambda stem: f"{stem}-{suffix}"


@pytest.fixture
def dashboard(browser: Browser) -> Iterator[Opener]:
    """Opens the dashboard of a replica. In the end no page may have had anything to complain of.

    A page that loses its replica may say so on its console.
    """
    said: list[str] = []
    with ExitStack() as opened:
        pages: list[Page] = []

        def open_at(node: Node, view: str = "", **options: Any) -> Page:
            context = browser.new_context(viewport={"width": 1280, "height": 896}, **options)
            opened.callback(context.close)
            context.set_default_timeout(PATIENCE_MS)
            page = context.new_page()
            page.add_init_script(WATCH_POLICY)
            page.on("console", lambda m: said.append(m.text) if m.type == "error" else None)
            page.on("pageerror", lambda error: said.append(str(error)))
            page.on("dialog", lambda dialog: said.append(f"a dialog: {dialog.message}"))
            page.goto(f"http://{node.metrics_addr}/#/{view}")
            pages.append(page)
            return page

        yield open_at
        violations = [page.evaluate("violations") for page in pages]
    assert violations == [[]] * len(pages)
    assert [text for text in said if REFUSED not in text] == []
