"""What surrounds a snippet while it runs: a daemon, the reader's own functions, what it printed."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from agentkeeper import AgentKeeperClient, TaskStatus

from . import redirect
from .snippets import ROOT, Snippet

PATIENCE_S = 30.0
SITE = Path(__file__).with_name("site")

Case = Callable[["World"], Iterator[dict[str, Any]]]


class World:
    """A snippet's surroundings. A case may use `client`, which is not the snippet's."""

    def __init__(self, endpoint: str, folder: Path, monkeypatch: Any) -> None:
        self.endpoint = endpoint
        self.folder = folder
        self.monkeypatch = monkeypatch
        self.printed: list[str] = []
        self.names: dict[str, Any] = {}
        self.files = ExitStack()

    @property
    def client(self) -> Any:
        """A client of one's own, of the daemon that the snippet talks to."""
        if "client" not in self.__dict__:
            made = AgentKeeperClient(endpoints=[self.endpoint])
            self.__dict__["client"] = self.files.enter_context(made)
        return self.__dict__["client"]

    def agent(self, name: str = "other", **options: Any) -> Any:
        """An agent of one's own, for as long as the snippet runs."""
        return self.files.enter_context(self.client.register(name, "of the test", "1", **options))

    def print(self, *things: Any) -> None:
        """Takes the place of the built-in."""
        self.printed.append(" ".join(map(str, things)))

    def eventually(self, look: Callable[[], Any], what: str) -> Any:
        """Look until something true is seen, and return it."""
        deadline = time.monotonic() + PATIENCE_S
        while not (seen := look()):
            assert time.monotonic() < deadline, f"never seen: {what}; printed: {self.printed}"
            time.sleep(0.01)
        return seen

    def printed_line(self, part: str) -> str:
        """Wait until a line with `part` in it is printed."""

        def look() -> str | None:
            return next((line for line in list(self.printed) if part in line), None)

        return self.eventually(look, f"a line with {part!r}")

    def tidy(self) -> None:
        """Empty the queue, so that no later worker gets what this snippet has left there."""
        left = self.client.list_tasks(TaskStatus.PENDING)
        tools = sorted({tool for task in left for tool in task.required_tools})
        with self.client.register("tidy", "of the test", "1", tools=tools) as agent:
            for _ in left:
                task = self.client.claim_task(agent.agent_id, timeout=PATIENCE_S)
                self.client.complete_task(task.id, agent.agent_id)

    def run(self, snippet: Snippet, case: Case | None) -> None:
        """Run a snippet here, with what its case provides, and then the case's checks."""
        steps = case(self) if case else iter([{}])
        made: list[Any] = []
        self.names.update({"__name__": "__main__", "print": self.print, **next(steps)})
        originals = redirect.redirected(self.endpoint, made)
        try:
            exec(snippet.compiled(), self.names)
        finally:
            redirect.restore(originals)
            for client in made:
                if isinstance(client, AgentKeeperClient):
                    client.close()
        next(steps, None)

    def run_as_program(self, snippet: Snippet, case: Case) -> None:
        """The same in an interpreter of its own, which the case can send signals to."""
        path = self.folder / "snippet.py"
        path.write_text(snippet.code)
        program = subprocess.Popen(
            [sys.executable, "-u", str(path)],
            env={"PYTHONPATH": f"{SITE}:{ROOT}", "SNIPPET_ENDPOINT": self.endpoint},
            cwd=self.folder,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            reading = threading.Thread(target=lambda: [self.print(line) for line in program.stdout])
            reading.start()
            steps = case(self)
            next(steps)
            program.send_signal(signal.SIGTERM) if self.names.get("stop") else None
            assert program.wait(PATIENCE_S) == 0
            reading.join()
            next(steps, None)
        finally:
            program.kill()
            program.wait()
            program.stdout.close()
