"""The files by which containers are run, and what the daemon makes of the settings in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from agentkeeper.cli.main import main
from agentkeeper.server.config import Settings

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "cluster/kubernetes"


def kubernetes() -> list[dict[str, Any]]:
    """All objects of the manifests."""
    paths = sorted(KUBERNETES.glob("*.yaml"))
    return [object for path in paths for object in yaml.safe_load_all(path.read_text())]


def the(kind: str, name: str = "agentkeeper") -> dict[str, Any]:
    """The one object of a kind and name."""
    found = [o for o in kubernetes() if (o["kind"], o["metadata"]["name"]) == (kind, name)]
    assert len(found) == 1
    return found[0]


def pods() -> Iterator[tuple[str, dict[str, str]]]:
    """Each pod's name, and the variables that its container is given."""
    spec = the("StatefulSet")["spec"]
    [container] = spec["template"]["spec"]["containers"]
    for number in range(spec["replicas"]):
        pod = {"metadata.name": f"agentkeeper-{number}"}
        variables = {}
        for entry in container["env"]:
            source = entry.get("valueFrom")
            path = source and source["fieldRef"]["fieldPath"]
            variables[entry["name"]] = pod[path] if path else entry["value"]
        yield pod["metadata.name"], variables


def settings_of(
    variables: Mapping[str, str], arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> Settings:
    """What `agentkeeper` with these would run with, once it has checked it; nothing is started."""
    taken = []

    class Node:
        def __init__(self, settings: Settings) -> None:
            taken.append(settings)

        async def serve(self) -> int:
            return 0

    monkeypatch.setattr("agentkeeper.server.node.Node", Node)
    monkeypatch.setattr("agentkeeper.server.logs.configure", lambda *_: None)
    done = CliRunner(env=dict(variables)).invoke(main, arguments)
    assert done.exit_code == 0, done.output
    return taken[0]
