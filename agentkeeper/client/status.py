"""Asks single replicas how they are, for operators, launchers and tests."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import grpc

from agentkeeper import errors
from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.client import convert, methods
from agentkeeper.client.endpoints import is_loopback, parse_endpoint
from agentkeeper.types import ReplicaStatus

PROBE_TIMEOUT_S = 2.0


def replica_status(endpoint: str, timeout: float = PROBE_TIMEOUT_S) -> ReplicaStatus:
    """Return what the replica at `endpoint` says about itself, within `timeout` seconds.

    Nobody else is asked. Raises Unavailable if it does not answer, ValueError for a malformed
    endpoint.
    """
    target = parse_endpoint(endpoint)
    options = [("grpc.use_local_subchannel_pool", 1)]
    if is_loopback(target):
        options.append(("grpc.enable_http_proxy", 0))
    with grpc.insecure_channel(target, options=options) as channel:
        ask = channel.unary_unary(
            methods.STATUS.path,
            request_serializer=pb.StatusRequest.SerializeToString,
            response_deserializer=pb.StatusResponse.FromString,
        )
        try:
            answer = ask(pb.StatusRequest(), timeout=timeout)
        except grpc.RpcError as error:
            raise errors.Unavailable(f"{endpoint}: {error.details()}") from None
    return convert.replica_from(endpoint, answer)


def replica_statuses(
    endpoints: Sequence[str], timeout: float = PROBE_TIMEOUT_S
) -> dict[str, ReplicaStatus | None]:
    """Return the status of the replica at each endpoint, None for one that does not answer."""

    def ask(endpoint: str) -> ReplicaStatus | None:
        try:
            return replica_status(endpoint, timeout)
        except errors.Unavailable:
            return None

    if not endpoints:
        return {}
    with ThreadPoolExecutor(len(endpoints), "agentkeeper-status") as pool:
        return dict(zip(endpoints, pool.map(ask, endpoints), strict=True))


def leader_among(statuses: Sequence[ReplicaStatus | None]) -> ReplicaStatus | None:
    """Return the leader of the highest term, if one answered and a majority follows that term.

    A leader that was cut off still believes that it leads; its term, or its followers, tell.
    """
    known = [status for status in statuses if status is not None]
    leaders = [status for status in known if status.role.value == "LEADER"]
    if not leaders:
        return None
    leader = max(leaders, key=lambda status: status.term)
    followers = sum(1 for status in known if status.term == leader.term)
    return leader if 2 * followers > len(statuses) else None
