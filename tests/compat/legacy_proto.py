"""The interface of 0.1.x as messages of its own, built from its field numbers.

Nothing here comes from the project's proto file or the code generated from it: the descriptors
live in a pool of their own, so a field that moved in the project is a field that these messages
read wrongly.
"""

from typing import Any

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2

PACKAGE = "agentkeeper.v1"

ENUMS = {
    "AgentStatus": ("AGENT_STATUS_", ["UNSPECIFIED", "ALIVE", "UNREACHABLE", "DEAD"]),
    "TaskStatus": (
        "TASK_STATUS_",
        ["UNSPECIFIED", "PENDING", "CLAIMED", "COMPLETED", "FAILED", "DEAD"],
    ),
    "PolicyEffect": ("POLICY_EFFECT_", ["UNSPECIFIED", "ALLOW", "DENY"]),
}
"""Prefix and values, numbered from 0."""

MESSAGES = {
    "Capability": "1 string name; 2 string description",
    "AgentCard": "1 string name; 2 string description; 3 string version;"
    " 4 repeated Capability capabilities; 5 repeated string tools; 6 map<string,string> metadata",
    "AgentInfo": "1 string agent_id; 2 AgentCard card; 3 AgentStatus status;"
    " 4 Timestamp registered_at; 5 Timestamp last_heartbeat_at",
    "FencingToken": "1 uint64 value",
    "Lease": "1 string task_id; 2 string holder_agent_id; 3 FencingToken token;"
    " 4 Timestamp acquired_at; 5 Timestamp expires_at",
    "ElectionState": "1 string group; 2 string leader_agent_id; 3 uint64 term;"
    " 4 Timestamp elected_at",
    "Event": "1 string topic; 2 Any payload; 3 uint64 sequence_number; 4 Timestamp occurred_at",
    "Policy": "1 string id; 2 string subject; 3 string action; 4 string resource;"
    " 5 PolicyEffect effect",
    "Task": "1 string id; 2 string type; 3 bytes input; 4 bytes output; 5 TaskStatus status;"
    " 6 repeated string required_tools; 7 uint32 max_retries; 8 uint32 retry_count;"
    " 9 string claimed_by_agent_id; 10 string failure_reason; 11 Timestamp created_at;"
    " 12 Timestamp claimed_at; 13 Timestamp completed_at",
    "RegisterRequest": "1 AgentCard card; 2 uint32 ttl_seconds",
    "RegisterResponse": "1 string agent_id",
    "HeartbeatRequest": "1 string agent_id",
    "HeartbeatResponse": "",
    "DeregisterRequest": "1 string agent_id",
    "DeregisterResponse": "",
    "GetAgentRequest": "1 string agent_id",
    "GetAgentResponse": "1 AgentInfo agent",
    "FindRequest": "1 string query; 2 repeated string tools; 3 uint32 limit",
    "FindResponse": "1 repeated AgentInfo agents",
    "WatchRequest": "1 repeated string topics",
    "AcquireLeaseRequest": "1 string task_id; 2 string agent_id; 3 uint32 ttl_seconds",
    "AcquireLeaseResponse": "1 Lease lease; 2 bool acquired",
    "RenewLeaseRequest": "1 string task_id; 2 string agent_id; 3 FencingToken token;"
    " 4 uint32 ttl_seconds",
    "RenewLeaseResponse": "1 Lease lease",
    "ReleaseLeaseRequest": "1 string task_id; 2 string agent_id; 3 FencingToken token",
    "ReleaseLeaseResponse": "",
    "CampaignRequest": "1 string group; 2 string agent_id",
    "CampaignResponse": "1 ElectionState state",
    "ResignRequest": "1 string group; 2 string agent_id",
    "ResignResponse": "",
    "WatchElectionRequest": "1 string group",
    "SetPolicyRequest": "1 Policy policy",
    "SetPolicyResponse": "1 Policy policy",
    "DeletePolicyRequest": "1 string id",
    "DeletePolicyResponse": "",
    "ListPoliciesRequest": "1 string subject_prefix",
    "ListPoliciesResponse": "1 repeated Policy policies",
    "CheckPolicyRequest": "1 string subject; 2 string action; 3 string resource",
    "CheckPolicyResponse": "1 bool allowed; 2 string reason",
    "CreateTaskRequest": "1 string type; 2 bytes input; 3 repeated string required_tools;"
    " 4 uint32 max_retries; 5 uint32 ttl_seconds",
    "CreateTaskResponse": "1 Task task",
    "ClaimTaskRequest": "1 string agent_id",
    "ClaimTaskResponse": "1 Task task",
    "CompleteTaskRequest": "1 string task_id; 2 string agent_id; 3 bytes output",
    "CompleteTaskResponse": "",
    "FailTaskRequest": "1 string task_id; 2 string agent_id; 3 string reason",
    "FailTaskResponse": "",
    "GetTaskRequest": "1 string task_id",
    "GetTaskResponse": "1 Task task",
    "ListTasksRequest": "1 TaskStatus status",
    "ListTasksResponse": "1 repeated Task tasks",
}

