"""One run: start, work, hurt, heal, wait, read what is there, check, report."""

from __future__ import annotations

import random
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from docker.errors import DockerException
from rich.console import Console

from agentkeeper import AgentKeeperError
from chaos import history as histories
from chaos import overload
from chaos.backends import Backend, Setup, Unsupported, missing
from chaos.backends.actions import ActionFailed
from chaos.backends.attached import AttachedBackend
from chaos.backends.compose import ComposeBackend
from chaos.backends.namespaces import NamespaceBackend
from chaos.backends.processes import LocalBackend
from chaos.checkers import check_all
from chaos.clients.fleet import Fleet
from chaos.clients.store import Store
from chaos.faults import World
from chaos.faults.base import NotRecovered
from chaos.final import read_final
from chaos.history import Final
from chaos.report import result
from chaos.report.aggregate import aggregate, measure
from chaos.report.facts import Aggregate, Conclusion, FaultRecord, Machine, RunFacts, Sample
from chaos.report.page import write
from chaos.report.terminal import Progress, print_summary
from chaos.sampler import Sampler
from chaos.scenario import Scenario
from chaos.schedule import Schedule

WARM_UP_OPERATIONS = 100


@dataclass(frozen=True)
class Plan:
    """What is asked for."""

    scenario: Scenario
    backend: str
    replicas: int
    minutes: float
    seed: int
    folder: Path
    keep: bool = False
    project: str | None = None
    endpoints: tuple[str, ...] = ()
    actions: Path | None = None
    python: str = ""
    plant: str = ""
    """The wrong build that is to be caught (`chaos.plants`), if it is one."""

    @property
    def command(self) -> str:
        """The command that does it again."""
        if self.plant:
            return f"python -m chaos plants {self.plant}"
        words = ["python -m chaos run", "--scenario", self.scenario.name]
        words += ["--backend", self.backend, "--replicas", str(self.replicas)]
        words += ["--minutes", f"{self.minutes:g}", "--seed", str(self.seed)]
        return " ".join(words)

    @property
    def setup(self) -> Setup:
        """What a backend is to start."""
        return Setup(
            replicas=self.replicas,
            folder=self.folder / "cluster",
            settings=self.scenario.settings,
            python=self.python,
            needs=self.scenario.needs,
        )


def _compose(plan: Plan) -> Backend:
    return ComposeBackend(plan.setup, project=plan.project)


def _attached(plan: Plan) -> Backend:
    if not plan.endpoints and plan.actions is None:
        raise Unsupported("--backend attached needs --endpoints, or --actions with a file")
    return AttachedBackend(plan.endpoints, plan.actions)


BACKENDS: dict[str, Callable[[Plan], Backend]] = {
    "processes": lambda plan: LocalBackend(plan.setup),
    "namespaces": lambda plan: NamespaceBackend(plan.setup),
    "compose": _compose,
    "attached": _attached,
}


