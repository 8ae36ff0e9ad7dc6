"""What waits for the worker, in which order, and what is no longer tried."""

import asyncio
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkeeper.search.worker import frames
from agentkeeper.search.worker.lanes import (
    MAX_URGENT,
    EmbeddingRefused,
    EmbeddingUnavailable,
    Lanes,
    Wanted,
)
from agentkeeper.search.worker.suspects import DEADLY, FORGIVEN_S, MAX_SUSPECTS, Suspects


def wanted(text):
    return Wanted(text.encode(), asyncio.get_running_loop().create_future())


def drained(lanes):
    texts = []
    while (each := lanes.take()) is not None:
        texts.append(each.text.decode())
    return texts


async def test_urgent_texts_go_first_and_each_lane_keeps_its_order():
    lanes = Lanes()
    lanes.put([wanted("a"), wanted("b")], urgent=False)
    lanes.put([wanted("c"), wanted("d")], urgent=True)
    lanes.put([wanted("e")], urgent=False)
    lanes.put([wanted("f")], urgent=True)
    assert drained(lanes) == ["c", "d", "f", "a", "b", "e"]


async def test_what_is_taken_back_is_neither_done_nor_counted():
    lanes = Lanes()
    some = [wanted(str(number)) for number in range(MAX_URGENT)]
    lanes.put(some, urgent=True)
    with pytest.raises(EmbeddingUnavailable):
        lanes.put([wanted("one too many")], urgent=True)
    patient = [wanted("patient") for _ in range(2 * MAX_URGENT)]
    lanes.put(patient, urgent=False)
    lanes.take_back(patient[1:])
    lanes.take_back(some[1:])
    assert all(each.vector.cancelled() for each in some[1:])
    lanes.put([wanted("next")], urgent=True)
    assert drained(lanes) == ["0", "next", "patient"]


async def test_whoever_awaits_an_arrival_is_told_once():
    lanes = Lanes()
    arrival = lanes.arrival()
    assert not arrival.done()
    lanes.put([wanted("a")], urgent=False)
    lanes.put([wanted("b")], urgent=True)
    assert arrival.done()
    assert not lanes.arrival().done()


async def test_all_calls_can_be_put_off():
    lanes = Lanes()
    some, gone = [wanted("a"), wanted("b")], wanted("c")
    lanes.put([*some, gone], urgent=False)
    gone.vector.cancel()
    lanes.put_off("the end")
    assert drained(lanes) == []
    for each in some:
        with pytest.raises(EmbeddingUnavailable, match="the end"):
            each.vector.result()


async def test_a_refusal_names_its_text_and_comes_too_late_without_harm():
    each = wanted("Käse")
    each.refuse("no")
    each.give(b"")
    each.put_off("later")
    with pytest.raises(EmbeddingRefused, match="no") as caught:
        each.vector.result()
    assert caught.value.text == "Käse"


def test_a_text_is_given_up_when_it_was_in_hand_at_two_deaths_and_forgiven_later():
    suspects = Suspects()
    for death in range(DEADLY):
        assert not suspects.deadly(b"a", death)
        suspects.blame(b"a", death)
    assert suspects.deadly(b"a", DEADLY)
    assert not suspects.deadly(b"b", DEADLY)
    last = DEADLY - 1
    assert suspects.deadly(b"a", last + FORGIVEN_S - 1)
    assert not suspects.deadly(b"a", last + FORGIVEN_S)
    suspects.blame(b"a", last + FORGIVEN_S)
    assert not suspects.deadly(b"a", last + FORGIVEN_S)


def test_a_text_that_did_no_harm_is_no_suspect():
    suspects = Suspects()
    suspects.blame(b"a", 0)
    suspects.clear(b"a")
    suspects.blame(b"a", 1)
    assert not suspects.deadly(b"a", 1)


def test_only_the_last_suspects_are_remembered():
    suspects = Suspects()
    for number in range(MAX_SUSPECTS + 1):
        for _ in range(DEADLY):
            suspects.blame(str(number).encode(), number)
    now = MAX_SUSPECTS
    assert [n for n in range(MAX_SUSPECTS + 1) if not suspects.deadly(str(n).encode(), now)] == [0]


MESSAGES = st.dictionaries(
    st.text(max_size=20), st.none() | st.integers(0, 2**32) | st.binary(max_size=2000) | st.text()
)


async def received(data):
    stream = asyncio.StreamReader()
    stream.feed_data(data)
    stream.feed_eof()
    return await frames.receive(stream)


@given(st.lists(MESSAGES, max_size=5))
def test_messages_come_as_they_were_sent(messages):
    data = b"".join(map(frames.pack, messages))
    stream = io.BytesIO(data)
    assert [frames.read(stream) for _ in messages] == messages
    assert frames.read(stream) is None
    if messages:
        assert asyncio.run(received(data)) == messages[0]


@given(MESSAGES, st.data())
def test_the_end_within_a_message_is_an_end(message, data):
    whole = frames.pack(message)
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    assert frames.read(io.BytesIO(cut)) is None
    with pytest.raises(asyncio.IncompleteReadError):
        asyncio.run(received(cut))


@pytest.mark.parametrize(
    "data",
    [
        b"Traceback (most recent call last)",  # its first four bytes are an enormous length
        b"\0\0\0\x01\xc1",
        b"\0\0\0\x01\x05",
        b"\0\0\0\x05\xdf\xff\xff\xff\xff",
        b"\0\0\0\0",
    ],
)
def test_what_is_no_message_is_told(data):
    with pytest.raises(frames.FrameError):
        frames.read(io.BytesIO(data))
    with pytest.raises(frames.FrameError):
        asyncio.run(received(data))
