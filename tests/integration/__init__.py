"""Tests over real daemon processes and real gRPC."""

import pytest

for _helper in ("conftest", "load", "story", "waiting", "wire"):
    pytest.register_assert_rewrite(f"{__name__}.{_helper}")
