"""`agentkeeper serve`: the daemon. Settings come from flags, then variables, then a TOML file."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from agentkeeper.cli import variables

PREFIX: Final = "AGENTKEEPER_"
_OF_CLIENTS: Final = variables.OF_CLIENTS
_BY_KUBERNETES: Final = re.compile(r"AGENTKEEPER(_[A-Z0-9_]+)?_(SERVICE|PORT)(_.*)?")
"""Kubernetes sets these in every container beside a Service named agentkeeper."""

F = TypeVar("F", bound=Callable[..., Any])


def _setting(name: str, **attributes: Any) -> Callable[[F], F]:
    variable = PREFIX + name.upper().replace("-", "_")
    return click.option(f"--{name}", envvar=variable, show_envvar=True, **attributes)


_PATH: Final = click.Path(path_type=Path)
_TLS_HELP: Final = (
    "This replica's certificate, PEM, with its node id as a DNS name: mutual TLS between "
    "replicas, instead of a secret."
)
_OPTIONS: Final = (
    _setting("config", type=_PATH, help="TOML file with any of these settings."),
    _setting("addr", help="Where to listen for gRPC.  [default: 0.0.0.0:7070]"),
    _setting("metrics-addr", help="Where to listen for HTTP.  [default: 0.0.0.0:9090]"),
    _setting("http-names", help="Names under which a proxy asks for pages: a.example,b.example."),
    _setting("data-dir", type=_PATH, help="Folder that keeps everything; absent: in memory."),
    _setting("node-id", help="Which of --peers this replica is."),
    _setting("peers", help="Raft addresses of all replicas: a=host:port,b=host:port,c=host:port."),
    _setting("advertise-addr", help="Where clients reach this replica, if not at --addr."),
    _setting("raft-bind", help="Where to listen for replicas, if not at its entry in --peers."),
    _setting("raft-secret-file", type=_PATH, help="Secret shared by the replicas."),
    _setting("raft-tls-cert", type=_PATH, help=_TLS_HELP),
    _setting("raft-tls-key", type=_PATH, help="Its private key, PEM."),
    _setting("raft-tls-ca", type=_PATH, help="Authorities that sign the replicas' certificates."),
    _setting(
        "bootstrap",
        is_flag=True,
        default=None,
        help="Let a new cluster begin with a majority of its replicas. Only for the first start "
        "of one of which not all can be there; by default it waits for all.",
    ),
    _setting(
        "durability",
        type=click.Choice(["fsync", "os"]),
        help="When a write counts as stored: once the disk has it (fsync), or once the operating "
        "system has it (os): faster, but machines that lose power may lose writes that were "
        "acknowledged.  [default: fsync]",
    ),
    _setting("election-timeout-ms", type=click.IntRange(100, 60_000), help="[default: 500]"),
    _setting("heartbeat-ms", type=click.IntRange(10, 10_000), help="[default: 100]"),
    _setting("snapshot-entries", type=click.IntRange(min=1), help="[default: 10000]"),
    _setting(
        "model",
        help="Folder of the model by which agents are found by meaning; none: find them by words. "
        "By default the first that is found on this machine.",
    ),
    _setting("log-level", type=click.Choice(["debug", "info", "warning", "error"])),
    _setting("log-format", type=click.Choice(["auto", "plain", "json"])),
)


def serve_options(command: F) -> F:
    """The settings of the daemon, as options."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command()
@serve_options
def serve(**given: Any) -> None:
    """Run the daemon until SIGTERM."""
    # gRPC is not used in the processes that this one starts, so nothing has to be made ready there.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    # The log has a line of JSON for each event; gRPC would put lines of its own between them.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    # Imported here: the other subcommands need nothing of the daemon and start faster without.
    from agentkeeper.server import logs  # noqa: PLC0415
    from agentkeeper.server.config import ConfigError  # noqa: PLC0415

    try:
        _refuse_unknown_variables(os.environ)
        merged = _with_file(given)
        settings = _settings(merged)
        settings.check()
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
    logs.configure(merged.get("log_level") or "info", merged.get("log_format") or "auto")
    sys.exit(_run(settings))


