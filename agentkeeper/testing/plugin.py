"""The pytest plugin: fixtures for tests of programs that use AgentKeeper.

Every run of pytest imports this where AgentKeeper is installed, so it imports next to nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from agentkeeper import AgentKeeperClient
    from agentkeeper.testing import FakeKeeper


@pytest.fixture
def fake_keeper() -> Iterator[FakeKeeper]:
    """An `agentkeeper.testing.FakeKeeper`: in this process, its clock moved by `advance(seconds)`.

    `fake_keeper.client()` gives any number of clients. All is closed after the test.
    """
    from agentkeeper.testing import FakeKeeper  # noqa: PLC0415

    with FakeKeeper() as keeper:
        yield keeper


@pytest.fixture
def agentkeeper_client() -> Iterator[AgentKeeperClient]:
    """An `AgentKeeperClient` of a fresh embedded daemon, in real time, stopped after the test."""
    from agentkeeper import AgentKeeperClient  # noqa: PLC0415

    with AgentKeeperClient.embedded() as client:
        yield client
