"""`python -m chaos.plants NAME -m agentkeeper ...`: the command line of a wrong build."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence

from chaos.plants.patches import PATCHES


def main(arguments: Sequence[str]) -> None:
    """Plant what is named, then run a module as `python -m` does."""
    match arguments:
        case [name, "-m", module, *rest] if name in PATCHES:
            PATCHES[name]()
            sys.argv = [module, *rest]
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        case _:
            known = ", ".join(PATCHES)
            sys.exit(f"usage: python -m chaos.plants NAME -m MODULE ...; names are {known}")


main(sys.argv[1:])
