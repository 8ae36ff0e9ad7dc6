"""The reference of the command line is what the commands say."""

import importlib.util
from pathlib import Path

from agentkeeper.cli.exits import Code

ROOT = Path(__file__).parents[3]
specification = importlib.util.spec_from_file_location(
    "cli_reference", ROOT / "tools/cli_reference.py"
)
reference = importlib.util.module_from_spec(specification)
specification.loader.exec_module(reference)


def test_it_is_up_to_date():
    assert reference.PAGE.read_text() == reference.page(), "run python tools/cli_reference.py"


def test_every_exit_code_is_in_the_table():
    for code in Code:
        assert f"\n| {code.value} | " in reference.page()


def test_commands_below_groups_have_their_options():
    _, _, acquire = reference.page().partition("### lease acquire\n")
    described = acquire.partition("###")[0]
    assert "agentkeeper lease acquire [OPTIONS] TASK" in described
    assert "--exclusive" in described
    assert "--endpoints" not in described
