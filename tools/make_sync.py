"""Makes the sync face of the SDK from the async one.

    python tools/make_sync.py [--check]

Every module of agentkeeper/client/aio but `concurrency` becomes one of agentkeeper/client/sync,
word for word but for `async` and `await` and names that begin with Async. `--check` writes nothing
and fails if that would change something.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import unasync

CLIENT = Path(__file__).parents[1] / "agentkeeper" / "client"
BY_HAND = {"__init__.py", "concurrency.py"}
NOTE = "# Made from agentkeeper/client/aio/{name} by tools/make_sync.py: edit that one.\n"
CLASSES = (
    "AgentHandle",
    "AgentKeeperClient",
    "Background",
    "Begun",
    "EventStream",
    "Flag",
    "LeaseHandle",
    "Leadership",
    "LossSignal",
    "Operations",
    "Subscription",
    "TaskHandle",
    "Worker",
)


def made() -> dict[Path, str]:
    """The sync modules as they ought to be, by path."""
    replacements = {f"Async{name}": name for name in CLASSES} | {"aio": "sync"}
    with tempfile.TemporaryDirectory() as scratch:
        rule = unasync.Rule(f"{CLIENT}/aio/", f"{scratch}/", replacements)
        sources = [path for path in sorted(CLIENT.glob("aio/*.py")) if path.name not in BY_HAND]
        unasync.unasync_files([str(path) for path in sources], [rule])
        for path in sources:
            target = Path(scratch) / path.name
            target.write_text(NOTE.format(name=path.name) + target.read_text())
        config = f"--config={CLIENT.parents[1] / 'pyproject.toml'}"
        ruff = [sys.executable, "-m", "ruff"]
        sort = [*ruff, "check", "--quiet", config, "--select=I", "--fix", scratch]
        subprocess.run(sort, check=True)
        subprocess.run([*ruff, "format", "--quiet", config, scratch], check=True)
        return {
            CLIENT / "sync" / path.name: (Path(scratch) / path.name).read_text() for path in sources
        }


def main() -> None:
    """Write, or check."""
    stale = {
        path: text for path, text in made().items() if not path.exists() or path.read_text() != text
    }
    if "--check" in sys.argv[1:]:
        if stale:
            sys.exit(f"out of date, run `make generate`: {', '.join(p.name for p in stale)}")
        return
    for path, text in stale.items():
        path.write_text(text)


if __name__ == "__main__":
    main()
