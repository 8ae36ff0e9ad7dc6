"""Lets every test use the simulated disk and network, and run in several processes at once."""

import os
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent / "simulation"))

# Daemons of tests that are not about finding by meaning load no model.
os.environ["AGENTKEEPER_MODEL"] = "none"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Reports travel between processes as UTF-8, and a test may print half a character."""
    report = yield
    report.sections = [
        (name, text.encode(errors="replace").decode()) for name, text in report.sections
    ]
    return report
