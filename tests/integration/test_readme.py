"""The README's Python works as it stands there."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import pytest

import agentkeeper
from agentkeeper.launcher import LocalCluster

README = Path(__file__).parents[2] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
LOCAL = [block for block in BLOCKS if "AgentKeeperClient()" in block]


def test_blocks_are_found():
    assert len(LOCAL) >= 2
    for block in BLOCKS:
        compile(block, "README.md", "exec")


@pytest.mark.parametrize("block", LOCAL, ids=lambda block: block.splitlines()[0])
def test_runs_as_written(block, monkeypatch, capsys):
    with LocalCluster(replicas=1) as cluster:
        cluster.wait_ready()
        here = partial(agentkeeper.AgentKeeperClient, endpoints=cluster.endpoints)
        monkeypatch.setattr(agentkeeper, "AgentKeeperClient", here)
        names: dict[str, object] = {}
        exec(compile(block, "README.md", "exec"), names)
        printed = capsys.readouterr().out
        if "task" in names:
            assert names["state"].leader_agent_id == names["agent"].agent_id
            assert 'allowed by policy "read"' in printed
        if "client" in names:
            names["client"].close()
