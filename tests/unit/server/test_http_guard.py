"""Who may ask for the pages, and which connections are cut."""

import asyncio
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from agentkeeper.server.http.guard import FIRST_S, HEAD_S, Guard, Refusal, host_of, is_private


class Transport:
    def __init__(self) -> None:
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True

    def get_extra_info(self, name: str) -> None:
        return None


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("localhost:9090", "localhost"),
        ("LocalHost", "localhost"),
        ("10.1.2.3:9090", "10.1.2.3"),
        ("[::1]:9090", "::1"),
        ("[fe80::1]", "fe80::1"),
        ("agentkeeper-1.:9090", "agentkeeper-1"),
        ("", ""),
    ],
)
def test_the_host_of_a_header(text: str, host: str) -> None:
    assert host_of(text) == host


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "127.0.0.1",
        "::1",
        "agentkeeper-1",
        "box.local",
        "node.eu-west-1.compute.internal",
        "agentkeeper-0.agentkeeper.default.svc.cluster.local",
        "agentkeeper-0.agentkeeper.default.svc",
    ],
)
def test_names_that_no_site_of_the_internet_has_are_private(host: str) -> None:
    assert is_private(host)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.nip.io",
        "a.svc.evil.example",
        "svc.evil.example",
    ],
)
def test_names_that_a_site_may_have_are_not(host: str) -> None:
    assert not is_private(host)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("evil.example", 421),
        ("replica.example:7070", 200),
        ("named.example:9090", 200),
        ("Named.Example.", 200),
        ("x.named.example", 421),
    ],
)
async def test_other_names_are_those_of_replicas_and_those_that_were_given(
    host: str, status: int
) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response()

    guard = Guard(lambda: ["replica.example:7070"], {"named.example"})
    request = make_mocked_request("GET", "/", {"Host": host})
    response = await guard.middleware(request, handler)
    assert response.status == status
    if status == 421:
        assert isinstance(response, web.Response)
        assert "--http-names" in (response.text or "")


async def asked(guard: Guard) -> Any:
    """A connection that has asked for something."""

    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response()

    transport = Transport()
    headers = {"Host": "localhost"}
    request = make_mocked_request("GET", "/", headers, transport=transport)
    await guard.middleware(request, handler)
    return transport


def test_a_connection_that_never_asks_is_cut_soon() -> None:
    guard = Guard(list)
    silent: Any = Transport()
    later: Any = Transport()
    guard.sweep([silent], 100.0)
    guard.sweep([silent, later], 100.0 + FIRST_S)
    assert not silent.aborted
    guard.sweep([silent, later], 100.1 + FIRST_S)
    assert silent.aborted
    assert not later.aborted


async def test_a_connection_that_has_asked_is_cut_later() -> None:
    guard = Guard(list)
    transport = await asked(guard)
    now_s = asyncio.get_running_loop().time()
    guard.sweep([transport], now_s + HEAD_S - 1)
    assert not transport.aborted
    guard.sweep([transport], now_s + HEAD_S + 1)
    assert transport.aborted


async def test_room_is_made_by_those_that_are_idle_and_those_that_never_asked_first() -> None:
    guard = Guard(list)
    first, second = await asked(guard), await asked(guard)
    silent: Any = [Transport(), Transport()]
    open_ones = [first, second, *silent]
    order = []
    while guard.make_room(open_ones):
        cut = next(t for t in open_ones if t.aborted)
        open_ones.remove(cut)
        order.append(cut)
    assert order == [*silent, first, second]


async def test_nobody_with_a_request_under_way_is_cut() -> None:
    guard = Guard(list)
    transport: Any = Transport()

    async def handler(request: web.Request) -> web.StreamResponse:
        guard.sweep([transport], 1e9)
        guard.sweep([transport], 2e9)
        assert not guard.make_room([transport])
        return web.Response()

    request = make_mocked_request("GET", "/", {"Host": "localhost"}, transport=transport)
    assert (await guard.middleware(request, handler)).status == 200
    assert not transport.aborted


def test_there_is_no_room_for_a_refused_connection() -> None:
    transport: Any = Transport()
    Refusal().connection_made(transport)
    assert transport.aborted
