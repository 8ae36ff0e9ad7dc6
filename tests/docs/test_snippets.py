"""Every Python snippet of README and docs works as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from agentkeeper.launcher import LocalCluster

from . import cases, fenced_writes, snippets  # noqa: F401 - they register themselves
from .case import AS_PROGRAMS, CASES
from .snippets import ALL, ROOT
from .world import World

TESTING = "docs/how-to/testing.md"
IN_ONE = "README.md"
"""Pages that are read from top to bottom: their snippets share their names."""
ALONE = [snippet for snippet in ALL if snippet.page not in {TESTING, IN_ONE}]


@pytest.fixture(scope="module")
def daemon(request):
    """A daemon for each page; its endpoint."""
    with LocalCluster(replicas=1) as cluster:
        yield cluster.endpoints[0]


@pytest.fixture
def world(daemon, tmp_path, monkeypatch):
    world = World(daemon, tmp_path, monkeypatch)
    with world.files:
        yield world
        world.tidy()


def test_every_snippet_compiles_and_is_found():
    assert ALL
    for snippet in ALL:
        snippet.compiled()
    for path in snippets.PAGES:
        blocks = len(re.findall(r"^```python", path.read_text(), re.MULTILINE))
        assert blocks == len(snippets.snippets_of(path)), path


def test_names_of_snippets_are_those_of_cases():
    names = [snippet.name for snippet in ALL if snippet.name and snippet.page != TESTING]
    assert len(names) == len(set(names))
    assert set(names) >= CASES.keys() | AS_PROGRAMS.keys()


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("daemon", "snippet"),
    [pytest.param(snippet.page, snippet, id=snippet.id) for snippet in ALONE],
    indirect=["daemon"],
    scope="module",
)
def test_runs_as_it_stands(world, snippet):
    if snippet.name in AS_PROGRAMS:
        world.run_as_program(snippet, AS_PROGRAMS[snippet.name])
    else:
        world.run(snippet, CASES.get(snippet.name))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("daemon", [IN_ONE], indirect=True)
def test_readme_runs_from_top_to_bottom(world):
    for snippet in ALL:
        if snippet.page == IN_ONE:
            world.run(snippet, CASES.get(snippet.name))


def test_the_tests_of_the_testing_page_pass(tmp_path):
    pages = [snippet for snippet in ALL if snippet.page == TESTING]
    for number, snippet in enumerate(pages):
        (tmp_path / f"test_{number}.py").write_text(f"# {snippet.id}\n{snippet.code}")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    tests = sum(snippet.code.count("\ndef test_") for snippet in pages)
    assert f"{tests} passed" in done.stdout
