"""Puts a replica together: log, snapshots, transport, and the library's settings."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from pysyncobj import SyncObjConf
from pysyncobj.journal import MemoryJournal
from pysyncobj.node import Node

from agentkeeper.consensus.config import RaftConfig
from agentkeeper.consensus.raft import HardenedRaft
from agentkeeper.consensus.snapshots import SnapshotStore
from agentkeeper.consensus.storage import DataFolder
from agentkeeper.consensus.transport import NoTransport, PeerNode, PeerTransport

RaftFactory = Callable[..., HardenedRaft]


def make_raft(
    config: RaftConfig,
    nodes: Mapping[str, PeerNode],
    *,
    transport: Callable[[Node], Any] | None,
    raft_factory: RaftFactory,
    post: Callable[[Callable[[], None]], None],
    delivery: Any,
    opened: contextlib.ExitStack,
) -> HardenedRaft:
    """Open what a replica needs and make it; `opened` closes all of it again.

    `transport` makes the transport to use instead of TCP, given this replica's node; `post` runs
    something on the engine's thread; `delivery` is told what the replica reports. Raises
    `StartError`.
    """
    journal: Any = MemoryJournal()
    if config.data_dir is not None:
        folder = DataFolder(config)
        opened.callback(folder.close)
        journal = folder.open_log()
        opened.callback(journal._destroy)
    snapshots = SnapshotStore(config.data_dir, post)
    opened.callback(snapshots.close)
    others = [nodes[node_id] for node_id in config.other_ids]
    self_node: Node = nodes.get(config.node_id) or Node(config.node_id)
    links = None
    if transport is not None:
        links = transport(self_node)
    elif not others:
        links = NoTransport(self_node)
    raft = raft_factory(
        self_node,
        others,
        journal,
        conf=_library_settings(config, listens=links is None),
        transport=links,
        transportClass=PeerTransport,
        snapshots=snapshots,
        delivery=delivery,
    )
    opened.callback(raft.close)
    return raft


def _library_settings(config: RaftConfig, *, listens: bool) -> SyncObjConf:
    low_s, high_s = (bound / 1000 for bound in config.election_timeout_ms)
    address = config.bind_address or config.peers.get(config.node_id)
    return SyncObjConf(
        autoTick=False,
        appendEntriesUseBatch=False,
        commandsWaitLeader=False,
        raftMinTimeout=low_s,
        raftMaxTimeout=high_s,
        # A leader without a majority gives up soon (thesis 6.2). Another may be elected even
        # before that: what keeps this one from serving stale reads is ReadIndex (6.4).
        leaderFallbackTimeout=low_s,
        appendEntriesPeriod=config.heartbeat_ms / 1000,
        connectionTimeout=max(2.0, 2 * high_s),
        connectionRetryTime=0.1,
        dnsCacheTime=1.0,
        dnsFailCacheTime=1.0,
        logCompactionMinEntries=max(2, config.snapshot_entries),
        bindAddress=address if listens else None,
        password=config.secret if listens else None,
        sendBufferSize=2**20,
        recvBufferSize=2**20,
    )
