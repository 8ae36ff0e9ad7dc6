"""The SDK: what agents and orchestrators use to talk to the cluster.

What it is for: calls that survive the loss of replicas, heartbeats and renewals, deadlines that
hold without any server, subscriptions, an embedded daemon. What it is not: it knows the wire and
the public types, nothing of the daemon's inside.

`core` does the work as coroutines on one I/O thread (`io_thread`), with `queries` for what is asked
and `cluster` for what is done to the cluster itself. What goes on by itself is there too:
`presence`, `holding`, `leading`, `claims`, `buffer`. `aio` is a thin face over it, and `sync` is
made from that. `caller` makes calls out of attempts, `transport` is the seam to the wire.
"""

from agentkeeper.client.aio.client import AsyncAgentKeeperClient
from agentkeeper.client.aio.concurrency import AsyncLossSignal
from agentkeeper.client.aio.events import AsyncEventStream, AsyncSubscription
from agentkeeper.client.aio.handles import AsyncAgentHandle, AsyncLeadership, AsyncLeaseHandle
from agentkeeper.client.aio.worker import AsyncTaskHandle, AsyncWorker
from agentkeeper.client.sync.client import AgentKeeperClient
from agentkeeper.client.sync.concurrency import LossSignal
from agentkeeper.client.sync.events import EventStream, Subscription
from agentkeeper.client.sync.handles import AgentHandle, Leadership, LeaseHandle
from agentkeeper.client.sync.worker import TaskHandle, Worker

__all__ = [
    "AgentHandle",
    "AgentKeeperClient",
    "AsyncAgentHandle",
    "AsyncAgentKeeperClient",
    "AsyncEventStream",
    "AsyncLeadership",
    "AsyncLeaseHandle",
    "AsyncLossSignal",
    "AsyncSubscription",
    "AsyncTaskHandle",
    "AsyncWorker",
    "EventStream",
    "Leadership",
    "LeaseHandle",
    "LossSignal",
    "Subscription",
    "TaskHandle",
    "Worker",
]