SERVICES = {
    "RegistryService": "Register Heartbeat Deregister GetAgent Find Watch",
    "LeaseService": "AcquireLease RenewLease ReleaseLease",
    "ElectionService": "Campaign Resign WatchElection",
    "EntitlementsService": "SetPolicy DeletePolicy ListPolicies CheckPolicy",
    "TaskService": "CreateTask ClaimTask CompleteTask FailTask GetTask ListTasks",
}
STREAMS = {"Watch", "WatchElection"}
"""These answer with a stream of Event."""

_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "string": _Field.TYPE_STRING,
    "bytes": _Field.TYPE_BYTES,
    "bool": _Field.TYPE_BOOL,
    "uint32": _Field.TYPE_UINT32,
    "uint64": _Field.TYPE_UINT64,
}
_WELL_KNOWN = {"Timestamp": ".google.protobuf.Timestamp", "Any": ".google.protobuf.Any"}


def file_descriptor() -> descriptor_pb2.FileDescriptorProto:
    """The whole interface of 0.1.x and nothing newer."""
    file = descriptor_pb2.FileDescriptorProto(
        name="legacy/agentkeeper.proto",
        package=PACKAGE,
        syntax="proto3",
        dependency=[timestamp_pb2.DESCRIPTOR.name, any_pb2.DESCRIPTOR.name],
    )
    for name, (prefix, values) in ENUMS.items():
        enum = file.enum_type.add(name=name)
        for number, value in enumerate(values):
            enum.value.add(name=prefix + value, number=number)
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field in filter(None, fields.split(";")):
            _add_field(message, field.split())
    for name, methods in SERVICES.items():
        service = file.service.add(name=name)
        for method in methods.split():
            streams = method in STREAMS
            service.method.add(
                name=method,
                input_type=f".{PACKAGE}.{method}Request",
                output_type=f".{PACKAGE}.{'Event' if streams else method + 'Response'}",
                server_streaming=streams,
            )
    return file


def _add_field(message: descriptor_pb2.DescriptorProto, words: list[str]) -> None:
    number, *label, kind, name = words
    field = message.field.add(name=name, number=int(number), label=_Field.LABEL_OPTIONAL)
    if label or kind.startswith("map"):
        field.label = _Field.LABEL_REPEATED
    if kind == "map<string,string>":
        entry_name = name.title() + "Entry"
        entry = message.nested_type.add(name=entry_name)
        entry.options.map_entry = True
        _add_field(entry, ["1", "string", "key"])
        _add_field(entry, ["2", "string", "value"])
        field.type = _Field.TYPE_MESSAGE
        field.type_name = f".{PACKAGE}.{message.name}.{entry_name}"
    elif kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type = _Field.TYPE_ENUM if kind in ENUMS else _Field.TYPE_MESSAGE
        field.type_name = _WELL_KNOWN.get(kind, f".{PACKAGE}.{kind}")


def _message_classes() -> dict[str, Any]:
    pool = descriptor_pool.DescriptorPool()
    for known in (timestamp_pb2, any_pb2):
        pool.AddSerializedFile(known.DESCRIPTOR.serialized_pb)
    pool.Add(file_descriptor())
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))
        for name in MESSAGES
    }


CLASSES = _message_classes()
"""Message classes by name."""


def enum_number(enum: str, name: str) -> int:
    """The number of a value, given without its prefix."""
    return ENUMS[enum][1].index(name)


def enum_name(enum: str, number: int) -> str:
    """The name of a value, without its prefix."""
    return ENUMS[enum][1][number]
