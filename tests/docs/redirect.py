"""Lets the clients of a snippet reach the daemon under test, wherever the page says that it is."""

from __future__ import annotations

from typing import Any

import agentkeeper

FACES = ("AgentKeeperClient", "AsyncAgentKeeperClient")


def redirected(endpoint: str, made: list[Any] | None = None) -> dict[str, Any]:
    """Replace both faces in `agentkeeper`, and return the original ones.

    Clients of "localhost:7070" and of any list of endpoints use `endpoint` instead. Those of
    embedded daemons are left alone. All are added to `made`.
    """
    originals = {}
    for name in FACES:
        originals[name] = getattr(agentkeeper, name)
        setattr(agentkeeper, name, _face(originals[name], endpoint, made))
    return originals


def restore(originals: dict[str, Any]) -> None:
    """Undo `redirected`."""
    for name, original in originals.items():
        setattr(agentkeeper, name, original)


def _face(original: Any, endpoint: str, made: list[Any] | None) -> Any:
    class Here(original):
        def __init__(self, host="localhost", port=7070, *, endpoints=None, **options):
            if endpoints is not None or (host, port) == ("localhost", 7070):
                endpoints = [endpoint]
            super().__init__(host, port, endpoints=endpoints, **options)
            if made is not None:
                made.append(self)

    Here.__name__ = Here.__qualname__ = original.__name__
    return Here
