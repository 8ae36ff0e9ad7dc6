"""Tests over real daemon processes and real gRPC."""

import pytest

for _helper in (
    "conftest",
    "faces",
    "ledger",
    "links",
    "load",
    "mixed_load",
    "story",
    "waiting",
    "wire",
):
    pytest.register_assert_rewrite(f"{__name__}.{_helper}")
