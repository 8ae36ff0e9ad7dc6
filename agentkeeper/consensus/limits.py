"""Bounds of the Raft engine, in one place. What exceeds a bound is refused, never queued."""

from __future__ import annotations

from typing import Final

MAX_PAYLOAD_BYTES: Final = 4 * 2**20
"""Largest proposal or message between replicas; a larger one would stall heartbeats."""

MAX_OPEN_PROPOSALS: Final = 4096
"""Proposals submitted and not yet ended; the next one is REJECTED."""

MAX_OPEN_PROPOSAL_BYTES: Final = 64 * 2**20
"""Payload bytes of the proposals submitted and not yet ended."""

MAX_OPEN_READS: Final = 65536
"""Read rounds asked for and not yet answered; the next one is answered None."""

MAX_REPLICAS: Final = 16
"""Replicas that a cluster may have begun with."""

MAX_NAME_BYTES: Final = 64
"""Length of a node id or an incarnation, encoded."""

MAX_LOG_BYTES: Final = 2**30
"""Size of the log above which proposals are REJECTED: no snapshot has let it be trimmed."""

SNAPSHOT_LOG_BYTES: Final = 64 * 2**20
"""Size of the log above which a snapshot is asked for, however few its entries."""

MAX_TRIM_SLACK_BYTES: Final = 32 * 2**20
"""Size of the entries kept before a snapshot for followers that lag behind."""

TRIM_SLACK_SNAPSHOTS: Final = 4
"""Number of those entries, in times of what lies between two snapshots."""

MAX_QUEUED_MESSAGE_BYTES: Final = 8 * 2**20
"""Bytes given to `Engine.send` and not yet handed to a link."""

MAX_UNSENT_MESSAGE_BYTES: Final = 2**20
"""Unsent bytes on a link above which `Engine.send` refuses: heartbeats come behind them."""

MAX_LINK_BUFFER_BYTES: Final = 32 * 2**20
"""Unsent bytes on one link above which messages between replicas are dropped."""

MAX_APPEND_BYTES: Final = 512 * 1024
"""Entries in one append message stop at this size (a single larger entry travels alone)."""

MAX_UNACKNOWLEDGED_BYTES: Final = 2 * 2**20
"""Entry bytes on their way to one follower; above, only heartbeats are sent until it answers."""

SNAPSHOT_CHUNK_BYTES: Final = 256 * 1024
"""Snapshot bytes in one message; one message is on its way at a time."""

MAX_SNAPSHOT_BYTES: Final = 2 * 2**30
"""Largest snapshot stored or accepted from a leader."""

FULL_DISK_RETRY_S: Final = 0.2
"""How long after a write found the disk full the next one is tried."""

COMMIT_STALL_S: Final = 3.0
"""Time without progress, though entries wait, after which a leader takes no more proposals."""

MAX_TERM_LEAP: Final = 2**40
"""How far a message's term may be above a replica's own."""

MAX_DELIVERY_S: Final = 0.02
"""Longest time spent delivering entries before heartbeats and elections get their turn."""
