"""How many examples the property tests try: few by default, many under a thorough profile."""

import os

from hypothesis import HealthCheck, settings

THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"


def bounded(examples):
    """Settings for a property that takes milliseconds per example."""
    return settings(
        max_examples=examples * (50 if THOROUGH else 1),
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
