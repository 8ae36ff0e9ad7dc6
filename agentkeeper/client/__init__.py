"""The SDK: what agents and orchestrators use to talk to the cluster.

What it is for: calls that survive the loss of replicas, heartbeats, subscriptions, an embedded
daemon. What it is not: it knows the wire and the public types, nothing of the daemon's inside.

`core` does the work as coroutines on one I/O thread (`io_thread`); `sync` is a thin face over it.
`caller` makes calls out of attempts, `transport` is the seam to the wire.
"""

from agentkeeper.client.handles import AgentHandle, LeaseHandle
from agentkeeper.client.subscription import Subscription
from agentkeeper.client.sync import AgentKeeperClient

__all__ = ["AgentHandle", "AgentKeeperClient", "LeaseHandle", "Subscription"]
