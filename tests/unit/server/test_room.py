"""Room for commands that wait: as much as is taken in good time."""

from agentkeeper.core import limits
from agentkeeper.server.room import (
    GOOD_S,
    LEAST_COMMANDS,
    MORE_COMMANDS,
    STALLED_S,
    Room,
)


def test_batches_that_are_slow_and_full_leave_less_room() -> None:
    room, now_s = Room(), 100.0
    room.taken(1, now_s)
    seen = [room.commands]
    for _ in range(10):
        now_s += 1.5 * GOOD_S
        room.taken(room.commands, now_s)
        seen.append(room.commands)
    assert seen == sorted(seen, reverse=True)
    assert (seen[0], seen[1]) == (limits.BATCH_COMMANDS, int(limits.BATCH_COMMANDS / 1.5))
    assert seen[-1] == LEAST_COMMANDS


def test_it_never_more_than_halves_at_once() -> None:
    room = Room()
    room.taken(1, 0.0)
    room.taken(room.commands, 1000 * GOOD_S)
    assert room.commands == limits.BATCH_COMMANDS // 2


def test_a_slow_batch_that_is_not_full_says_nothing() -> None:
    room = Room()
    room.taken(1, 0.0)
    room.taken(room.commands - 1, 1000 * GOOD_S)
    assert room.commands == limits.BATCH_COMMANDS


def test_batches_that_are_fast_give_it_back() -> None:
    room, now_s = Room(), 0.0
    room.taken(1, now_s)
    for _ in range(10):
        now_s += 10 * GOOD_S
        room.taken(room.commands, now_s)
    assert room.commands == LEAST_COMMANDS
    for number in range(1, 100):
        now_s += GOOD_S / 2
        room.taken(1, now_s)
        wanted = LEAST_COMMANDS + number * MORE_COMMANDS
        assert room.commands == min(wanted, limits.BATCH_COMMANDS)


def test_it_is_full_only_while_batches_are_taken() -> None:
    room = Room()
    many = limits.BATCH_COMMANDS
    assert not room.full(many, 0.0), "none was ever taken"
    room.taken(1, 10.0)
    assert room.full(many, 10.0)
    assert not room.full(many - 1, 10.0)
    assert not room.full(many, 10.0 + STALLED_S), "the log stands still"
