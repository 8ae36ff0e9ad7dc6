"""What search is told of an agent."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Document:
    """An agent's card. It is kept, so its parts should be those the registry holds anyway."""

    agent_id: str
    name: str
    description: str
    tools: tuple[str, ...]
    capabilities: tuple[tuple[str, str], ...]
    """(name, description)"""
    metadata: tuple[tuple[str, str], ...]
