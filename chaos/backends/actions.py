"""Files of commands that hurt and heal a deployment, which only its operators can know."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from agentkeeper.client.endpoints import parse_endpoint
from chaos.backends import Unsupported

TIMEOUT_S = 60.0
"""How long a command may take if the file does not say."""
TAIL_CHARACTERS = 2_000

_ONE = frozenset({"name", "host", "other_hosts"})
_WAY = frozenset({"source", "target", "source_host", "target_host"})
COMMANDS: Mapping[str, Mapping[str, frozenset[str]]] = {
    "processes": {
        "kill": _ONE,
        "start": _ONE,
        "stop": _ONE,
        "pause": _ONE,
        "resume": _ONE,
        "log": _ONE,
        "memory": _ONE,
    },
    "network": {"isolate": _ONE, "heal": _ONE},
    "links": {"cut": _WAY, "slow": _WAY | {"delay_ms"}, "lossy": _WAY | {"share"}},
    "disks": {
        "fill": _ONE,
        "free": _ONE,
        "cut_power": _ONE,
        "flip": _ONE | {"seed"},
        "tear": _ONE | {"seed"},
        "wipe": _ONE,
    },
    "clocks": {"shift": _ONE | {"offset_s"}},
}
"""Which commands there are for which means, and which words in braces each may have."""

_HEALERS = {
    "processes.kill": "processes.start",
    "processes.stop": "processes.start",
    "processes.pause": "processes.resume",
    "network.isolate": "network.heal",
    "links.cut": "network.heal",
    "links.slow": "network.heal",
    "links.lossy": "network.heal",
    "disks.fill": "disks.free",
    "disks.cut_power": "processes.start",
    "disks.flip": "disks.wipe",
    "disks.tear": "disks.wipe",
}
"""What undoes what; a file that has the one must have the other."""

_PLACEHOLDER = re.compile(r"(?<!\$)\{([a-z_]+)\}")
"""A word in braces, unless it is a variable of the shell."""


class ActionFailed(Exception):  # noqa: N818
    """A command did not do what it should; the message has it and what it said."""


@dataclass(frozen=True)
class Actions:
    """What a file says. `commands` by names like "processes.kill"."""

    replicas: Mapping[str, str] = field(default_factory=dict)
    """Where clients reach the replicas, by node id. Empty: whoever answers on the endpoints."""
    commands: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float = TIMEOUT_S

    def has(self, means: str) -> bool:
        """Whether there is any command for means of this name."""
        return any(name.startswith(f"{means}.") for name in self.commands)

    def fill(self, command: str, **words: object) -> str:
        """The text of a command, with each of its words in braces replaced by that which it names.

        Several words, of a list, stand apart. Raises Unsupported if the file has no such command.
        """
        if command not in self.commands:
            raise Unsupported(f"the file of actions has no command {command}")

        def quoted(found: re.Match[str]) -> str:
            word = words[found[1]]
            return shlex.join(word) if isinstance(word, list) else shlex.quote(str(word))

        return _PLACEHOLDER.sub(quoted, self.commands[command])

    def run(self, text: str) -> str:
        """Run a command with the shell, and return what it says. Raises ActionFailed.

        It has ended once the shell has, even if something that it started goes on.
        """
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen(
                text,
                shell=True,  # commands are what the file is for
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                code = process.wait(self.timeout_s)
                outcome = f"ended with {code}" if code else ""
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                outcome = f"did not end within {self.timeout_s:g} s"
            output.seek(0)
            said = output.read().decode(errors="replace").strip()
        if outcome:
            raise ActionFailed(f"`{text}` {outcome}: {said[-TAIL_CHARACTERS:]}")
        return said


def load(path: Path) -> Actions:
    """Read a file of actions. Raises Unsupported, naming the key that is wrong."""
    try:
        return parse(yaml.safe_load(path.read_text()))
    except (OSError, yaml.YAMLError, Unsupported) as error:
        raise Unsupported(f"{path}: {error}") from None


def parse(said: Any) -> Actions:
    """Read actions from what their file holds. Raises Unsupported, naming the wrong key."""
    said = _mapping(said, "the file", {"replicas", "timeout_s", *COMMANDS})
    replicas = _mapping(said.get("replicas", {}), "replicas")
    for name, endpoint in replicas.items():
        try:
            parse_endpoint(_text(endpoint, f"replicas.{name}"))
        except ValueError as error:
            raise Unsupported(f"replicas.{name}: {error}") from None
    timeout_s = said.get("timeout_s", TIMEOUT_S)
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, int | float) or timeout_s <= 0:
        raise Unsupported("timeout_s must be a number above 0")
    commands: dict[str, str] = {}
    for means, known in COMMANDS.items():
        for verb, text in _mapping(said.get(means, {}), means, known.keys()).items():
            command = f"{means}.{verb}"
            commands[command] = _text(text, command)
            if unknown := set(_PLACEHOLDER.findall(text)) - known[verb]:
                raise Unsupported(
                    f"{command}: nothing is known for {_braced(unknown)}, "
                    f"but for {_braced(known[verb])}"
                )
    for command, healer in _HEALERS.items():
        if command in commands and healer not in commands:
            raise Unsupported(f"{command} needs {healer}, which undoes it")
    return Actions(replicas, commands, float(timeout_s))


def _mapping(said: Any, where: str, known: Any = None) -> dict[str, Any]:
    if not isinstance(said, dict) or not all(isinstance(key, str) for key in said):
        raise Unsupported(f"{where} must be a mapping of names")
    if known is not None and (unknown := said.keys() - set(known)):
        named = ", ".join(sorted(unknown))
        raise Unsupported(f"unknown in {where}: {named}; known: {', '.join(sorted(known))}")
    return said


def _text(said: Any, where: str) -> str:
    if not isinstance(said, str) or not said.strip():
        raise Unsupported(f"{where} must be text")
    return said


def _braced(words: Any) -> str:
    return ", ".join(f"{{{word}}}" for word in sorted(words))
