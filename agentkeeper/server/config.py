"""Settings of the daemon, checked as a whole before anything starts."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from agentkeeper.consensus.config import Durability, TlsFiles
from agentkeeper.core import limits
from agentkeeper.search.model import locate

ADDR: Final = "0.0.0.0:7070"
METRICS_ADDR: Final = "0.0.0.0:9090"
ALONE: Final = "alone"
_NODE_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_HOST_NAME: Final = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")
_PORT_DIGITS: Final = 16
_TLS: Final = "--raft-tls-cert, --raft-tls-key and --raft-tls-ca"


class ConfigError(Exception):
    """The settings are wrong; the message names the one at fault and says what to do."""


@dataclass(frozen=True, slots=True)
class Address:
    """A host and a port."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str, setting: str, *, port_zero: bool = False) -> Address:
        """From `host:port`, `:port` meaning all interfaces. Raises `ConfigError`."""
        host, colon, port = text.rpartition(":")
        if not colon or not port.isascii() or not port.isdigit() or len(port) > _PORT_DIGITS:
            raise ConfigError(f"{setting}: {text!r} is not host:port")
        if not (0 if port_zero else 1) <= int(port) <= 65_535:
            raise ConfigError(f"{setting}: port {port} is out of range")
        return cls(host.strip("[]") or "0.0.0.0", int(port))

    @property
    def is_wildcard(self) -> bool:
        """Whether it means all interfaces."""
        try:
            return ipaddress.ip_address(self.host).is_unspecified
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Settings:
    """What the daemon is to be. `check` before use."""

    addr: Address = field(default_factory=lambda: Address.parse(ADDR, "--addr"))
    metrics_addr: Address = field(
        default_factory=lambda: Address.parse(METRICS_ADDR, "--metrics-addr")
    )
    metrics_addr_explicit: bool = False
    http_names: frozenset[str] = frozenset()
    """Names under which pages may be asked for, beside those of replicas and private networks."""
    data_dir: Path | None = None
    node_id: str = ALONE
    peers: Mapping[str, str] = field(default_factory=dict)
    """Raft address of every replica by node id; empty for a daemon alone."""
    advertise_addr: str = ""
    """Where clients reach this replica; empty: derived from the others."""
    raft_bind: str = ""
    """Where to listen for the other replicas; empty: this replica's own entry in `peers`."""
    raft_secret_file: Path | None = None
    raft_tls_cert: Path | None = None
    raft_tls_key: Path | None = None
    raft_tls_ca: Path | None = None
    """PEM files for the links between replicas: see `TlsFiles`."""
    durability: Durability = Durability.FSYNC
    bootstrap: bool = False
    """Whether a new cluster may begin with a majority of its replicas, instead of with all."""
    election_timeout_ms: int = 500
    heartbeat_ms: int = 100
    snapshot_entries: int = 10_000
    """Log entries between snapshots."""
    model: str = ""
    """Folder of the model that finds agents by meaning, or `none`; empty: the first one found."""

    def endpoint(self) -> str:
        """Where clients reach this replica."""
        if self.advertise_addr:
            return self.advertise_addr
        if not self.addr.is_wildcard:
            return str(self.addr)
        if self.node_id in self.peers:
            host = Address.parse(self.peers[self.node_id], "--peers").host
            return str(Address(host, self.addr.port))
        return str(Address("localhost", self.addr.port))

    def raft_secret(self) -> str | None:
        """The secret shared by the replicas. Raises `ConfigError`."""
        if self.raft_secret_file is None:
            return None
        try:
            secret = self.raft_secret_file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"--raft-secret-file: {error}") from error
        if len(secret) < 16:
            raise ConfigError("--raft-secret-file: holds fewer than 16 characters")
        return secret

    def raft_tls(self) -> TlsFiles | None:
        """The files for mutual TLS between the replicas. Raises `ConfigError`."""
        given = {
            "--raft-tls-cert": self.raft_tls_cert,
            "--raft-tls-key": self.raft_tls_key,
            "--raft-tls-ca": self.raft_tls_ca,
        }
        paths = [path for path in given.values() if path is not None]
        if not paths:
            return None
        for setting, path in given.items():
            if path is None:
                raise ConfigError(f"{setting} is missing: {_TLS} go together")
            try:
                path.read_bytes()
            except OSError as error:
                raise ConfigError(f"{setting}: {error}") from error
        certificate, key, authority = paths
        return TlsFiles(certificate, key, authority)

    def exposed_secrets(self) -> list[tuple[str, Path]]:
        """Settings whose files are secret but may be read by others than their owner.

        The group may read a file of root's: that is how a secret is mounted for a daemon.
        """
        files = (
            ("--raft-secret-file", self.raft_secret_file),
            ("--raft-tls-key", self.raft_tls_key),
        )
        return [(name, path) for name, path in files if path is not None and _is_exposed(path)]

    def check(self) -> None:
        """Raise `ConfigError` if settings contradict each other."""
        if self.heartbeat_ms * 3 >= self.election_timeout_ms:
            raise ConfigError("--election-timeout-ms must be above three times --heartbeat-ms")
        if self.advertise_addr:
            Address.parse(self.advertise_addr, "--advertise-addr")
            if len(self.advertise_addr.encode()) > limits.ENDPOINT_BYTES:
                raise ConfigError(f"--advertise-addr: longer than {limits.ENDPOINT_BYTES} bytes")
        self._check_model()
        same = self.addr == self.metrics_addr and self.metrics_addr_explicit
        if same and self.addr.port:
            raise ConfigError("--addr and --metrics-addr are the same: each needs its own port")
        if self.peers:
            self._check_cluster()
        else:
            self._check_alone()

    def _check_model(self) -> None:
        if self.model in ("", locate.NONE):
            return
        try:
            is_there = Path(self.model).expanduser().is_dir()
        except RuntimeError as error:  # there is no home for ~ to mean
            raise ConfigError(f"--model: {self.model}: {error}") from error
        if not is_there:
            raise ConfigError(f"--model: there is no folder {self.model}")

    def _check_alone(self) -> None:
        for name, value in (
            ("--node-id", "" if self.node_id == ALONE else self.node_id),
            ("--raft-bind", self.raft_bind),
            ("--raft-secret-file", self.raft_secret_file),
            ("--raft-tls-cert", self.raft_tls_cert),
            ("--raft-tls-key", self.raft_tls_key),
            ("--raft-tls-ca", self.raft_tls_ca),
            ("--bootstrap", self.bootstrap),
        ):
            if value:
                raise ConfigError(f"{name} needs --peers; a daemon alone has no other replicas")

    def _check_cluster(self) -> None:
        if self.node_id == ALONE:
            raise ConfigError("--peers needs --node-id, which of them this replica is")
        if self.node_id not in self.peers:
            known = ", ".join(sorted(self.peers))
            raise ConfigError(f"--node-id: {self.node_id!r} is not among --peers ({known})")
        if len(self.peers) > limits.REPLICAS:
            raise ConfigError(f"--peers: more than {limits.REPLICAS} replicas")
        if self.data_dir is None:
            raise ConfigError(
                "--peers needs --data-dir: a replica that forgets its vote and its log on a "
                "restart can lose what the cluster acknowledged"
            )
        addresses = []
        for node_id, text in self.peers.items():
            address = Address.parse(text, f"--peers {node_id}")
            if address.is_wildcard:
                raise ConfigError(
                    f"--peers {node_id}: {text!r} does not say where the others reach it; "
                    "to listen on all interfaces give --raft-bind as well"
                )
            addresses.append(address)
        if len(set(addresses)) < len(addresses):
            raise ConfigError("--peers: two replicas have the same address")
        if self.raft_bind:
            addresses.append(Address.parse(self.raft_bind, "--raft-bind"))
        self._check_links(addresses)

    def _check_links(self, addresses: list[Address]) -> None:
        secret, tls = self.raft_secret(), self.raft_tls()
        if secret is not None and tls is not None:
            raise ConfigError(
                f"--raft-secret-file and {_TLS}: links are guarded by one or the other, not by both"
            )
        if secret is not None or tls is not None:
            return  # and no name has to be resolved
        for address in addresses:
            if not _is_loopback(address.host):
                raise ConfigError(
                    f"{_TLS} or --raft-secret-file is needed, as {address} is not on this "
                    "machine: otherwise whoever reaches the port controls the cluster"
                )


