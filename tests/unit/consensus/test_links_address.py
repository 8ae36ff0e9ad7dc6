"""How replicas find each other by their addresses."""

from __future__ import annotations

import socket
import threading
from typing import Any

import link_world
import pytest
from link_world import World, free_port

from agentkeeper.consensus.links.address import resolve
from agentkeeper.consensus.links.refusals import Refusal
from agentkeeper.consensus.transport import PeerNode

clock = link_world.clock
world = link_world.world


def until_resolved() -> None:
    for thread in threading.enumerate():
        if thread.name.startswith("resolve-"):
            thread.join(10)


def test_ipv6(world: World) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    world.addresses = {node_id: f"[::1]:{free_port()}" for node_id in "ab"}
    world.start("a")
    world.start("b")
    world.linked("a", "b")


IPV4 = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))
IPV6 = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 0, 0, 0))


@pytest.mark.parametrize("found", [[IPV6, IPV4], [IPV4, IPV6], [IPV6, IPV6, IPV4, IPV4]])
def test_of_a_names_addresses_ipv4_comes_first_and_each_has_its_turn(
    world: World, monkeypatch: pytest.MonkeyPatch, found: list[Any]
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    assert resolve("both", 7400)[0] == IPV4
    node = PeerNode("a", "both:7400")
    node.next_ip()
    until_resolved()
    node._turn = -1
    assert [node.next_ip() for _ in range(4)] == ["127.0.0.1", "::1"] * 2


def test_a_replica_that_listens_at_one_of_its_names_addresses_is_found(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.start("a")
    port = world.addresses["a"].split(":")[1]
    world.addresses["a"] = f"several:{port}"
    real = socket.getaddrinfo

    def several(host: str, *arguments: Any, **named: Any) -> list[Any]:
        if host != "several":
            return real(host, *arguments, **named)
        return [real(ip, *arguments, **named)[0] for ip in ("127.0.0.2", "127.0.0.3", "127.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", several)
    world.start("b")
    world.step()
    until_resolved()
    world.linked("a", "b")


def test_names_are_resolved(world: World) -> None:
    world.addresses["a"] = world.addresses["a"].replace("127.0.0.1", "localhost")
    world.start("a")
    world.start("b")
    world.step()
    until_resolved()
    world.linked("a", "b")


@pytest.mark.parametrize("address", ["fe80::1%nowhere:7400", "255.255.255.255:7400"])
def test_addresses_that_cannot_be_used_are_counted(world: World, address: str) -> None:
    world.addresses["a"] = address
    b = world.start("b")
    world.until(lambda: b.transport.refused[Refusal.UNREACHABLE] > 1)


def test_names_that_cannot_be_resolved_are_counted(world: World) -> None:
    world.addresses["a"] = f"{'x' * 70}.example:7400"
    b = world.start("b")
    world.step()
    until_resolved()
    world.until(lambda: b.transport.refused[Refusal.UNREACHABLE])
