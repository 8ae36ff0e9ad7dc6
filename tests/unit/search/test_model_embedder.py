"""Models that are loaded, by either runtime, and files that are no models."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from agentkeeper.search.model import export as exporting
from agentkeeper.search.model.embedder import Embedder, ModelError, load
from agentkeeper.search.model.export import Exported, export
from agentkeeper.search.model.locate import INT8, ModelFiles, locate, weights_in
from agentkeeper.search.model.record import WEIGHTS_SHA256, write_record
from tests.unit.search.tiny_model import WINDOW, make_tiny_model

TEXTS = ("a", "someone who reads bills", "sql_runner: psql, backup", "", "合同", "x" * 500)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def small(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Exported]:
    """The tiny model, exported."""
    target = tmp_path_factory.mktemp("exported")
    return target, export(of(tiny), target)


def of(directory: Path) -> ModelFiles:
    weights = weights_in(directory)
    assert weights is not None
    return ModelFiles(directory, "setting", "sentence-transformers", weights)


def exported(directory: Path) -> ModelFiles:
    return ModelFiles(directory, "setting", "onnxruntime", directory / INT8)


def test_a_vector_is_of_the_models_dimension_and_of_length_one(
    tiny: Path, small: tuple[Path, Exported]
) -> None:
    for embedder in (load(of(tiny)), load(exported(small[0]))):
        assert embedder.dimension == 32
        for text in TEXTS:
            vector = embedder.embed(text)
            assert (vector.dtype, vector.shape) == (np.float32, (32,))
            assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
            assert np.array_equal(vector, embedder.embed(text))


def test_an_export_says_what_the_model_says(tiny: Path, small: tuple[Path, Exported]) -> None:
    target, told = small
    original, copy = load(of(tiny)), load(exported(target))
    cosines = [float(original.embed(text) @ copy.embed(text)) for text in TEXTS]
    assert min(cosines) > 0.97
    assert 0.95 < told.least_agreement <= told.mean_agreement <= 1
    assert sorted(os.listdir(target)) == ["agentkeeper-model.json", INT8]
    assert locate(str(target)).model == exported(target)


def test_a_model_that_runs_leaves_nothing_behind(
    small: tuple[Path, Exported], tmp_path: Path
) -> None:
    """Neither a cache nor an identity, by which a runtime would tell others of its use."""
    code = (
        "from agentkeeper.search.model import embedder, locate;"
        f"embedder.load(locate.locate({str(small[0])!r}).model).embed('text')"
    )
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env=kept | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout + ran.stderr == ""
    assert list(tmp_path.iterdir()) == []


def test_what_is_beyond_the_window_is_left_out(tiny: Path, small: tuple[Path, Exported]) -> None:
    for embedder in (load(of(tiny)), load(exported(small[0]))):
        whole = "a b c d e f g h i j " * 3
        within = whole[: 2 * (WINDOW - 2)]
        assert np.array_equal(embedder.embed(whole), embedder.embed(within))
        assert not np.allclose(embedder.embed(whole), embedder.embed(whole[:20]))


@pytest.mark.parametrize("pooling", ["cls_token", "mean_tokens"])
def test_an_export_pools_as_its_model_does(pooling: str, tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "model", pooling=pooling)
    told = export(of(model), model)  # beside the model itself, which stays as it is
    assert told.mean_agreement > exporting.MEAN_AGREEMENT_LEAST
    assert load(of(model)).dimension == 32


def test_an_export_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "model", pooling="max_tokens")
    with pytest.raises(ModelError, match="pools by max"):
        export(of(model), tmp_path / "target")
    assert os.listdir(tmp_path / "target") == []


def test_an_export_that_disagrees_is_not_written(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "MEAN_AGREEMENT_LEAST", 1.1)
    (tmp_path / INT8).write_bytes(b"the one before")
    with pytest.raises(ModelError, match="does not agree"):
        export(of(tiny), tmp_path)
    assert (tmp_path / INT8).read_bytes() == b"the one before"
    assert os.listdir(tmp_path) == [INT8]


def test_an_export_cannot_be_exported(small: tuple[Path, Exported], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="exported already"):
        export(exported(small[0]), tmp_path)


def test_a_models_id_is_that_of_its_content(
    tiny: Path, small: tuple[Path, Exported], tmp_path: Path
) -> None:
    known = load(of(tiny)).model_id
    copy = shutil.copytree(tiny, tmp_path / "copy")
    (copy / "README.md").write_text("of no consequence")
    assert load(of(copy)).model_id == known
    changed = copy / "sentence_bert_config.json"
    changed.write_text(changed.read_text().replace("24", "23"))
    ids = {known, load(of(copy)).model_id, load(exported(small[0])).model_id}
    (copy / "1_Pooling" / "model.safetensors").write_bytes(b"weights of another part")
    ids.add(load(of(copy)).model_id)
    ids.add(load(of(make_tiny_model(tmp_path / "other", seed=8))).model_id)
    assert len(ids) == 5


def test_a_digest_that_is_known_must_be_right(
    tiny: Path, small: tuple[Path, Exported], tmp_path: Path
) -> None:
    found_by_name = ModelFiles(tiny, "package", "sentence-transformers", of(tiny).weights)
    with pytest.raises(ModelError, match=f"not {WEIGHTS_SHA256[:8]}"):
        load(found_by_name)
    by_another = ModelFiles(small[0], "package", "onnxruntime", small[0] / INT8)
    with pytest.raises(ModelError, match=f"not {WEIGHTS_SHA256[:8]}"):
        load(by_another)

    copy = shutil.copytree(tiny, tmp_path / "copy")
    write_record(copy, {"sha256": {"tokenizer.json": "0" * 64}})
    with pytest.raises(ModelError, match=r"tokenizer\.json is damaged.*install the model anew"):
        load(of(copy))

    damaged = shutil.copytree(small[0], tmp_path / "damaged")
    content = bytearray((damaged / INT8).read_bytes())
    content[len(content) // 2] ^= 1
    (damaged / INT8).write_bytes(content)
    with pytest.raises(ModelError, match="is damaged"):
        load(exported(damaged))


def test_code_that_comes_with_a_model_is_never_run(tiny: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(tiny, tmp_path / "copy")
    marker = tmp_path / "was run"
    (copy / "own.py").write_text(f"open({str(marker)!r}, 'w')\nclass Own: ...\n")
    modules = json.loads((copy / "modules.json").read_text())
    modules[1]["type"] = "own.Own"
    (copy / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(
        ModelError, match=r"needs code that is not sentence-transformers': own\.Own"
    ):
        load(of(copy))
    assert not marker.exists()


def test_pickled_weights_are_refused(tiny: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(tiny, tmp_path / "copy")
    (copy / "pytorch_model.bin").write_bytes(b"beside others, which are taken")
    assert load(of(copy)).dimension == 32
    (copy / "1_Pooling" / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(ModelError, match="1_Pooling: has pickled weights"):
        load(of(copy))


def test_parts_outside_the_model_are_refused(tiny: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(tiny, tmp_path / "copy")
    modules = json.loads((copy / "modules.json").read_text())
    modules[1]["path"] = str(tiny / "1_Pooling")
    (copy / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ModelError, match="points elsewhere"):
        load(ModelFiles(copy, "setting", "sentence-transformers", copy / "model.safetensors"))


def test_files_that_are_no_models_are_refused(tiny: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(tiny, tmp_path / "copy")
    (copy / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ModelError, match=str(copy)):
        load(of(copy))
    (copy / INT8).write_bytes(b"no network")
    with pytest.raises(ModelError, match=str(copy)):
        load(exported(copy))
    with pytest.raises(ModelError, match="No such file"):
        load(exported(tmp_path))


def test_a_network_that_others_exported_is_refused(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    given_back = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])], "g", [given], [given_back]
    )
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    network.ir_version = 8
    onnx.save(network, tmp_path / INT8)
    with pytest.raises(ModelError, match="agentkeeper model export"):
        load(exported(tmp_path))


@pytest.fixture(scope="module")
def real() -> ModelFiles:
    model = locate().model
    assert model is not None
    assert model.source == "package"
    return model


def test_the_real_model_knows_what_is_near_in_both_runtimes(
    real: ModelFiles, tmp_path: Path
) -> None:
    told = export(real, tmp_path)
    assert told.mean_agreement > 0.985
    assert told.size_bytes < 30_000_000
    for embedder in (load(real), load(exported(tmp_path))):
        assert embedder.dimension == 384
        assert _nearest(embedder, "someone who can make sense of a crumpled till receipt") == 0
        assert _nearest(embedder, "why has the nightly build become slow") == 1


def _nearest(embedder: Embedder, query: str) -> int:
    agents = (
        "expense ocr. Reads photographs of bills and slips, and files them as bookings.",
        "pipeline doctor. Finds the cause of failing and slow continuous integration jobs.",
        "travel desk. Books flights and hotels.",
    )
    vector = embedder.embed(query)
    return int(np.argmax([embedder.embed(agent) @ vector for agent in agents]))
