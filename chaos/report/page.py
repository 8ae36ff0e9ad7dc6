"""The report as one HTML page that needs nothing else: no script, no font, no network."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from chaos.report import words
from chaos.report.aggregate import OUTCOMES
from chaos.report.facts import RunFacts, recoveries
from chaos.report.timeline import draw, group

FOLDER = Path(__file__).parent
STYLE = "page.css"


class ReplicaFacts(NamedTuple):
    """What the samples tell of one replica over the whole run."""

    name: str
    led: float
    """The share of the samples in which it led."""
    served: float
    """The share of the samples in which it was ready."""
    term: int
    commit_index: int
    memory_bytes: int
    """The most it took."""


def render(facts: RunFacts) -> str:
    """Return the page."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(span=words.span, clock=words.clock, size=words.size)
    style = (FOLDER / STYLE).read_text()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode("ascii")
    return environment.get_template("page.html.j2").render(
        facts=facts,
        style=style,
        policy=f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; "
        "form-action 'none'",
        began=facts.began_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        timeline=draw(facts),
        recoveries=recoveries(facts.faults),
        replicas=_replicas(facts),
        outcomes=[name for name in OUTCOMES if facts.operations.count(name)],
        group=group,
    )


def write(facts: RunFacts, path: Path) -> None:
    """Write the page to a file."""
    path.write_text(render(facts), encoding="utf-8")


def _replicas(facts: RunFacts) -> list[ReplicaFacts]:
    found = []
    count = max(len(facts.samples), 1)
    for name in facts.replicas:
        seen = [sample.replicas[name] for sample in facts.samples if name in sample.replicas]
        found.append(
            ReplicaFacts(
                name=name,
                led=sum(sample.leader == name for sample in facts.samples) / count,
                served=sum(replica.ready for replica in seen) / count,
                term=max((replica.term for replica in seen), default=0),
                commit_index=max((replica.commit_index for replica in seen), default=0),
                memory_bytes=max((replica.memory_bytes for replica in seen), default=0),
            )
        )
    return found