def _run(settings: Any) -> int:
    from agentkeeper.server.node import Node  # noqa: PLC0415

    async def run() -> int:
        return await Node(settings).serve()

    _allow_many_descriptors()
    # Raft has its own thread: let neither thread wait 5 ms, the default, for the other.
    sys.setswitchinterval(0.001)

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(run())


def _allow_many_descriptors() -> None:
    """Clients and files share the process's descriptors: take as many as the system gives."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource  # noqa: PLC0415  # where there is such a thing

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _with_file(given: dict[str, Any]) -> dict[str, Any]:
    """`given`, completed from the TOML file it may name. Raises `ConfigError`."""
    from agentkeeper.server.config import ConfigError  # noqa: PLC0415

    path = given.pop("config", None)
    if path is None:
        return given
    try:
        in_file = tomllib.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"--config {path}: {error}") from error
    parameters = {p.name: p for p in serve.params if p.name != "config"}
    merged = dict(given)
    for key, value in in_file.items():
        name = key.replace("-", "_")
        if name not in parameters:
            known = ", ".join(sorted(n or "" for n in parameters))
            raise ConfigError(f"{path}: unknown setting {key!r}; known are: {known}")
        if merged.get(name) is not None:
            continue
        try:
            merged[name] = parameters[name].type.convert(_text(value), parameters[name], None)
        except click.BadParameter as error:
            raise ConfigError(f"{path}: {key}: {error.message}") from error
    return merged


def _text(value: Any) -> Any:
    """A value as its flag has it; peers may be a table."""
    if isinstance(value, dict):
        return ",".join(f"{node_id}={address}" for node_id, address in value.items())
    return str(value)


def _settings(given: dict[str, Any]) -> Any:
    from agentkeeper.consensus.config import Durability  # noqa: PLC0415
    from agentkeeper.server.config import (  # noqa: PLC0415
        ADDR,
        ALONE,
        METRICS_ADDR,
        Address,
        Settings,
        parse_names,
        parse_peers,
    )

    peers = given.get("peers")
    return Settings(
        addr=Address.parse(given.get("addr") or ADDR, "--addr"),
        metrics_addr=Address.parse(given.get("metrics_addr") or METRICS_ADDR, "--metrics-addr"),
        metrics_addr_explicit=bool(given.get("metrics_addr")),
        http_names=parse_names(given.get("http_names") or ""),
        data_dir=given.get("data_dir"),
        node_id=given.get("node_id") or ALONE,
        peers=parse_peers(peers) if peers else {},
        advertise_addr=given.get("advertise_addr") or "",
        raft_bind=given.get("raft_bind") or "",
        raft_secret_file=given.get("raft_secret_file"),
        raft_tls_cert=given.get("raft_tls_cert"),
        raft_tls_key=given.get("raft_tls_key"),
        raft_tls_ca=given.get("raft_tls_ca"),
        durability=Durability(given.get("durability") or Durability.FSYNC),
        bootstrap=bool(given.get("bootstrap")),
        election_timeout_ms=given.get("election_timeout_ms") or 500,
        heartbeat_ms=given.get("heartbeat_ms") or 100,
        snapshot_entries=given.get("snapshot_entries") or 10_000,
        model=given.get("model") or "",
    )


def _refuse_unknown_variables(environment: Any) -> None:
    """A misspelt variable must not be passed over in silence."""
    from agentkeeper.server.config import ConfigError  # noqa: PLC0415

    known = {PREFIX + (p.name or "").upper() for p in serve.params} | _OF_CLIENTS
    for name in sorted(environment):
        if name.startswith(PREFIX) and name not in known and not _BY_KUBERNETES.fullmatch(name):
            raise ConfigError(f"unknown variable {name}; known are: {', '.join(sorted(known))}")
