"""AgentKeeper: coordination infrastructure for AI agents.

`AgentKeeperClient` and `AsyncAgentKeeperClient` are the SDK. The rest of what is exported here are
the handles and dataclasses that they return and the errors that they raise. Names are imported when
first used, so that the daemon's packages load without the client.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentkeeper.client import (
        AgentHandle,
        AgentKeeperClient,
        AsyncAgentHandle,
        AsyncAgentKeeperClient,
        AsyncEventStream,
        AsyncLeadership,
        AsyncLeaseHandle,
        AsyncLossSignal,
        AsyncSubscription,
        AsyncTaskHandle,
        AsyncWorker,
        EventStream,
        Leadership,
        LeaseHandle,
        LossSignal,
        Subscription,
        TaskHandle,
        Worker,
    )
    from agentkeeper.errors import (
        AgentKeeperError,
        AgentLost,
        AlreadyExists,
        ClaimLost,
        ClientClosed,
        Compacted,
        InvalidArgument,
        LeadershipLost,
        LeaseLost,
        Lost,
        NotFound,
        OutcomeUnknown,
        Overloaded,
        PermissionDenied,
        Refused,
        StaleToken,
        Unavailable,
    )
    from agentkeeper.types import (
        AgentCard,
        AgentInfo,
        AgentStatus,
        Capability,
        CheckResult,
        Election,
        ElectionState,
        Explanation,
        FindMode,
        FoundAgent,
        FoundAgents,
        LeaderMoved,
        Lease,
        LeaseInfo,
        Policy,
        PolicyEffect,
        ReplicaRole,
        ReplicaStatus,
        ReplicaView,
        ReplicaVitals,
        SnapshotSaved,
        Summary,
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
    "AgentLost",
    "AgentStatus",
    "AlreadyExists",
    "AsyncAgentHandle",
    "AsyncAgentKeeperClient",
    "AsyncEventStream",
    "AsyncLeadership",
    "AsyncLeaseHandle",
    "AsyncLossSignal",
    "AsyncSubscription",
    "AsyncTaskHandle",
    "AsyncWorker",
    "Capability",
    "CheckResult",
    "ClaimLost",
    "ClientClosed",
    "Compacted",
    "Election",
    "ElectionState",
    "EventStream",
    "Explanation",
    "FindMode",
    "FoundAgent",
    "FoundAgents",
    "InvalidArgument",
    "LeaderMoved",
    "Leadership",
    "LeadershipLost",
    "Lease",
    "LeaseHandle",
    "LeaseInfo",
    "LeaseLost",
    "LossSignal",
    "Lost",
    "NotFound",
    "OutcomeUnknown",
    "Overloaded",
    "PermissionDenied",
    "Policy",
    "PolicyEffect",
    "Refused",
    "ReplicaRole",
    "ReplicaStatus",
    "ReplicaView",
    "ReplicaVitals",
    "SnapshotSaved",
    "StaleToken",
    "Subscription",
    "Summary",
    "Task",
    "TaskHandle",
    "TaskStatus",
    "Unavailable",
    "WatchEvent",
    "WatchGap",
    "Worker",
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
