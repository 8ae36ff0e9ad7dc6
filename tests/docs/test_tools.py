"""What is made from something else, and has lost it, does not stay."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from .snippets import ROOT


@pytest.fixture
def copy(tmp_path):
    for folder in ("agentkeeper/client", "tools"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def make_sync(root, *arguments):
    command = [sys.executable, str(root / "tools/make_sync.py"), *arguments]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


def test_a_sync_module_whose_source_is_gone_is_found_and_removed(copy):
    assert make_sync(copy).returncode == 0
    sources, faces = copy / "agentkeeper/client/aio", copy / "agentkeeper/client/sync"
    (sources / "extra.py").write_text('"""Not for long."""\n')
    assert make_sync(copy).returncode == 0
    assert (faces / "extra.py").exists()
    (sources / "extra.py").unlink()
    checked = make_sync(copy, "--check")
    assert checked.returncode != 0
    assert checked.stderr.split()[-1] == "extra.py"
    assert (faces / "extra.py").exists()
    assert make_sync(copy).returncode == 0
    assert not (faces / "extra.py").exists()
    assert {"__init__.py", "concurrency.py"} <= {path.name for path in faces.glob("*.py")}
    assert make_sync(copy, "--check").returncode == 0


def test_a_new_class_loses_its_async_without_being_listed_anywhere(copy):
    (copy / "agentkeeper/client/aio/newcomer.py").write_text(
        '"""A module."""\n\nfrom collections.abc import AsyncIterator\n\n\n'
        'class AsyncNewcomer:\n    """Of two faces."""\n\n'
        "    async def like(self, other: AsyncNewcomer) -> AsyncIterator[int]:\n"
        "        return await other.all()\n"
    )
    assert make_sync(copy).returncode == 0
    made = (copy / "agentkeeper/client/sync/newcomer.py").read_text()
    assert "class Newcomer:" in made
    assert "def like(self, other: Newcomer) -> Iterator[int]:" in made
    assert "sync " not in made.partition("\n")[2]
