"""No test fails because the computer is busy."""

import pytest
from hypothesis import settings

from agentkeeper.server import machine

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture(autouse=True)
def entries_are_applied_as_they_are_delivered(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long that takes."""
    monkeypatch.setattr(machine, "SLICE_S", 60.0)
