"""The API's methods as data: what the core needs to know to send, number and retry each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from google.protobuf.message import Message

from agentkeeper._pb import agentkeeper_pb2 as pb

PACKAGE = "agentkeeper.v1"

RequestT = TypeVar("RequestT", bound=Message)
ResponseT = TypeVar("ResponseT", bound=Message)


@dataclass(frozen=True, slots=True)
class Method(Generic[RequestT, ResponseT]):
    """One method of the API.

    `mutates`: it may change something, so a lost answer leaves the outcome unknown.
    `numbered`: it travels under a session's request number, so a retry takes effect once.
    `rerunnable`: running it anew does no harm even where no number protects it, or not any more.
    `ends`: a stream that has an end of its own, as watches have not.
    """

    service: str
    name: str
    request: type[RequestT]
    response: type[ResponseT]
    mutates: bool = True
    numbered: bool = True
    rerunnable: bool = False
    ends: bool = False

    @property
    def path(self) -> str:
        """The HTTP/2 path of the method."""
        return f"/{PACKAGE}.{self.service}/{self.name}"


_REGISTRY, _LEASE, _ELECTION = "RegistryService", "LeaseService", "ElectionService"
_ENTITLEMENTS, _TASK = "EntitlementsService", "TaskService"
_SESSION, _CLUSTER = "SessionService", "ClusterService"

REGISTER = Method(_REGISTRY, "Register", pb.RegisterRequest, pb.RegisterResponse)
# Repeating a heartbeat is harmless, and numbering them would fill the session for nothing.
HEARTBEAT = Method(
    _REGISTRY,
    "Heartbeat",
    pb.HeartbeatRequest,
    pb.HeartbeatResponse,
    numbered=False,
    rerunnable=True,
)
DEREGISTER = Method(_REGISTRY, "Deregister", pb.DeregisterRequest, pb.DeregisterResponse)
GET_AGENT = Method(
    _REGISTRY, "GetAgent", pb.GetAgentRequest, pb.GetAgentResponse, mutates=False, numbered=False
)
LIST_AGENTS = Method(
    _REGISTRY,
    "ListAgents",
    pb.ListAgentsRequest,
    pb.ListAgentsResponse,
    mutates=False,
    numbered=False,
)
FIND = Method(_REGISTRY, "Find", pb.FindRequest, pb.FindResponse, mutates=False, numbered=False)
WATCH = Method(_REGISTRY, "Watch", pb.WatchRequest, pb.Event, mutates=False, numbered=False)

ACQUIRE_LEASE = Method(_LEASE, "AcquireLease", pb.AcquireLeaseRequest, pb.AcquireLeaseResponse)
RENEW_LEASE = Method(_LEASE, "RenewLease", pb.RenewLeaseRequest, pb.RenewLeaseResponse)
RELEASE_LEASE = Method(_LEASE, "ReleaseLease", pb.ReleaseLeaseRequest, pb.ReleaseLeaseResponse)
VERIFY_TOKEN = Method(
    _LEASE,
    "VerifyToken",
    pb.VerifyTokenRequest,
    pb.VerifyTokenResponse,
    mutates=False,
    numbered=False,
)
GET_LEASE = Method(
    _LEASE,
    "GetLease",
    pb.GetLeaseRequest,
    pb.GetLeaseResponse,
    mutates=False,
    numbered=False,
)
LIST_LEASES = Method(
    _LEASE,
    "ListLeases",
    pb.ListLeasesRequest,
    pb.ListLeasesResponse,
    mutates=False,
    numbered=False,
)

CAMPAIGN = Method(_ELECTION, "Campaign", pb.CampaignRequest, pb.CampaignResponse)
RESIGN = Method(_ELECTION, "Resign", pb.ResignRequest, pb.ResignResponse)
WATCH_ELECTION = Method(
    _ELECTION, "WatchElection", pb.WatchElectionRequest, pb.Event, mutates=False, numbered=False
)
GET_ELECTION = Method(
    _ELECTION,
    "GetElection",
    pb.GetElectionRequest,
    pb.GetElectionResponse,
    mutates=False,
    numbered=False,
)
LIST_ELECTIONS = Method(
    _ELECTION,
    "ListElections",
    pb.ListElectionsRequest,
    pb.ListElectionsResponse,
    mutates=False,
    numbered=False,
)

SET_POLICY = Method(_ENTITLEMENTS, "SetPolicy", pb.SetPolicyRequest, pb.SetPolicyResponse)
DELETE_POLICY = Method(
    _ENTITLEMENTS, "DeletePolicy", pb.DeletePolicyRequest, pb.DeletePolicyResponse
)
LIST_POLICIES = Method(
    _ENTITLEMENTS,
    "ListPolicies",
    pb.ListPoliciesRequest,
    pb.ListPoliciesResponse,
    mutates=False,
    numbered=False,
)
CHECK_POLICY = Method(
    _ENTITLEMENTS,
    "CheckPolicy",
    pb.CheckPolicyRequest,
    pb.CheckPolicyResponse,
    mutates=False,
    numbered=False,
)
EXPLAIN_POLICY = Method(
    _ENTITLEMENTS,
    "ExplainPolicy",
    pb.ExplainPolicyRequest,
    pb.ExplainPolicyResponse,
    mutates=False,
    numbered=False,
)

CREATE_TASK = Method(_TASK, "CreateTask", pb.CreateTaskRequest, pb.CreateTaskResponse)
# A claim whose answer was lost is requeued after its ttl; claiming another task meanwhile is fine.
CLAIM_TASK = Method(_TASK, "ClaimTask", pb.ClaimTaskRequest, pb.ClaimTaskResponse, rerunnable=True)
COMPLETE_TASK = Method(_TASK, "CompleteTask", pb.CompleteTaskRequest, pb.CompleteTaskResponse)
FAIL_TASK = Method(_TASK, "FailTask", pb.FailTaskRequest, pb.FailTaskResponse)
EXTEND_TASK = Method(_TASK, "ExtendTask", pb.ExtendTaskRequest, pb.ExtendTaskResponse)
REQUEUE_TASK = Method(_TASK, "RequeueTask", pb.RequeueTaskRequest, pb.RequeueTaskResponse)
GET_TASK = Method(
    _TASK, "GetTask", pb.GetTaskRequest, pb.GetTaskResponse, mutates=False, numbered=False
)
LIST_TASKS = Method(
    _TASK, "ListTasks", pb.ListTasksRequest, pb.ListTasksResponse, mutates=False, numbered=False
)

# A session that nobody uses expires by itself, so opening one twice is harmless.
OPEN_SESSION = Method(
    _SESSION,
    "OpenSession",
    pb.OpenSessionRequest,
    pb.OpenSessionResponse,
    mutates=False,
    numbered=False,
)
CLOSE_SESSION = Method(
    _SESSION,
    "CloseSession",
    pb.CloseSessionRequest,
    pb.CloseSessionResponse,
    mutates=False,
    numbered=False,
)
STATUS = Method(
    _CLUSTER, "Status", pb.StatusRequest, pb.StatusResponse, mutates=False, numbered=False
)
SUMMARY = Method(
    _CLUSTER,
    "Summary",
    pb.SummaryRequest,
    pb.SummaryResponse,
    mutates=False,
    numbered=False,
)
# Moving to one that leads already is done at once, so asking again does no harm.
MOVE_LEADER = Method(
    _CLUSTER,
    "MoveLeader",
    pb.MoveLeaderRequest,
    pb.MoveLeaderResponse,
    numbered=False,
    rerunnable=True,
)
# Moving away from whoever leads is done anew each time.
MOVE_LEADER_AWAY = replace(MOVE_LEADER, rerunnable=False)
SAVE_SNAPSHOT = Method(
    _CLUSTER,
    "SaveSnapshot",
    pb.SaveSnapshotRequest,
    pb.SnapshotPiece,
    mutates=False,
    numbered=False,
    ends=True,
)
