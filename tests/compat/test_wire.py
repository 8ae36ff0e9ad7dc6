"""The project's proto file against the interface of 0.1.x: nothing gone, moved or changed."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2

from .legacy_proto import CLASSES, ENUMS, MESSAGES, PACKAGE, SERVICES, file_descriptor

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> descriptor_pb2.FileDescriptorProto:
    out = tmp_path_factory.mktemp("proto") / "set"
    subprocess.run(
        [
            *(sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={ROOT / 'proto'}"),
            *(f"--descriptor_set_out={out}", "agentkeeper/v1/agentkeeper.proto"),
        ],
        check=True,
    )
    (file,) = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file
    return file


LEGACY = file_descriptor()


def by_name(items: Any) -> dict[str, Any]:
    return {item.name: item for item in items}


def test_package_and_syntax(ours: descriptor_pb2.FileDescriptorProto) -> None:
    assert ours.package == PACKAGE
    assert ours.syntax == "proto3"


@pytest.mark.parametrize("name", MESSAGES)
def test_every_field_keeps_number_type_name_and_label(
    ours: descriptor_pb2.FileDescriptorProto, name: str
) -> None:
    legacy = by_name(LEGACY.message_type)[name]
    fields = by_name(by_name(ours.message_type)[name].field)
    for field in legacy.field:
        now = fields[field.name]
        assert (now.number, now.type, now.type_name, now.label) == (
            field.number,
            field.type,
            field.type_name,
            field.label,
        )
        assert not now.proto3_optional
        assert not now.HasField("oneof_index")


@pytest.mark.parametrize("name", MESSAGES)
def test_maps_are_still_maps_of_the_same_types(
    ours: descriptor_pb2.FileDescriptorProto, name: str
) -> None:
    legacy = by_name(LEGACY.message_type)[name].nested_type
    nested = by_name(by_name(ours.message_type)[name].nested_type)
    for entry in legacy:
        assert nested[entry.name].options.map_entry
        fields = [(f.number, f.name, f.type) for f in nested[entry.name].field]
        assert fields == [(f.number, f.name, f.type) for f in entry.field]


@pytest.mark.parametrize("name", ENUMS)
def test_every_enum_value_keeps_number_and_name(
    ours: descriptor_pb2.FileDescriptorProto, name: str
) -> None:
    now = {value.name: value.number for value in by_name(ours.enum_type)[name].value}
    legacy = {value.name: value.number for value in by_name(LEGACY.enum_type)[name].value}
    assert now == legacy  # a value that 0.1.x does not know would break its clients


@pytest.mark.parametrize("name", SERVICES)
def test_every_method_keeps_name_types_and_streaming(
    ours: descriptor_pb2.FileDescriptorProto, name: str
) -> None:
    methods = by_name(by_name(ours.service)[name].method)
    for legacy in by_name(LEGACY.service)[name].method:
        now = methods[legacy.name]
        assert (now.input_type, now.output_type) == (legacy.input_type, legacy.output_type)
        assert now.server_streaming == legacy.server_streaming
        assert not now.client_streaming


def test_the_generated_code_reads_what_0_1_x_writes() -> None:
    from agentkeeper._pb import agentkeeper_pb2

    card = CLASSES["AgentCard"](name="n", tools=["a", "b"], metadata={"team": "data"})
    sent = CLASSES["RegisterRequest"](card=card, ttl_seconds=7)
    got = agentkeeper_pb2.RegisterRequest.FromString(sent.SerializeToString())
    assert (got.card.name, list(got.card.tools), got.ttl_seconds) == ("n", ["a", "b"], 7)
    assert dict(got.card.metadata) == {"team": "data"}
