"""The real model, in both of its runtimes, loaded once."""

import subprocess
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

from asking import Asker, filled

from agentkeeper.search.model.embedder import load
from agentkeeper.search.model.locate import ModelFiles, locate

EXPORT = """
import sys
from pathlib import Path
from agentkeeper.search.model.export import export
from agentkeeper.search.model.locate import locate
export(locate().model, Path(sys.argv[1]))
"""


@pytest.fixture(scope="session", params=["sentence-transformers", "onnxruntime"])
def by_meaning(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Asker:
    """The corpus with the vectors of a real model."""
    files = locate("", None).model
    assert files is not None
    if request.param == "onnxruntime":
        files = exported(tmp_path_factory.mktemp("int8"))
    embedder = load(files)
    known: dict[str, bytes] = {}

    def embed(text: str) -> bytes:
        if text not in known:
            known[text] = embedder.embed(text).astype("<f4").tobytes()
        return known[text]

    return Asker(filled(embed, embedder.dimension), embed)


@pytest.fixture(scope="session")
def by_words() -> Asker:
    """The corpus without any model."""
    return Asker(filled(None), None)


def exported(directory: Path) -> ModelFiles:
    """The model as int8, made by a process of its own: it needs half a gigabyte for a minute."""
    subprocess.run([sys.executable, "-c", EXPORT, directory], check=True, timeout=500)
    files = locate(str(directory), None).model
    assert files is not None
    return files
