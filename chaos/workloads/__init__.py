"""What the clients of a run do: each workload is what one of its actors does, for ever.

An actor gets a `Site`. Its calls are recorded, and their errors swallowed, by `site.call`; it rests
by `site.pace` and `site.rest`; all of them raise Stopping when the process is to end, which the
actor lets pass. Whatever else it raises is recorded as broken, and it is begun anew.

What is held or registered at that time stays as it is: leases and agents end with their ttl, the
last policies and all tasks stay.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from chaos.clients.site import Site
from chaos.workloads.elections import elect
from chaos.workloads.leases import contend
from chaos.workloads.policies import flip
from chaos.workloads.registry import come_and_go
from chaos.workloads.tasks import create_or_claim
from chaos.workloads.watches import watch

Act = Callable[[Site], Awaitable[None]]

WORKLOADS: dict[str, Act] = {
    "leases": contend,
    "elections": elect,
    "tasks": create_or_claim,
    "registry": come_and_go,
    "policies": flip,
    "watches": watch,
}
LAST = frozenset({"watches"})
"""Workloads that end after the others of their process, to see all that these have done."""
MIX = {"leases": 8, "elections": 4, "tasks": 6, "registry": 4, "policies": 4, "watches": 1}
"""Actors of a process in a mix of all."""
LEAST = {"tasks": 2}
"""Workloads that need more than one actor in a process: some create what the others claim."""


def actors_of(workloads: Mapping[str, int]) -> dict[str, int]:
    """Return how many actors of each workload there are; "mix" is so many times the mix of all.

    Raises ValueError for a workload that there is not, or for too few actors of one.
    """
    actors = {name: count for name, count in workloads.items() if name != "mix"}
    for name, count in MIX.items():
        if workloads.get("mix", 0):
            actors[name] = actors.get(name, 0) + workloads["mix"] * count
    for name, count in actors.items():
        if name not in WORKLOADS:
            raise ValueError(f"there is no workload {name!r}, only {', '.join(WORKLOADS)} and mix")
        if count < LEAST.get(name, 1):
            raise ValueError(f"{name} needs {LEAST.get(name, 1)} actors at least")
    return actors
