"""The installed `agentkeeper`, as a process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from .waiting import eventually

PROGRAM = str(Path(sys.executable).with_name("agentkeeper"))
PATIENCE_S = 60.0


class Run:
    """A run under way. Its output is read as it comes."""

    def __init__(self, *args: str, env: dict[str, str], **keywords: Any) -> None:
        self.process = subprocess.Popen(
            [PROGRAM, *args],
            env={**os.environ, **env},
            stdin=keywords.pop("stdin", subprocess.DEVNULL),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **keywords,
        )
        self.lines: list[str] = []
        self.complaints = ""
        self._readers = [
            threading.Thread(target=self._read_output, daemon=True),
            threading.Thread(target=self._read_complaints, daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def _read_output(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def _read_complaints(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.complaints += line

    def line(self, text: str) -> str:
        """Wait for a line with `text` in it, and return it."""
        return str(eventually(lambda: self._first(text), f"{text!r} in {self.lines}"))

    def _first(self, text: str) -> str | None:
        return next((line for line in list(self.lines) if text in line), None)

    def complaint(self, text: str) -> None:
        """Wait until `text` is on the standard error."""
        eventually(lambda: text in self.complaints, f"{text!r} on the standard error")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to this process only."""
        self.process.send_signal(number)

    def end(self) -> int:
        """Wait for the end and return the exit code."""
        code = self.process.wait(PATIENCE_S)
        for reader in self._readers:
            reader.join(PATIENCE_S)
        return code


class Shell:
    """Runs `agentkeeper` against one cluster."""

    def __init__(self, endpoints: list[str]) -> None:
        self.env = {"AGENTKEEPER_ENDPOINTS": ",".join(endpoints), "AGENTKEEPER_TIMEOUT": "20"}
        self._runs: list[Run] = []

    def __call__(self, *args: str, code: int = 0, text: str = "", **env: str) -> str:
        """Run to the end, expect an exit code, and return what was printed, errors included."""
        return self._run(args, code, subprocess.STDOUT, input=text, env=env)

    def data(self, *args: str, code: int = 0, **keywords: str) -> Any:
        """Run with JSON output and return it; what is told beside it is passed over."""
        text = keywords.pop("text", "")
        arguments = (*args, "-o", "json")
        return json.loads(self._run(arguments, code, subprocess.DEVNULL, input=text, env=keywords))

    def _run(
        self, args: tuple[str, ...], code: int, stderr: int, *, input: str, env: dict[str, str]
    ) -> str:
        done = subprocess.run(
            [PROGRAM, *args],
            env={**os.environ, **self.env, **env},
            input=input,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == code, f"{args}: {done.returncode}: {done.stdout}"
        return done.stdout

    def start(self, *args: str, **keywords: Any) -> Run:
        """Begin a run."""
        run = Run(*args, env={**self.env, **keywords.pop("env", {})}, **keywords)
        self._runs.append(run)
        return run

    def close(self) -> None:
        """Kill what still runs."""
        for run in self._runs:
            if run.process.poll() is None:
                run.process.kill()
                run.process.wait()
