"""Scenarios: short files in YAML that say what is done to a cluster under which load."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from chaos.faults import CATALOGUE, Fault
from chaos.faults.base import WHO, Span

FOLDER = Path(__file__).with_name("scenarios")


class Malformed(Exception):  # noqa: N818
    """A scenario's file can't be used; the message names the file, the place and what is wrong."""


@dataclass(frozen=True)
class Planned:
    """One line of a scenario's faults."""

    name: str
    parameters: Mapping[str, Any]
    weight: float = 1.0

    def make(self) -> Fault:
        """A new one of it."""
        return CATALOGUE[self.name](**self.parameters)

    @property
    def alone(self) -> bool:
        """Whether no other fault may be under way with it."""
        return CATALOGUE[self.name].alone


@dataclass(frozen=True)
class Scenario:
    """What is done, under which load, and what counts as a run."""

    name: str
    about: str
    faults: tuple[Planned, ...]
    workloads: Mapping[str, int]
    """How many actors of each workload each client process has."""
    clients: int = 3
    """Client processes."""
    pace_ms: float = 20.0
    """How long an actor rests between two calls, on average."""
    timeout_s: float = 45.0
    """Of a call: longer than any outage the scenario causes, so that none may fail."""
    quiet_s: Span = (2.0, 4.0)
    """How long all is well between two faults."""
    pairs: float = 0.0
    """The share of faults which another one joins."""
    settings: tuple[str, ...] = ()
    """Further words for the command line of replicas that the run starts."""
    floor_per_minute: int = 3000
    """Fewer operations a minute than this prove nothing: the run is void."""
    may_fail: bool = False
    """Whether calls may fail, because outages last longer than `timeout_s`."""

    @property
    def needs(self) -> frozenset[str]:
        """The means without which it can't be run."""
        return frozenset().union(*(CATALOGUE[planned.name].needs for planned in self.faults))

    @property
    def backend(self) -> str:
        """The backend that has these means, where none is asked for."""
        return "namespaces" if self.needs & {"network", "links"} else "processes"

    def draw(self, rng: random.Random) -> Iterator[list[Planned]]:
        """What is done one after the other, for ever: one fault, or two that overlap.

        Every kind comes once before any comes again, as often as its weight says.
        """
        turn: list[Planned] = []
        while True:
            if not turn:
                turn = [p for p in self.faults for _ in range(max(1, round(p.weight)))]
                rng.shuffle(turn)
            first = turn.pop()
            others = [p for p in self.faults if not p.alone]
            if first.alone or not others or rng.random() >= self.pairs:
                yield [first]
            else:
                yield [first, rng.choice(others)]


def load(name: str) -> Scenario:
    """Load a scenario of the project by its name, or one from a file. Raises Malformed."""
    path = FOLDER / f"{name}.yaml"
    if not path.exists():
        path = Path(name)
    try:
        said = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        known = ", ".join(names())
        raise Malformed(f"no scenario {name!r}: {error}; there are: {known}") from None
    try:
        return parse(path.stem, said)
    except Malformed as error:
        raise Malformed(f"{path}: {error}") from None


def names() -> list[str]:
    """The scenarios that come with the project."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def parse(name: str, said: Any) -> Scenario:
    """Read a scenario from what its file holds. Raises Malformed."""
    if not isinstance(said, dict):
        raise Malformed("it is not a mapping")
    known = {f.name for f in dataclasses.fields(Scenario)} - {"name"}
    if unknown := said.keys() - known:
        raise Malformed(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(sorted(known))}")
    for needed in ("about", "faults", "workloads"):
        if needed not in said:
            raise Malformed(f"{needed} is missing")
    if not isinstance(said["faults"], list) or not isinstance(said["workloads"], dict):
        raise Malformed("faults must be a list, workloads a mapping of names to numbers of actors")
    faults = tuple(_planned(i, line) for i, line in enumerate(said["faults"]))
    rest = {key: value for key, value in said.items() if key != "faults"}
    rest = {key: tuple(v) if isinstance(v, list) else v for key, v in rest.items()}
    return Scenario(name=name, faults=faults, **rest)


def _planned(i: int, line: Any) -> Planned:
    if not isinstance(line, dict) or "fault" not in line:
        raise Malformed(f"faults[{i}] must be a mapping with `fault`")
    parameters: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in line.items()
    }
    kind, weight = parameters.pop("fault"), float(parameters.pop("weight", 1))
    if kind not in CATALOGUE:
        raise Malformed(f"faults[{i}]: no fault {kind!r}; there are: {', '.join(CATALOGUE)}")
    taken = {f.name for f in dataclasses.fields(CATALOGUE[kind]) if f.init}
    if unknown := parameters.keys() - taken:
        raise Malformed(f"faults[{i}]: {kind} has no {', '.join(unknown)}, but {', '.join(taken)}")
    if parameters.get("who", WHO[0]) not in WHO:
        raise Malformed(f"faults[{i}]: who must be one of {', '.join(WHO)}")
    spans = [k for k, hint in get_type_hints(CATALOGUE[kind]).items() if hint == Span]
    for key in spans:
        value = parameters.get(key)
        if value is not None and not (isinstance(value, tuple) and len(value) == 2):
            raise Malformed(f"faults[{i}]: {key} must be [from, to]")
    return Planned(kind, parameters, weight)