def parse_names(text: str) -> frozenset[str]:
    """From `a.example,b.example`. Raises `ConfigError`."""
    names = {part.strip().rstrip(".").lower() for part in text.split(",")} - {""}
    for name in sorted(names):
        if not _HOST_NAME.fullmatch(name):
            raise ConfigError(f"--http-names: {name!r} is not the name of a host, without a port")
    return frozenset(names)


def parse_peers(text: str) -> dict[str, str]:
    """From `a=host:port,b=host:port`. Raises `ConfigError`."""
    peers: dict[str, str] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        node_id, equals, address = part.partition("=")
        if not equals or not _NODE_ID.fullmatch(node_id):
            raise ConfigError(f"--peers: {part!r} is not name=host:port")
        if node_id in peers:
            raise ConfigError(f"--peers: {node_id!r} is there twice")
        Address.parse(address, f"--peers {node_id}")
        peers[node_id] = address
    if not peers:
        raise ConfigError("--peers: no replica is named")
    return peers


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        pass
    try:
        found = {info[4][0] for info in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        return False
    return all(ipaddress.ip_address(str(a).partition("%")[0]).is_loopback for a in found)


def _is_exposed(path: Path) -> bool:
    status = path.stat()
    return bool(status.st_mode & (0o037 if status.st_uid == 0 else 0o077))
