"""Shows how the replicas of a cluster are doing."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from agentkeeper import AgentKeeperError
from agentkeeper.cli.output import Column, Output, duration
from agentkeeper.client import AgentKeeperClient
from agentkeeper.client.status import leader_among, replica_statuses
from agentkeeper.types import ReplicaStatus, ReplicaView, ReplicaVitals

PROBE_TIMEOUT_S = 2.0

Row = dict[str, Any]
Statuses = Mapping[str, ReplicaStatus | None]


def _number(name: str) -> Column:
    heading = name.removesuffix("_index").replace("_", " ").upper()
    return Column(heading, lambda row: row.get(name), right=True)


def _health_of(row: Row) -> str:
    if not row["reachable"]:
        return "not connected"
    state = row["not_ready_reason"] or "ready"
    heard_ms = row["heard_ms"]
    return state if heard_ms is None else f"{state}, as heard {duration(heard_ms / 1000)} ago"


STATUS_COLUMNS = (
    Column("ENDPOINT", lambda row: row["endpoint"]),
    Column("REPLICA", lambda row: row.get("replica")),
    Column("ROLE", lambda row: row.get("role")),
    *(_number(name) for name in ("term", "commit_index", "applied_index", "lag")),
    Column("VERSION", lambda row: row.get("version")),
    Column("HEALTH", _health_of),
)
HEALTH_COLUMNS = (
    Column("ENDPOINT", lambda row: row["endpoint"]),
    Column("HEALTHY", lambda row: row["healthy"]),
    Column("TOOK", lambda row: f"{row['took_ms']:.1f} ms", right=True),
    Column("REASON", lambda row: row["reason"]),
)


def show_status(endpoints: Sequence[str], timeout_s: float, show: Output) -> bool:
    """Print the replicas' status; returns whether the cluster serves."""
    statuses = replica_statuses(endpoints, min(timeout_s, PROBE_TIMEOUT_S))
    rows = status_rows(statuses)
    serving = is_serving(statuses)
    if show.is_table:
        show.rows(rows, STATUS_COLUMNS)
    else:
        show.data({"serving": serving, "replicas": rows})
    return serving


def is_serving(statuses: Statuses) -> bool:
    """Whether some replica that answered has a leader and a majority behind it."""
    return any(known is not None and not known.not_ready_reason for known in statuses.values())


def status_rows(statuses: Statuses) -> list[Row]:
    """Return what there is to say about each endpoint, then about replicas behind none of them."""
    rows = [describe(address, known, statuses) for address, known in statuses.items()]
    answered = [known for known in statuses.values() if known is not None]
    seen = {known.node_id for known in answered}
    silent = [address for address, known in statuses.items() if known is None]
    rows.extend(
        _hearsay(view, statuses)
        for view in _latest_views(answered)
        if view.node_id not in seen and view.endpoint not in silent
    )
    return rows


def describe(address: str, known: ReplicaStatus | None, statuses: Statuses) -> Row:
    """Return what there is to say about one endpoint; lag counts log entries not yet applied."""
    if known is None:
        return {"endpoint": address, "reachable": False}
    return {
        "endpoint": address,
        "reachable": True,
        "replica": known.node_id,
        "role": known.role.value.lower(),
        "term": known.term,
        "commit_index": known.commit_index,
        "applied_index": known.applied_index,
        "lag": _lag(known, statuses),
        "leader": known.leader_node_id or None,
        "not_ready_reason": known.not_ready_reason or None,
        "version": known.version,
        "cluster_version": known.cluster_version,
        "uptime_ms": known.uptime_ms,
        "digest": known.digest,
        "heard_ms": None,
    }


def _hearsay(view: ReplicaView, statuses: Statuses) -> Row:
    """What others last heard of a replica that was not asked itself."""
    vitals = view.vitals
    row = {"endpoint": view.endpoint or None, "reachable": False, "replica": view.node_id}
    if vitals is None:
        return row
    return {
        **row,
        "reachable": view.connected,
        "role": vitals.role.value.lower(),
        "term": vitals.term,
        "commit_index": vitals.commit_index,
        "applied_index": vitals.applied_index,
        "lag": _lag(vitals, statuses),
        "leader": None,
        "not_ready_reason": vitals.not_ready_reason or None,
        "version": vitals.version,
        "cluster_version": None,
        "uptime_ms": None,
        "digest": None,
        "heard_ms": vitals.age_ms,
    }


def _latest_views(answered: Iterable[ReplicaStatus]) -> list[ReplicaView]:
    """Each replica as the one that heard of it last sees it."""
    latest: dict[str, ReplicaView] = {}
    for status in answered:
        for view in status.replicas:
            held = latest.get(view.node_id)
            if held is None or _age_ms(view) < _age_ms(held):
                latest[view.node_id] = view
    return [latest[node_id] for node_id in sorted(latest)]


def _age_ms(view: ReplicaView) -> float:
    return float("inf") if view.vitals is None else view.vitals.age_ms


def _lag(known: ReplicaStatus | ReplicaVitals, statuses: Statuses) -> int:
    """Entries up to the leader's commit index, or the highest known, that are not yet applied."""
    leader = leader_among(list(statuses.values()))
    indexes = [other.commit_index for other in statuses.values() if other is not None]
    newest = leader.commit_index if leader is not None else max(indexes)
    return max(0, newest - known.applied_index)


def show_health(endpoints: Sequence[str], timeout_s: float, show: Output) -> bool:
    """Print whether each endpoint serves a linearizable read; returns whether all do."""
    with ThreadPoolExecutor(len(endpoints), "agentkeeper-health") as pool:
        rows = list(pool.map(lambda endpoint: _health(endpoint, timeout_s), endpoints))
    healthy = all(row["healthy"] for row in rows)
    if show.is_table:
        show.rows(rows, HEALTH_COLUMNS)
    else:
        show.data({"healthy": healthy, "endpoints": rows})
    return healthy


def _health(endpoint: str, timeout_s: float) -> Row:
    begin_s = time.monotonic()
    reason = ""
    try:
        with AgentKeeperClient(endpoints=[endpoint], timeout=timeout_s) as client:
            client.check_policy("health", "read", "cluster")
    except AgentKeeperError as error:
        reason = error.details() or error.code().name.lower()
    took_ms = (time.monotonic() - begin_s) * 1000
    return {"endpoint": endpoint, "healthy": not reason, "took_ms": took_ms, "reason": reason}
