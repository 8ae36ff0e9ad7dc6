"""Frames of calls from bytes."""

from __future__ import annotations

from typing import Final

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.core import limits
from agentkeeper.server.decode import decode, has_more_fields
from agentkeeper.server.errors import bad_field

SMALL_FRAME_BYTES: Final = 65_536
"""Parsing as much costs little, whatever it is."""


def read_frame(data: bytes) -> pb.CallFrame:
    """A client's frame. Raises `CallError` naming what is at fault."""
    if len(data) > SMALL_FRAME_BYTES:
        bound = limits.FRAME_CALLS + limits.STREAM_CALLS
        if has_more_fields(data, bound):
            raise bad_field("calls", f"a frame of more than {bound} entries")
    frame = decode(pb.CallFrame, data)
    if len(frame.calls) > limits.FRAME_CALLS:
        raise bad_field("calls", f"{len(frame.calls)} entries, more than {limits.FRAME_CALLS}")
    if len(frame.cancelled) > limits.STREAM_CALLS:
        entries = len(frame.cancelled)
        raise bad_field("cancelled", f"{entries} entries, more than {limits.STREAM_CALLS}")
    return frame
