"""The pytest plugin: loaded by itself, cheap to load, and its fixtures clean up."""

import subprocess
import sys
from pathlib import Path

import pytest

from agentkeeper import AgentKeeperClient, AgentStatus
from agentkeeper.testing import FakeKeeper

USERS_TESTS = """
import pytest
from agentkeeper import ClientClosed

kept = []

def test_a_fake_keeper(fake_keeper):
    agent = fake_keeper.client().register("agent", "", "1", ttl=10)
    fake_keeper.advance(3600)
    kept.append(fake_keeper)

def test_a_daemon(agentkeeper_client):
    agentkeeper_client.register("agent", "", "1")
    kept.append(agentkeeper_client)

def test_both_are_closed():
    keeper, client = kept
    for call in (lambda: keeper.advance(1), client.find):
        with pytest.raises(ClientClosed):
            call()
"""

LOADS_LITTLE = """
import sys
import agentkeeper.testing.plugin
heavy = [name for name in sys.modules if name.startswith(("grpc", "structlog", "agentkeeper."))]
print(sorted(heavy))
"""


def test_users_tests_have_the_fixtures(tmp_path: Path):
    (tmp_path / "test_users.py").write_text(USERS_TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout
    assert "3 passed" in ran.stdout


def test_the_fixtures_are_explained(tmp_path: Path):
    command = [sys.executable, "-m", "pytest", "--fixtures", "-q", "-p", "no:cacheprovider"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "agentkeeper.testing.FakeKeeper" in ran.stdout
    assert "fresh embedded daemon" in ran.stdout


def test_loading_the_plugin_loads_next_to_nothing():
    loaded = subprocess.run(
        [sys.executable, "-c", LOADS_LITTLE], capture_output=True, text=True, check=True
    )
    assert loaded.stdout.strip() == "['agentkeeper.testing', 'agentkeeper.testing.plugin']"


def test_a_fake_keeper_is_ready_at_time_zero(fake_keeper: FakeKeeper):
    assert isinstance(fake_keeper, FakeKeeper)
    assert fake_keeper.now == 0


def test_a_client_of_a_daemon_can_be_used_at_once(agentkeeper_client: AgentKeeperClient):
    agent = agentkeeper_client.register("agent", "", "1")
    assert agentkeeper_client.get_agent(agent.agent_id).status == AgentStatus.ALIVE


@pytest.mark.parametrize("configured", [False, True])
def test_the_daemon_s_logs_stay_out_of_the_users_output(configured: bool):
    configure = "structlog.configure(processors=[lambda *_: print('mine') or ''])"
    code = f"""
import structlog
from agentkeeper.testing import FakeKeeper
{configure if configured else ""}
with FakeKeeper() as keeper:
    keeper.client().find()
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ("mine" in ran.stdout) == configured
    assert configured or (ran.stdout, ran.stderr) == ("", "")
