"""What a user's type checker says of programs that use the SDK: nothing."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PROGRAMS = ("consumer_sync.py", "consumer_async.py")
WRONG_LINES = {5, 7, 8, 9}
WARTS = """
from agentkeeper import AgentHandle, AgentKeeperClient


def work(client: AgentKeeperClient, agent: AgentHandle) -> None:
    with client.acquire_lease("job", agent.agent_id):
        pass
    client.watch(["agent."], "no function")
    client.register("name", "", "1", on_name_conflict="ignore")
    client.worker(agent, lambda task: "no bytes")
"""


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    # Nothing of the checker is to be fetched: what is installed has to do.
    offline = {"PYRIGHT_PYTHON_IGNORE_WARNINGS": "1", "PIP_NO_INDEX": "1", "NO_COLOR": "1"}
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTPS_PROXY"), "http://127.0.0.1:1")
    environment = os.environ | offline | nowhere
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


def mypy(project: Path, *files: str) -> subprocess.CompletedProcess[str]:
    own = ["--config-file=", f"--cache-dir={project / 'cache'}", "--no-error-summary"]
    return run(sys.executable, "-m", "mypy", "--strict", *own, *files, cwd=project)


def pyright(project: Path, *files: str) -> dict:
    settings = {"typeCheckingMode": "strict", "include": list(files), "pythonVersion": "3.11"}
    (project / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable]
    ran = run(*command, cwd=project)
    assert ran.stdout.startswith("{"), ran.stdout + ran.stderr
    return json.loads(ran.stdout)


def told(diagnostics: list[dict]) -> list[str]:
    return [
        f"{Path(each['file']).name}:{each['range']['start']['line'] + 1}: {each['message']}"
        for each in diagnostics
    ]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A directory of somebody else's."""
    for name in PROGRAMS:
        shutil.copy(HERE / name, tmp_path)
    (tmp_path / "wrong.py").write_text(WARTS.removeprefix("\n"))
    return tmp_path


def test_mypy_has_no_complaint(project: Path):
    checked = mypy(project, *PROGRAMS)
    assert (checked.stdout, checked.returncode) == ("", 0)


def test_pyright_has_no_complaint(project: Path):
    checked = pyright(project, *PROGRAMS)
    assert told(checked["generalDiagnostics"]) == []
    assert checked["summary"]["filesAnalyzed"] == len(PROGRAMS)


def test_mypy_sees_what_is_wrong(project: Path):
    """A lease that may be None can't be entered unasked, for one."""
    lines = {int(line.split(":")[1]) for line in mypy(project, "wrong.py").stdout.splitlines()}
    assert lines == WRONG_LINES


def test_pyright_sees_what_is_wrong(project: Path):
    checked = pyright(project, "wrong.py")["generalDiagnostics"]
    assert {each["range"]["start"]["line"] + 1 for each in checked} == WRONG_LINES
