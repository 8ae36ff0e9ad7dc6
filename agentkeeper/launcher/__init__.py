"""Local clusters of real daemon processes, for the command line, tests, demo and benchmarks.

What it is for: starting replicas on loopback ports, killing, pausing and restarting them by pid,
and leaving nothing behind. What it is not: a way to deploy.
"""

from agentkeeper.client.child import ChildFailed
from agentkeeper.launcher.cluster import LocalCluster
from agentkeeper.launcher.node import Node

__all__ = ["ChildFailed", "LocalCluster", "Node"]
