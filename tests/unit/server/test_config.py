"""Settings: each is read exactly, and what contradicts another is said before anything starts."""

import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkeeper.consensus.config import Durability, TlsFiles
from agentkeeper.core import limits
from agentkeeper.server.config import Address, ConfigError, Settings, parse_peers
from agentkeeper.server.node import _raft_config

PEERS = {"a": "127.0.0.1:1", "b": "127.0.0.1:2", "c": "127.0.0.1:3"}
CLUSTER: dict[str, Any] = {"node_id": "a", "peers": PEERS, "data_dir": Path("data")}


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:7070", "127.0.0.1", 7070),
        ("localhost:1", "localhost", 1),
        (":65535", "0.0.0.0", 65535),
        ("[::1]:7070", "::1", 7070),
        ("::1:7070", "::1", 7070),
    ],
)
def test_addresses(text: str, host: str, port: int) -> None:
    address = Address.parse(text, "--addr")
    assert (address.host, address.port) == (host, port)
    assert Address.parse(str(address), "--addr") == address


@pytest.mark.parametrize(
    "text",
    ["", "host", "7070", "host:", "host:x", "host:-1", "host:65536", "host:7 0", "host:0", "h:٣"],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ConfigError, match="--addr"):
        Address.parse(text, "--addr")


def test_port_zero_where_it_is_allowed() -> None:
    assert Address.parse("host:0", "--addr", port_zero=True).port == 0


@given(st.text(max_size=40) | st.from_regex(r"[a-z]{0,3}:[0-9]{0,30}"))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        address = Address.parse(text, "--addr")
    except ConfigError:
        return
    assert 0 < address.port < 65_536


def test_a_port_of_thousands_of_digits() -> None:
    with pytest.raises(ConfigError):
        Address.parse("host:" + "9" * 10_000, "--addr")


def test_peers() -> None:
    assert parse_peers(" a=h:1, b-2.x=[::1]:2 ,") == {"a": "h:1", "b-2.x": "[::1]:2"}


@pytest.mark.parametrize(
    "text",
    ["", ",", "a", "a=", "=h:1", "a=h", "a=h:1,a=h:2", "-a=h:1", "a b=h:1", "a" * 65 + "=h:1"],
)
def test_what_are_no_peers(text: str) -> None:
    with pytest.raises(ConfigError, match="--peers"):
        parse_peers(text)


def test_the_defaults_serve_alone() -> None:
    settings = Settings()
    settings.check()
    assert (str(settings.addr), str(settings.metrics_addr)) == ("0.0.0.0:7070", "0.0.0.0:9090")
    assert settings.endpoint() == "localhost:7070"
    assert settings.raft_secret() is None


