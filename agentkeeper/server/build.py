"""What this build calls itself."""

from importlib.metadata import version
from typing import Final

BUILD: Final = version("agentkeeper")
