"""Which model a replica uses, and that one that can't be used keeps no replica from its start."""

import importlib
from pathlib import Path

import pytest
import structlog

from agentkeeper.search.model import locate
from agentkeeper.search.model.locate import Located, ModelFiles
from agentkeeper.server import node
from agentkeeper.server.config import Settings

MODEL = ModelFiles(Path("m"), "setting", "onnxruntime", Path("m", "w"))


def test_libraries_that_can_not_be_imported_leave_it_with_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(node, "locate", lambda *_: Located(MODEL, ()))
    assert node._find_model(Settings()) == MODEL

    def broken(name: str) -> None:
        raise AttributeError(f"{name}: no vecdot")

    monkeypatch.setattr(importlib, "import_module", broken)
    with structlog.testing.capture_logs() as logs:
        assert node._find_model(Settings()) is None
    [line] = logs
    assert line["log_level"] == "warning"
    assert "no vecdot" in line["error"]


def test_without_a_model_it_says_so_unless_none_is_wanted(tmp_path: Path) -> None:
    for setting, warnings in ((str(tmp_path), 1), (locate.NONE, 0)):
        with structlog.testing.capture_logs() as logs:
            assert node._find_model(Settings(model=setting)) is None
        assert len(logs) == warnings
