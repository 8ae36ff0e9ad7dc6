"""The command `agentkeeper model`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from agentkeeper.cli.main import main
from agentkeeper.search.model.locate import INT8
from tests.unit.search.tiny_model import make_tiny_model


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


def run(*line: str | Path, **variables: str) -> Result:
    settings = {"AGENTKEEPER_MODEL": None, "AGENTKEEPER_DATA_DIR": None} | variables
    return CliRunner().invoke(main, ["model", *map(str, line)], env=settings)


def test_a_model_is_installed_exported_and_seen(tiny: Path, tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    installed = run("install", tiny, "--data-dir", data_dir)
    assert installed.exit_code == 0, installed.output
    assert f"installed tiny, of which no digest is known, in {data_dir / 'model'}" in (
        installed.stdout
    )

    status = run("status", "-o", "json", AGENTKEEPER_DATA_DIR=str(data_dir))
    assert status.exit_code == 0
    model = json.loads(status.stdout)["model"]
    assert (model["source"], model["runtime"]) == ("data directory", "sentence-transformers")

    exported = run("export", "--data-dir", data_dir, "-o", "yaml")
    assert exported.exit_code == 0, exported.output
    told = yaml.safe_load(exported.stdout)
    assert told["file"] == str(data_dir / "model" / INT8)
    assert told["size_bytes"] == (data_dir / "model" / INT8).stat().st_size
    assert 0.95 < told["least_agreement"] <= told["mean_agreement"] <= 1

    status = run("status", "--data-dir", data_dir, "--load", "-o", "json")
    assert status.exit_code == 0, status.output
    model = json.loads(status.stdout)["model"]
    assert model["runtime"] == "onnxruntime"
    assert model["mean_agreement"] == told["mean_agreement"]
    assert model["dimension"] == 32
    assert model["model_id"].startswith("onnxruntime:")
    assert model["query_ms"] > 0


def test_a_second_model_needs_to_be_forced(tiny: Path, tmp_path: Path) -> None:
    line = ("install", tiny, "--to", tmp_path / "model", "-o", "json")
    first = run(*line)
    assert json.loads(first.stdout) == {
        "directory": str(tmp_path / "model"),
        "name": "tiny",
        "origin": str(tiny),
        "size_bytes": json.loads(first.stdout)["size_bytes"],
        "verified": False,
        "runtime": "sentence-transformers",
    }
    again = run(*line)
    assert again.exit_code == 1
    assert "--force replaces it" in again.stderr
    assert run(*line, "--force").exit_code == 0


@pytest.mark.parametrize("command", ["install", "export"])
def test_where_to_must_be_said(command: str, tiny: Path) -> None:
    ran = run(command, tiny)
    assert ran.exit_code == 2
    assert "--data-dir" in ran.stderr


def test_no_model_is_told_and_exits_with_one(tmp_path: Path) -> None:
    ran = run("status", "--model", tmp_path)
    assert ran.exit_code == 1
    assert f"setting {tmp_path}: holds no model" in ran.stdout
    assert "agentkeeper model install" in ran.stdout
    ran = run("status", "-o", "json", AGENTKEEPER_MODEL=str(tmp_path))
    assert ran.exit_code == 1
    assert json.loads(ran.stdout)["model"] is None
    ran = run("status", "--model", "none")
    assert ran.exit_code == 1
    assert ran.stdout == "none is wanted\n"


def test_a_damaged_model_is_told(tiny: Path, tmp_path: Path) -> None:
    run("install", tiny, "--to", tmp_path / "model")
    (tmp_path / "model" / "config.json").write_bytes(b"{")
    ran = run("status", "--model", tmp_path / "model", "--load")
    assert ran.exit_code == 1
    assert "config.json is damaged" in ran.stderr


def test_a_record_that_is_none_tells_nothing(tmp_path: Path) -> None:
    (tmp_path / INT8).write_bytes(b"network")
    (tmp_path / "agentkeeper-model.json").write_text('{"export": []}')
    ran = run("status", "--model", tmp_path, "-o", "json")
    assert ran.exit_code == 0, ran.output
    assert json.loads(ran.stdout)["model"]["mean_agreement"] is None


def test_what_cannot_be_exported_is_told(tmp_path: Path) -> None:
    ran = run("export", tmp_path, "--to", tmp_path / "to")
    assert ran.exit_code == 1
    assert "holds no model" in ran.stderr
    assert not (tmp_path / "to").exists()
