"""Makes the sync face of the SDK from the async one.

    python tools/make_sync.py [--check]

Every module of agentkeeper/client/aio but `concurrency` becomes one of agentkeeper/client/sync,
word for word but for `async` and `await` and the classes there whose names begin with Async. What
has lost its source is removed. `--check` writes nothing and fails if that would change something.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import unasync

CLIENT = Path(__file__).parents[1] / "agentkeeper" / "client"
BY_HAND = {"__init__.py", "concurrency.py"}
NOTE = "# Made from agentkeeper/client/aio/{name} by tools/make_sync.py: edit that one.\n"
CLASS = re.compile(r"^class (Async\w+)", re.MULTILINE)


def made() -> dict[Path, str]:
    """The sync modules as they ought to be, by path."""
    classes = {name for path in CLIENT.glob("aio/*.py") for name in CLASS.findall(path.read_text())}
    replacements = {name: name.removeprefix("Async") for name in classes} | {"aio": "sync"}
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


def left_over(made: dict[Path, str]) -> list[Path]:
    """The sync modules that nothing is made into any more."""
    present = [path for path in CLIENT.glob("sync/*.py") if path.name not in BY_HAND]
    return sorted(set(present) - made.keys())


def main() -> None:
    """Write, or check."""
    wanted = made()
    stale = {
        path: text for path, text in wanted.items() if not path.exists() or path.read_text() != text
    }
    leftovers = left_over(wanted)
    if "--check" in sys.argv[1:]:
        if stale or leftovers:
            names = ", ".join(path.name for path in [*stale, *leftovers])
            sys.exit(f"out of date, run `make generate`: {names}")
        return
    for path, text in stale.items():
        path.write_text(text)
    for path in leftovers:
        path.unlink()


if __name__ == "__main__":
    main()
