"""What a Raft engine is told when it is made."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agentkeeper.consensus import limits


class Durability(enum.StrEnum):
    """When an entry counts as stored on a replica."""

    FSYNC = "fsync"
    """Once the disk has it: survives power cuts."""
    OS = "os"
    """Once the operating system has it: survives the death of the process, but not of the machine.
    A power cut on a majority at once may lose the last writes that were acknowledged; a cut on one
    replica may lose what that one had vouched for, as if a part of its disk had been wiped."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files for mutual TLS between replicas. A replica's certificate names it.

    Its node id must be among the DNS names of the certificate's subject alternative names. Files
    that have changed are read again for the next connection, so renewed ones need no restart.
    """

    certificate: Path
    """This replica's certificate and what leads from it to the authority."""
    key: Path
    authority: Path
    """Certificates of the authorities that sign the replicas' certificates, and nobody else's."""


@dataclass(frozen=True, slots=True)
class RaftConfig:
    """Settings of one replica. All replicas of a cluster share everything but the first three."""

    node_id: str
    data_dir: Path | None = None
    """Folder for log, term, vote and snapshot; None keeps everything in memory."""
    bind_address: str | None = None
    """`host:port` to listen on; None means this replica's own entry in `peers`."""

    peers: Mapping[str, str] = field(default_factory=dict)
    """Address (`host:port`) of every replica by node id, this one included. Empty, or with only
    this replica in it, means a cluster of one: no socket is opened then."""
    secret: str | None = field(default=None, repr=False)
    """Shared by all replicas; encrypts and authenticates the links between them."""
    tls: TlsFiles | None = None
    """Mutual TLS on the links between replicas, instead of a shared secret."""
    durability: Durability = Durability.FSYNC
    bootstrap: bool = False
    """Let a new cluster begin as soon as a majority of its replicas is there, all of them new,
    instead of waiting for every one (see `agentkeeper.consensus.membership`)."""

    election_timeout_ms: tuple[int, int] = (500, 1000)
    """Range of the random time without a leader after which a replica asks for votes."""
    heartbeat_ms: int = 100
    snapshot_entries: int = 10_000
    """Entries delivered since the last snapshot after which the next is asked for."""

    def __post_init__(self) -> None:
        low, high = self.election_timeout_ms
        if len(self.peers) > limits.MAX_REPLICAS:
            raise ValueError(f"a cluster has at most {limits.MAX_REPLICAS} replicas")
        long = [
            node_id for node_id in self.member_ids if len(node_id.encode()) > limits.MAX_NAME_BYTES
        ]
        if long:
            raise ValueError(f"node id {long[0]!r} is longer than {limits.MAX_NAME_BYTES} bytes")
        if self.peers and self.node_id not in self.peers:
            raise ValueError(
                f"node id {self.node_id!r} is not among the peers {sorted(self.peers)}"
            )
        if not 3 * self.heartbeat_ms < low < high:
            raise ValueError(
                "the election timeout must be a range that starts above three heartbeats, "
                f"not {self.election_timeout_ms} ms with a heartbeat of {self.heartbeat_ms} ms"
            )
        if self.secret is not None and self.tls is not None:
            raise ValueError("links are guarded by TLS or by a shared secret, not by both")
        if self.snapshot_entries < 1:
            raise ValueError("snapshot_entries must be at least 1")
        for node_id, address in self.peers.items():
            _check_address(address, f"peer {node_id!r}")
        if self.bind_address is not None:
            _check_address(self.bind_address, "the bind address")

    @property
    def other_ids(self) -> list[str]:
        """Node ids of the other replicas, sorted."""
        return sorted(set(self.peers) - {self.node_id})

    @property
    def member_ids(self) -> list[str]:
        """Node ids of all replicas, sorted."""
        return sorted({self.node_id, *self.peers})


def _check_address(address: str, whose: str) -> None:
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isdecimal() and 0 < int(port) < 65536):
        raise ValueError(f"{whose} must have an address like 'host:7400', not {address!r}")