def test_a_cluster_on_one_machine() -> None:
    Settings(**CLUSTER).check()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"node_id": "a"}, "--node-id"),
        ({"raft_bind": "127.0.0.1:1"}, "--raft-bind"),
        ({"raft_secret_file": Path("secret")}, "--raft-secret-file"),
        ({"raft_tls_cert": Path("cert")}, "--raft-tls-cert"),
        ({"raft_tls_key": Path("key")}, "--raft-tls-key"),
        ({"raft_tls_ca": Path("ca")}, "--raft-tls-ca"),
        ({"bootstrap": True}, "--bootstrap"),
        ({"heartbeat_ms": 200, "election_timeout_ms": 600}, "--election-timeout-ms"),
        ({"advertise_addr": "nonsense"}, "--advertise-addr"),
        ({"advertise_addr": "h" * limits.ENDPOINT_BYTES + ":1"}, "--advertise-addr"),
        (
            {"metrics_addr": Address("0.0.0.0", 7070), "metrics_addr_explicit": True},
            "--metrics-addr",
        ),
        ({**CLUSTER, "node_id": "alone"}, "--node-id"),
        ({**CLUSTER, "node_id": "d"}, "a, b, c"),
        ({**CLUSTER, "data_dir": None}, "--data-dir"),
        ({**CLUSTER, "peers": {**PEERS, "c": PEERS["b"]}}, "same address"),
        (
            {**CLUSTER, "peers": {**PEERS, **{f"n{i}": f"127.0.0.1:{i}" for i in range(9, 25)}}},
            str(limits.REPLICAS),
        ),
        ({**CLUSTER, "peers": {**PEERS, "c": "192.0.2.1:3"}}, "--raft-secret-file"),
        ({**CLUSTER, "peers": {**PEERS, "c": "192.0.2.1:3"}}, "--raft-tls-cert"),
        ({**CLUSTER, "raft_bind": "0.0.0.0:1"}, "--raft-secret-file"),
        ({**CLUSTER, "raft_bind": "nonsense"}, "--raft-bind"),
        ({**CLUSTER, "peers": {**PEERS, "b": ":7400"}}, "--peers b"),
        ({**CLUSTER, "peers": {**PEERS, "b": "0.0.0.0:7400"}}, "--peers b"),
        ({**CLUSTER, "peers": {**PEERS, "b": "[::]:7400"}}, "--peers b"),
        ({**CLUSTER, "peers": {**PEERS, "b": "0::0:7400"}}, "--peers b"),
        ({**CLUSTER, "peers": {**PEERS, "b": f"{'x' * 70}.example:7400"}}, "--raft-secret-file"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_contradictions_are_named(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Settings(**change).check()
    assert named in str(caught.value)


def test_off_this_machine_a_secret_is_needed_and_enough(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    elsewhere = {**CLUSTER, "peers": {**PEERS, "c": "192.0.2.1:3"}, "raft_secret_file": secret}
    with pytest.raises(ConfigError, match="--raft-secret-file"):
        Settings(**elsewhere).check()  # there is no such file
    secret.write_text("short\n")
    with pytest.raises(ConfigError, match="16"):
        Settings(**elsewhere).check()
    secret.write_bytes(b"\xff" * 40)
    with pytest.raises(ConfigError, match="--raft-secret-file"):
        Settings(**elsewhere).check()
    secret.write_text("sixteen letters!\n")
    settings = Settings(**elsewhere)
    settings.check()
    assert settings.raft_secret() == "sixteen letters!"


@pytest.mark.parametrize(
    ("bind", "address"),
    [(":7400", "0.0.0.0:7400"), ("::1:7400", "[::1]:7400"), ("[::]:7400", "[::]:7400"), ("", None)],
)
def test_the_engine_is_told_a_whole_address_to_listen_on(
    tmp_path: Path, bind: str, address: str | None
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("sixteen letters!")
    settings = Settings(**CLUSTER, raft_bind=bind, raft_secret_file=secret)
    settings.check()
    assert _raft_config(settings).bind_address == address


def test_with_a_guard_no_name_is_resolved(
    tls: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("sixteen letters!")
    asked: list[object] = []

    def ask(host: str, *_: object) -> list[Any]:
        asked.append(host)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", ask)
    named = CLUSTER | {"peers": {**PEERS, "c": "keeper.example:3"}}
    Settings(**named | tls).check()
    Settings(**named | {"raft_secret_file": secret}).check()
    assert not asked
    Settings(**named).check()
    assert asked == ["keeper.example"]


@pytest.fixture
def tls(tmp_path: Path) -> dict[str, Any]:
    """Settings of TLS, whose files are there."""
    given: dict[str, Any] = {}
    for name in ("cert", "key", "ca"):
        given[f"raft_tls_{name}"] = tmp_path / name
        (tmp_path / name).write_text("PEM")
    return given


def test_off_this_machine_tls_is_enough(tls: dict[str, Any]) -> None:
    settings = Settings(**CLUSTER | {"peers": {**PEERS, "c": "192.0.2.1:3"}} | tls)
    settings.check()
    assert settings.raft_tls() == TlsFiles(*tls.values())
    assert Settings(**CLUSTER).raft_tls() is None


@pytest.mark.parametrize("name", ["cert", "key", "ca"])
def test_a_part_of_tls_is_missed_by_name(tls: dict[str, Any], name: str) -> None:
    setting, named = f"raft_tls_{name}", f"^--raft-tls-{name}"
    with pytest.raises(ConfigError, match=f"{named} is missing"):
        Settings(**CLUSTER | tls | {setting: None}).check()
    tls[setting].unlink()
    with pytest.raises(ConfigError, match=f"{named}: .*No such file"):
        Settings(**CLUSTER | tls).check()
    tls[setting].mkdir()
    with pytest.raises(ConfigError, match=f"{named}: .*directory"):
        Settings(**CLUSTER | tls).check()


def test_a_secret_or_tls_but_not_both(tls: dict[str, Any], tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("sixteen letters!\n")
    with pytest.raises(ConfigError, match=r"--raft-secret-file and --raft-tls-cert.* not by both"):
        Settings(**CLUSTER | tls | {"raft_secret_file": secret}).check()


def test_a_secret_that_others_may_read_is_noticed(tls: dict[str, Any], tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("sixteen letters!\n")
    key = tls["raft_tls_key"]
    for path in (secret, *tls.values()):
        path.chmod(0o600)
    guarded = [Settings(raft_secret_file=secret), Settings(**tls), Settings()]
    assert [settings.exposed_secrets() for settings in guarded] == [[], [], []]
    secret.chmod(0o644)
    key.chmod(0o604)
    tls["raft_tls_cert"].chmod(0o644)
    assert [settings.exposed_secrets() for settings in guarded] == [
        [("--raft-secret-file", secret)],
        [("--raft-tls-key", key)],
        [],
    ]


def test_the_group_may_read_a_secret_of_roots_and_no_other(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("sixteen letters!\n")
    secret.chmod(0o640)
    exposed = Settings(raft_secret_file=secret).exposed_secrets()
    assert bool(exposed) == (secret.stat().st_uid != 0)
    secret.chmod(0o660)
    assert Settings(raft_secret_file=secret).exposed_secrets()


def test_writes_are_synced_and_a_cluster_waits_for_all_unless_told_otherwise() -> None:
    assert (Settings().durability, Settings().bootstrap) == (Durability.FSYNC, False)
    Settings(**CLUSTER, durability=Durability.OS, bootstrap=True).check()


@pytest.mark.parametrize(
    ("change", "endpoint"),
    [
        ({"advertise_addr": "keeper.example:1"}, "keeper.example:1"),
        ({"addr": Address("10.0.0.1", 5)}, "10.0.0.1:5"),
        ({"addr": Address("0.0.0.0", 5)}, "localhost:5"),
        ({**CLUSTER, "addr": Address("0.0.0.0", 5)}, "127.0.0.1:5"),
        ({**CLUSTER, "addr": Address("::", 5), "peers": {"a": "[::1]:9"}}, "[::1]:5"),
    ],
)
def test_where_clients_reach_a_replica(change: dict[str, Any], endpoint: str) -> None:
    assert Settings(**change).endpoint() == endpoint


def test_a_model_is_a_folder_or_none(tmp_path: Path) -> None:
    for model in ("", "none", str(tmp_path)):
        Settings(model=model).check()
    with pytest.raises(ConfigError, match=f"--model: there is no folder {tmp_path}/x"):
        Settings(model=f"{tmp_path}/x").check()
    with pytest.raises(ConfigError, match="--model: ~no-such-user/x: "):
        Settings(model="~no-such-user/x").check()
