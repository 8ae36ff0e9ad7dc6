"""The command line: what is run when no subcommand is named, and what is refused."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from agentkeeper.cli import serve as serving
from agentkeeper.cli.main import main


@pytest.fixture
def served(monkeypatch):
    """Settings the daemon would have been run with."""
    settings = []
    monkeypatch.setattr(serving, "_run", lambda given: settings.append(given) or 0)
    return settings


def run(*args, **env):
    return CliRunner(env=env).invoke(main, args)


@pytest.mark.parametrize("args", [[], ["--addr=127.0.0.1:7171"], ["serve"]])
def test_serves_by_default(served, args):
    assert run(*args).exit_code == 0
    assert len(served) == 1


def test_options_before_a_subcommand_are_not_forgotten(served):
    result = run("--addr=127.0.0.1:7171", "serve")
    assert result.exit_code == 2
    assert not served


def test_the_daemons_variables_mean_nothing_to_other_commands():
    result = run("cluster", "status", "--help", AGENTKEEPER_LOG_LEVEL="nonsense")
    assert result.exit_code == 0


def test_a_daemon_may_be_run_by_a_client_command(served):
    """As in `agentkeeper lock NAME -- agentkeeper serve`, whose variables are not the daemon's."""
    variables = dict.fromkeys(("AGENTKEEPER_TOKEN", "AGENTKEEPER_TASK", "AGENTKEEPER_TERM"), "1")
    assert run("serve", **variables).exit_code == 0
    assert len(served) == 1
    assert run("serve", AGENTKEEPER_TOKENS="1").exit_code == 2


def test_a_file_may_say_numbers_and_tables(served, tmp_path):
    file = tmp_path / "agentkeeper.toml"
    file.write_text(
        f'node-id = "a"\ndata-dir = "{tmp_path}"\nheartbeat_ms = 50\n'
        '[peers]\na = "127.0.0.1:7401"\nb = "127.0.0.1:7402"\n'
    )
    assert run("--config", str(file)).exit_code == 0
    assert served[0].heartbeat_ms == 50
    assert served[0].peers == {"a": "127.0.0.1:7401", "b": "127.0.0.1:7402"}


def test_a_value_of_a_wrong_type_is_named(served, tmp_path):
    file = tmp_path / "agentkeeper.toml"
    file.write_text("heartbeat-ms = true\n")
    result = run("--config", str(file))
    assert result.exit_code == 2
    assert "heartbeat-ms" in result.output
    assert not served
