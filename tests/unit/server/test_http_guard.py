"""Who may ask for the pages, and for how long a connection may say nothing."""

from typing import Any

import pytest

from agentkeeper.server.http.guard import HEAD_S, Guard, Refusal, host_of, is_private


class Transport:
    def __init__(self) -> None:
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True


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


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io"])
def test_names_that_a_site_may_have_are_not(host: str) -> None:
    assert not is_private(host)


def test_a_connection_that_asks_for_nothing_is_cut() -> None:
    guard = Guard(list)
    silent, later = Transport(), Transport()
    open_ones: list[Any] = [silent]
    guard.sweep(open_ones, 100.0)
    guard.sweep([silent, later], 100.0 + HEAD_S)  # type: ignore[list-item]
    assert not silent.aborted
    guard.sweep([silent, later], 100.1 + HEAD_S)  # type: ignore[list-item]
    assert silent.aborted
    assert not later.aborted


def test_there_is_no_room_for_a_refused_connection() -> None:
    transport: Any = Transport()
    Refusal().connection_made(transport)
    assert transport.aborted
