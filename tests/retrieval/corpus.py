"""Agents in families that are easily confused, and what people might ask for them.

The words of a paraphrase are not among its agent's; `test_floors` holds that against the tokenizer.
"""

from pathlib import Path
from typing import NamedTuple

import yaml

from agentkeeper.search.document import Document


class Entry(NamedTuple):
    """An agent and what it is to be found by."""

    name: str
    description: str
    tools: tuple[str, ...]
    paraphrase: str
    capabilities: tuple[tuple[str, str], ...] = ()
    metadata: tuple[tuple[str, str], ...] = ()


def _entry(told: dict[str, dict[str, str]]) -> Entry:
    tables = {key: tuple(told.get(key, {}).items()) for key in ("capabilities", "metadata")}
    return Entry(**{**told, **tables, "tools": tuple(told["tools"])})


FAMILIES: dict[str, list[Entry]] = {
    family: [_entry(told) for told in entries]
    for family, entries in yaml.safe_load(
        Path(__file__).with_name("corpus.yaml").read_text(encoding="utf-8")
    ).items()
}
ENTRIES = [entry for family in FAMILIES.values() for entry in family]


def agent_id(entry: Entry) -> str:
    """An id such as the registry gives."""
    return f"{ENTRIES.index(entry) * 2654435761 % 2**32:08x}c4a6f"


def document(entry: Entry) -> Document:
    """What the index is told of it."""
    return Document(
        agent_id(entry),
        entry.name,
        entry.description,
        entry.tools,
        entry.capabilities,
        entry.metadata,
    )
