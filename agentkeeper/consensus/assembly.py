"""Puts a replica together: log, snapshots, transport, and the library's settings."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Mapping
from typing import Any

from pysyncobj import SyncObjConf
from pysyncobj.node import Node

from agentkeeper.consensus.config import RaftConfig
from agentkeeper.consensus.disk import Disk
from agentkeeper.consensus.observation import Observation
from agentkeeper.consensus.raft import HardenedRaft
from agentkeeper.consensus.snapshots import SnapshotStore
from agentkeeper.consensus.storage import DataFolder, Storage, open_storage
from agentkeeper.consensus.transport import LinkSettings, NoTransport, PeerNode, PeerTransport

logger = logging.getLogger(__name__)

RaftFactory = Callable[..., HardenedRaft]


def make_raft(
    config: RaftConfig,
    nodes: Mapping[str, PeerNode],
    *,
    transport: Callable[[Node], Any] | None,
    raft_factory: RaftFactory,
    disk: Disk | None,
    draw_incarnation: Callable[[], str],
    post: Callable[[Callable[[], None]], None],
    delivery: Any,
    observation: Observation,
    opened: contextlib.ExitStack,
) -> HardenedRaft:
    """Open what a replica needs and make it; `opened` closes all of it again.

    `transport` makes the transport to use instead of TCP, given this replica's node; `disk` is used
    instead of the data folder; `post` runs something on the engine's thread; `delivery` is told
    what the replica reports, `observation` what it notes of its work. Raises `StartError`.
    """
    if disk is None and config.data_dir is not None:
        folder = DataFolder(config.data_dir)
        opened.callback(folder.close)
        disk = folder.disk
    if disk is None:
        storage = Storage.in_memory(config, draw_incarnation)
    else:
        storage = open_storage(disk, config, draw_incarnation)
    opened.callback(storage.close)
    if config.bootstrap and not storage.is_new:
        logger.warning(
            "bootstrap is for the first start of a cluster only: take the setting away, or this "
            "replica may begin another cluster should it ever lose its disk"
        )
    snapshots = SnapshotStore(disk, post)
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
        storage,
        conf=_library_settings(config),
        transport=links,
        transportClass=functools.partial(PeerTransport, settings=_link_settings(config)),
        snapshots=snapshots,
        bootstrap=config.bootstrap,
        delivery=delivery,
        observation=observation,
    )
    opened.callback(raft.close)
    return raft


def _link_settings(config: RaftConfig) -> LinkSettings:
    return LinkSettings(
        bind_address=config.bind_address or config.peers.get(config.node_id, ""),
        secret=config.secret,
        tls=config.tls,
        silence_s=max(2.0, 2 * config.election_timeout_ms[1] / 1000),
    )


def _library_settings(config: RaftConfig) -> SyncObjConf:
    low_s, high_s = (bound / 1000 for bound in config.election_timeout_ms)
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
        logCompactionMinEntries=max(2, config.snapshot_entries),
    )
