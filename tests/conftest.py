"""Lets every test use the simulated disk and network."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent / "simulation"))
