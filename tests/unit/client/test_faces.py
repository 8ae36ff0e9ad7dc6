"""Both faces of the SDK are one: the same names, parameters, defaults and explanations."""

import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import agentkeeper

ROOT = Path(__file__).parents[3]
PAIRS = sorted(
    name.removeprefix("Async") for name in agentkeeper.__all__ if name.startswith("Async")
)
ONLY_ASYNC = {"__aenter__": "__enter__", "__aexit__": "__exit__", "__anext__": "__next__"}
ONLY_ASYNC |= {"__aiter__": "__iter__"}
COROUTINES = {
    "AgentHandle": {"deregister"},
    "LeaseHandle": {"renew", "release"},
    "Leadership": {"resign"},
    "LossSignal": {"wait"},
    "Worker": {"run"},
}


def both(name: str) -> tuple[type, type]:
    return getattr(agentkeeper, name), getattr(agentkeeper, f"Async{name}")


def members(face: type) -> dict[str, object]:
    """What users see, by the names of the sync face."""
    named = {ONLY_ASYNC.get(name, name): member for name, member in inspect.getmembers(face)}
    shown = {"__init__", "__bool__", *ONLY_ASYNC.values()}
    return {
        name: member for name, member in named.items() if name in shown or not name.startswith("_")
    }


def parameters(member: object) -> list[tuple[str, object, object]]:
    return [
        (parameter.name, parameter.kind, parameter.default)
        for parameter in inspect.signature(member).parameters.values()
    ]


def words(text: str | None) -> str:
    """An explanation without what may differ: its line breaks and the faces' names."""
    return re.sub(r"\s+", " ", re.sub(r"\bAsync(?=[A-Z])", "", text or ""))


def test_every_class_of_one_face_has_its_like_in_the_other():
    assert len(PAIRS) >= 9
    for name in PAIRS:
        sync, asynchronous = both(name)
        assert sync is not asynchronous
        assert sync.__module__.startswith("agentkeeper.client.sync.")
        assert asynchronous.__module__.startswith("agentkeeper.client.aio.")
        assert sync.__module__.replace(".sync.", ".aio.") == asynchronous.__module__
        assert words(sync.__doc__) == words(asynchronous.__doc__) != ""


@pytest.mark.parametrize("name", PAIRS)
def test_both_have_the_same_members(name: str):
    sync, asynchronous = (members(face) for face in both(name))
    assert sorted(sync) == sorted(asynchronous)
    for member, here in sync.items():
        there = asynchronous[member]
        assert isinstance(here, property) is isinstance(there, property), member
        if callable(here):
            assert parameters(here) == parameters(there), member


@pytest.mark.parametrize("name", [name for name in PAIRS if name != "LossSignal"])
def test_both_are_explained_alike(name: str):
    sync, asynchronous = (members(face) for face in both(name))
    for member, here in sync.items():
        if not member.startswith("__"):
            assert words(inspect.getdoc(here)), f"{name}.{member}"
            assert words(inspect.getdoc(here)) == words(inspect.getdoc(asynchronous[member]))


def test_whatever_waits_is_awaited():
    for name, coroutines in COROUTINES.items():
        sync, asynchronous = both(name)
        found = {
            member
            for member, value in members(asynchronous).items()
            if inspect.iscoroutinefunction(value) and not member.startswith("__")
        }
        assert found == coroutines
        assert not [m for m in members(sync).values() if inspect.iscoroutinefunction(m)]


def test_every_call_takes_a_timeout():
    without = {"close", "embedded", "worker"}
    for face in both("AgentKeeperClient"):
        for name, member in members(face).items():
            if callable(member) and not name.startswith("__") and name not in without:
                timeout = inspect.signature(member).parameters["timeout"]
                assert timeout.kind is inspect.Parameter.KEYWORD_ONLY, name
                assert timeout.default is None, name


def test_every_public_name_is_exported_and_there():
    for name in agentkeeper.__all__:
        assert getattr(agentkeeper, name).__name__ == name
    assert sorted(set(agentkeeper.__all__)) == sorted(agentkeeper.__all__)
    assert set(dir(agentkeeper)) >= set(agentkeeper.__all__)
    for name, error in inspect.getmembers(agentkeeper.errors, inspect.isclass):
        public = issubclass(error, BaseException) and error.__module__ == "agentkeeper.errors"
        assert not public or name == "Lost" or name in agentkeeper.__all__, name


def test_nobody_names_a_class_that_is_not_exported():
    """What methods return can be named in users' annotations."""
    for name in PAIRS:
        for face in both(name):
            for member in members(face).values():
                written = inspect.unwrap(member) if callable(member) else member
                returned = getattr(written, "__annotations__", {}).get("return", "")
                for named in re.findall(r"\b[A-Z]\w+(?:Handle|Stream|Signal)\b", str(returned)):
                    assert named in agentkeeper.__all__


# ---- one is made from the other


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    ignored = shutil.ignore_patterns("__pycache__")
    for folder in ("agentkeeper", "tools"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def make_sync(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(root / "tools/make_sync.py"), *arguments]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


def test_the_sync_face_is_made_from_the_other_as_it_is_now(copy: Path):
    checked = make_sync(copy, "--check")
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("changed", ["aio/handles.py", "sync/handles.py"])
def test_a_change_to_one_of_them_is_found_and_made_good(copy: Path, changed: str):
    path = copy / "agentkeeper/client" / changed
    made = copy / "agentkeeper/client/sync/handles.py"
    assert make_sync(copy, "--check").returncode == 0
    before = path.read_text()
    path.write_text(before.replace("A registered agent, ", "An agent of ours, "))
    assert path.read_text() != before
    checked = make_sync(copy, "--check")
    assert checked.returncode != 0
    assert "handles.py" in checked.stderr
    assert make_sync(copy).returncode == 0
    assert make_sync(copy, "--check").returncode == 0
    assert ("An agent of ours, " in made.read_text()) is changed.startswith("aio")


def test_a_module_that_is_missing_is_found(copy: Path):
    (copy / "agentkeeper/client/sync/worker.py").unlink()
    checked = make_sync(copy, "--check")
    assert checked.returncode != 0
    assert checked.stderr.split()[-1] == "worker.py"


def test_nothing_of_the_other_face_is_left_in_the_sync_one():
    for path in (ROOT / "agentkeeper/client/sync").glob("*.py"):
        if path.name not in {"__init__.py", "concurrency.py"}:
            assert not re.search(r"\b(async|await|asyncio|Async[A-Z]\w*)\b", path.read_text())
