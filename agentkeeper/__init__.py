"""AgentKeeper: coordination infrastructure for AI agents.

`AgentKeeperClient` is the SDK. The rest of what is exported here are the dataclasses that it
returns and the errors that it raises. Names are imported when first used, so that the daemon's
packages load without the client.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentkeeper.client import AgentHandle, AgentKeeperClient, LeaseHandle, Subscription
    from agentkeeper.errors import (
        AgentKeeperError,
        AlreadyExists,
        ClientClosed,
        Compacted,
        InvalidArgument,
        NotFound,
        OutcomeUnknown,
        Overloaded,
        PermissionDenied,
        Refused,
        Unavailable,
    )
    from agentkeeper.types import (
        AgentCard,
        AgentInfo,
        AgentStatus,
        Capability,
        CheckResult,
        ElectionState,
        Lease,
        Policy,
        PolicyEffect,
        ReplicaRole,
        ReplicaStatus,
        Task,
        TaskStatus,
        WatchEvent,
        WatchGap,
    )

__all__ = [
    "AgentCard",
    "AgentHandle",
    "AgentInfo",
    "AgentKeeperClient",
    "AgentKeeperError",
    "AgentStatus",
    "AlreadyExists",
    "Capability",
    "CheckResult",
    "ClientClosed",
    "Compacted",
    "ElectionState",
    "InvalidArgument",
    "Lease",
    "LeaseHandle",
    "NotFound",
    "OutcomeUnknown",
    "Overloaded",
    "PermissionDenied",
    "Policy",
    "PolicyEffect",
    "Refused",
    "ReplicaRole",
    "ReplicaStatus",
    "Subscription",
    "Task",
    "TaskStatus",
    "Unavailable",
    "WatchEvent",
    "WatchGap",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its module (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    for module_name in ("types", "errors", "client"):
        module = importlib.import_module(f"{__name__}.{module_name}")
        if hasattr(module, name):
            globals()[name] = getattr(module, name)
            return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
