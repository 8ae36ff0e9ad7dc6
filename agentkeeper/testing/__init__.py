"""For tests of programs that use AgentKeeper: a keeper in the test's own process, whose time is
moved by hand.

    from agentkeeper.testing import FakeKeeper

    with FakeKeeper() as keeper:
        client = keeper.client()
        ...
        keeper.advance(61)

The state machine and the services are those of the daemon; only network, disk and Raft are left
out. The pytest plugin, loaded by itself, has the fixtures `fake_keeper` and `agentkeeper_client`.
Not for use outside of tests: nothing here is stored or replicated. A second composition root beside
`server/node.py`; nobody else imports it.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentkeeper.testing.keeper import FakeKeeper

__all__ = ["FakeKeeper"]


def __getattr__(name: str) -> Any:
    """Import the fake when it is first used (PEP 562): every run of pytest loads this package."""
    if name != "FakeKeeper":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from agentkeeper.testing.keeper import FakeKeeper  # noqa: PLC0415

    return FakeKeeper
