"""The corrections reach into the library's private parts: they fit these very sources only."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pysyncobj

WRITTEN_FOR = "04d423e8bb294a776742c74d8a0c462e653c55485a7351f6f1dec6e722be5175"


def test_the_library_is_the_one_this_was_written_for() -> None:
    digest = hashlib.sha256()
    for source in sorted(Path(pysyncobj.__file__).parent.glob("*.py")):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    assert digest.hexdigest() == WRITTEN_FOR, (
        "pysyncobj's sources have changed: compare them with the corrected rules in "
        "agentkeeper/consensus, run tests/simulation, then set the new hash here"
    )
