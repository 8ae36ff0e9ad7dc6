"""Bytes: fixed for each encoding, read back into the same values, refused if unknown."""

import pytest
from core_samples import BODIES, RESULTS, answer, bodies, command, encoded, golden
from core_story import WALL

from agentkeeper.core import codec
from agentkeeper.core import commands as c
from agentkeeper.core import records as r
from agentkeeper.core.codec import ENCODING, UnknownEncodingError

ENCODINGS = range(1, ENCODING + 1)
CHANGED = "bytes of encoding {} changed: logs on disk hold them. Raise ENCODING and keep reading it"


def test_there_is_a_sample_of_every_command_and_result():
    assert {type(body) for body in BODIES} == set(codec.COMMAND_CODES.values())
    assert {type(result) for result in RESULTS} == set(codec.RESULT_CODES.values())
    assert set(codec.COMMAND_CODES.values()) == set(c.Body.__args__)
    assert set(codec.RESULT_CODES.values()) == set(r.Result.__args__)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_bytes_are_those_of_the_golden_file(encoding):
    assert encoded(encoding) == golden(f"commands-{encoding}"), CHANGED.format(encoding)


@pytest.mark.parametrize(
    ("encoding", "body"),
    [(encoding, body) for encoding in ENCODINGS for body in bodies(encoding)],
    ids=lambda it: str(it) if isinstance(it, int) else type(it).__name__,
)
def test_golden_batches_are_read_as_what_was_written(encoding, body):
    data = bytes.fromhex(golden(f"commands-{encoding}")["batches"][type(body).__name__])
    batch = codec.unpack_batch(data)
    assert batch == c.Batch(1_000, WALL, (command(body),))
    assert type(batch.commands[0].body) is type(body)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_nested_records_come_back_as_records(encoding):
    data = bytes.fromhex(golden(f"commands-{encoding}")["forwarded"])
    commands = codec.unpack_commands(data)
    assert commands == tuple(map(command, bodies(encoding)))
    card = commands[0].body.card
    assert isinstance(card, r.Card)
    assert isinstance(card.capabilities[0], r.Capability)
    assert isinstance(commands[8].body.policy, r.Policy)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("result", RESULTS, ids=lambda result: type(result).__name__)
def test_answers_come_back_as_what_they_were(encoding, result):
    data = bytes.fromhex(golden(f"commands-{encoding}")["answers"][type(result).__name__])
    thawed = codec.thaw_answer(codec.unpack(data))
    assert thawed == answer(result)
    assert type(thawed.result) is type(result)
    if isinstance(result, r.Acquired):
        assert isinstance(thawed.result.lease, r.Lease)


def test_the_fingerprint_tells_requests_apart_but_not_ids_drawn_anew():
    marks = {codec.fingerprint(body) for body in BODIES}
    assert len(marks) == len(BODIES)
    for body in BODIES:
        drawn = isinstance(body, c.Register | c.CreateTask)
        other = body._replace(**{body._fields[0]: 1 if isinstance(body[0], int) else "other"})
        assert (codec.fingerprint(other) == codec.fingerprint(body)) is drawn


def test_packing_is_the_same_whoever_packs():
    """IntEnum or int, tuple or list: the bytes must not tell the difference."""
    assert codec.pack((r.AgentStatus.ALIVE, ("a",))) == codec.pack([1, ["a"]])


@pytest.mark.parametrize("unpack", [codec.unpack_batch, codec.unpack_commands])
@pytest.mark.parametrize(
    "content",
    [
        (ENCODING + 1, 0, 0, ()),
        (ENCODING + 1, ()),
        (ENCODING + 1, 0, 0, (), "a field of the future"),
        (0, 0, 0, ()),
        (None,),
    ],
)
def test_an_unknown_encoding_is_refused_by_name_whatever_its_shape(unpack, content):
    with pytest.raises(UnknownEncodingError, match=f"encoding {content[0]} is not known"):
        unpack(codec.pack(content))


def test_an_unknown_command_is_refused():
    row = ("alice", "s", 1, 0, 0, 99, ())
    with pytest.raises(UnknownEncodingError, match="command code 99"):
        codec.unpack_batch(codec.pack((ENCODING, 0, 0, [row])))
