import asyncio

import pytest

from agentkeeper.client.sessions import Session, Sessions


class Cluster:
    def __init__(self, window=4):
        self.window = window
        self.opened = []
        self.closed = []
        self.hold = None

    async def open(self, timeout_s):
        if self.hold is not None:
            await self.hold.wait()
        session = Session(f"s{len(self.opened) + 1}", self.window)
        self.opened.append(session)
        return session

    def close(self, session):
        self.closed.append(session.session_id)


@pytest.fixture
def cluster():
    return Cluster()


@pytest.fixture
def sessions(cluster):
    return Sessions(cluster.open, cluster.close)


async def test_numbers_rise_and_seen_follows(sessions):
    first = await sessions.ticket(1)
    second = await sessions.ticket(1)
    assert first.metadata() == {
        "agentkeeper-session": "s1",
        "agentkeeper-request": "1",
        "agentkeeper-seen": "0",
    }
    sessions.finish(second)
    assert first.metadata()["agentkeeper-seen"] == "0"
    sessions.finish(first)
    third = await sessions.ticket(1)
    assert third.metadata()["agentkeeper-request"] == "3"
    assert third.metadata()["agentkeeper-seen"] == "2"


async def test_a_session_is_opened_once_for_all_who_wait(sessions, cluster):
    tickets = await asyncio.gather(*(sessions.ticket(1) for _ in range(4)))
    assert len(cluster.opened) == 1
    assert sorted(ticket.number for ticket in tickets) == [1, 2, 3, 4]


async def test_a_number_is_never_further_ahead_than_the_window(sessions, cluster):
    held = [await sessions.ticket(1) for _ in range(50)]
    for ticket in held:
        assert ticket.number - ticket.session.seen <= cluster.window
    assert len({(ticket.session.session_id, ticket.number) for ticket in held}) == 50


async def test_a_request_that_takes_for_ever_does_not_block_the_others(sessions, cluster):
    blocked = await sessions.ticket(1)
    for _ in range(100):
        sessions.finish(await sessions.ticket(1))
    assert len(cluster.opened) == 2
    assert cluster.closed == []
    sessions.finish(blocked)
    assert cluster.closed == ["s1"]


async def test_a_ticket_is_there_at_once_when_no_session_has_to_be_opened(sessions):
    assert sessions.ticket_at_once() is None
    await sessions.ticket(1)
    assert sessions.ticket_at_once().number == 2


async def test_an_expired_session_is_replaced(sessions, cluster):
    ticket = await sessions.ticket(1)
    sessions.expired(ticket.session)
    sessions.finish(ticket)
    assert (await sessions.ticket(1)).session.session_id == "s2"
    assert cluster.closed == []


async def test_waiting_for_a_session_is_bounded(sessions, cluster):
    cluster.hold = asyncio.Event()
    first = asyncio.create_task(sessions.ticket(100))
    await asyncio.sleep(0)
    with pytest.raises(TimeoutError):
        await sessions.ticket(0.01)
    cluster.hold.set()
    assert (await first).number == 1


async def test_all_sessions_are_handed_over_to_be_closed(sessions):
    held = [await sessions.ticket(1) for _ in range(5)]
    assert {s.session_id for s in sessions.take_all()} == {"s1", "s2"}
    for ticket in held:
        sessions.finish(ticket)
    assert sessions.take_all() == []
