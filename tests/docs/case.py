"""Registers what each named snippet is given.

A case is a generator: it yields the names that the reader would have defined, then looks.
"""

from __future__ import annotations

CASES = {}
AS_PROGRAMS = {}


def case(name, *, program=False):
    """Register a case under the name of its snippet."""

    def keep(function):
        assert name not in CASES
        assert name not in AS_PROGRAMS
        (AS_PROGRAMS if program else CASES)[name] = function
        return function

    return keep