class Run:
    """Does what a plan asks for."""

    def __init__(self, plan: Plan, console: Console) -> None:
        """Raises Unsupported where the backend lacks what the scenario needs."""
        self._plan = plan
        self._console = console
        self._rng = random.Random(plan.seed)
        plan.folder.mkdir(parents=True, exist_ok=True)
        self._backend = BACKENDS[plan.backend](plan)
        if lacking := missing(self._backend, plan.scenario.needs):
            name = plan.scenario.name
            raise Unsupported(f"{name} needs {', '.join(lacking)}, which {plan.backend} has not")
        self._problems: list[str] = []
        self._progress: Progress | None = None

    def do(self) -> RunFacts:
        """Do it all; returns what there is to report, which is printed and written by then.

        What can't be started raises as the backend does. An interrupted run is healed, and ends
        without a report.
        """
        scenario, began_at = self._plan.scenario, datetime.now().astimezone()
        clients = self._plan.folder / "clients"
        with self._backend, Store() as store:
            fleet = Fleet(
                clients,
                self._backend.endpoints,
                store.path,
                scenario.workloads,
                clients=scenario.clients,
                seed=self._plan.seed,
                timeout_s=scenario.timeout_s,
                pace_s=scenario.pace_ms / 1000,
            )
            world = World(self._backend, fleet, self._rng)
            with fleet, Sampler(self._backend) as sampler:
                start_ns = time.monotonic_ns()
                records, final = self._hurt(world, sampler)
            end_ns = time.monotonic_ns()
            version = self._version()
        self._say("checking")
        history = histories.read(clients)
        history.writes, history.client_faults, history.final = store.writes, fleet.faults, final
        measure(records, history)
        operations = aggregate(history, start_ns)
        overloads = overload.effects(records, history, sampler.samples, clients)
        facts = RunFacts(
            scenario=scenario.name,
            about=scenario.about,
            backend=self._plan.backend,
            replicas=self._backend.replicas,
            seed=self._plan.seed,
            command=self._plan.command,
            version=version,
            commit=_commit(),
            machine=Machine.here(),
            began_at=began_at,
            start_ns=start_ns,
            end_ns=end_ns,
            operations=operations,
            faults=records,
            samples=sampler.samples,
            verdicts=[*check_all(history), *overload.check(overloads)],
            problems=self._problems,
            void=self._void(operations),
        )
        self._report(facts)
        overload.tell(overloads, self._console, self._plan.folder)
        return facts

    def _hurt(self, world: World, sampler: Sampler) -> tuple[list[FaultRecord], Final | None]:
        """Let clients work, hurt the cluster meanwhile, and read what is there in the end."""
        minutes, fleet = self._plan.minutes, world.fleet
        schedule = Schedule(world, self._plan.scenario, self._say)

        def newest() -> Sample | None:
            return sampler.samples[-1] if sampler.samples else None

        total_s = minutes * 60
        final: Final | None = None
        with Progress(self._console, total_s, fleet.counts, newest) as self._progress:
            try:
                world.await_ready()
                fleet.start()
                warm = WARM_UP_OPERATIONS
                world.await_(lambda: fleet.counts().answered > warm, "clients at work")
                schedule.run(time.monotonic() + total_s)
            except NotRecovered as error:
                self._problems.append(str(error))
            except (Unsupported, ActionFailed, DockerException) as error:
                self._problems.append(f"what was to be done could not be: {error}")
            self._say("clients end")
            for client, why in fleet.stop().items():
                self._problems.append(f"client {client} died: {why}")
            self._say("reading what is there")
            try:
                final = read_final(world)
            except (NotRecovered, AgentKeeperError) as error:
                self._problems.append(f"the final state can't be read: {error}")
        return schedule.records, final

    def _void(self, operations: Aggregate) -> str:
        """Why the run proves nothing, if it does not; notes calls that may not fail and did."""
        if operations.failed and not self._plan.scenario.may_fail:
            self._problems.append(f"{operations.failed} calls failed, and none may")
        floor = round(self._plan.scenario.floor_per_minute * self._plan.minutes)
        if operations.total < floor:
            return f"{operations.total:,} operations, and fewer than {floor:,} prove nothing"
        return ""

    def _report(self, facts: RunFacts) -> None:
        page = self._plan.folder / "report.html"
        write(facts, page)
        result.write(facts, self._plan.folder)
        print_summary(facts, self._console, page)
        if facts.conclusion is Conclusion.HELD and not self._plan.keep:
            for folder in ("clients", "cluster"):
                shutil.rmtree(self._plan.folder / folder, ignore_errors=True)

    def _version(self) -> str:
        known = [status for status in self._backend.statuses().values() if status]
        return ", ".join(sorted({status.version for status in known}))

    def _say(self, words: str) -> None:
        if self._progress is not None:
            self._progress.say(words)


def _commit() -> str:
    """The commit of this source, where it is one."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
