"""No test fails because the computer is busy."""

import pytest
from hypothesis import settings

from agentkeeper.server import machine, turns

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture(autouse=True)
def passes_have_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """For all entries that are delivered and all calls that come in one, however long they take."""
    monkeypatch.setattr(machine, "SLICE_S", 60.0)
    monkeypatch.setattr(turns, "PASS_S", 60.0)
