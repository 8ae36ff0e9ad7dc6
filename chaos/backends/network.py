"""A network of its own for each replica, whose ways can be hurt one by one and one way only."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import socket
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

from chaos.backends import Unsupported
from chaos.backends.delay import DEVICE, DelayLine, open_device
from chaos.backends.system import run

CLONE_NEWNET = 0x40000000
NOBODY = "02:00:00:00:00:fe"
NAMESPACES = Path("/run/netns")
PREFIX = "agentkeeper"


class Network:
    """Namespaces joined by a switch, one for each name. A context manager: removed at its end.

    Every machine knows the hardware address of every other one by heart. A way is cut by letting
    the sender have a wrong one: its packets go out and reach nobody, and neither side is told.
    A cut way stays cut, whatever else is done to it, until all is healed.
    """

    def __init__(self, names: Iterable[str], *, links: bool = False) -> None:
        """With `links`, ways can be slow and lossy, too: entering finds out whether they can."""
        self.names = list(names)
        self._tag = f"{PREFIX}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        self._links = links
        self._delays = DelayLine({self.address(name): name for name in self.names})
        self._cuts: set[tuple[str, str]] = set()
        self._slow: set[tuple[str, str]] = set()
        self._lossy: dict[tuple[str, str], list[str]] = {}
        self._files = ExitStack()

    def __enter__(self) -> Self:
        if self._links and shutil.which("iptables") is None:
            raise Unsupported("links: there is no iptables on this machine")
        _remove_leftovers()
        with ExitStack() as made:
            self._add_namespace(made, self._switch)
            run("ip", "-n", self._switch, "link", "add", "switch", "type", "bridge")
            run("ip", "-n", self._switch, "link", "set", "switch", "up")
            for name in self.names:
                self._add_machine(made, name)
            if self._links:
                self._add_delays(made)
                self._lose(self.names[0], self.names[-1], 1.0)  # or this can't be done here
            self.heal()
            self._files = made.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._files.close()

    def address(self, name: str) -> str:
        """The address of a machine in this network."""
        return f"10.77.0.{self.names.index(name) + 1}"

    def namespace(self, name: str) -> str:
        """The namespace of a machine."""
        return f"{self._tag}-{name}"

    def on(self, name: str, command: Sequence[str]) -> list[str]:
        """The command that runs `command` on a machine, as the process it is started as.

        Not `ip netns exec`: that takes a copy of all mounts along, which keeps disks of runs at
        the same time from ever being unmounted.
        """
        return ["nsenter", f"--net={NAMESPACES / self.namespace(name)}", *command]

    def cut(self, source: str, target: str) -> None:
        """Let nothing pass from one machine to another; the other way stays as it is."""
        self._cut(source, [target])

    def isolate(self, name: str) -> None:
        """Cut a machine off, both ways."""
        self._cut(name, self._others(name))
        for other in self._others(name):
            self._cut(other, [name])

    def unplug(self, name: str) -> None:
        """Take a machine's cable out of the switch."""
        for other in self._others(name):
            self._straighten([(name, other), (other, name)])
        run("ip", "-n", self._switch, "link", "set", f"port-{name}", "down")

    def slow(self, source: str, target: str, delay_ms: float) -> None:
        """Delay every packet of one way; connections that there are go on."""
        way = (source, target)
        if way in self._cuts:
            return
        self._delays.set(way, delay_ms)
        if way not in self._slow:
            past = (f"{self.address(target)}/32", "dev", DEVICE, "src", self.address(source))
            run("ip", "-n", self.namespace(source), "route", "replace", *past)
            self._slow.add(way)

    def lossy(self, source: str, target: str, share: float) -> None:
        """Drop this share of the packets of one way, each by lot."""
        self._lose(source, target, share)

    def heal(self) -> None:
        """Let everything pass everywhere."""
        self._cuts.clear()
        for name in self.names:
            self._send(name, {other: self._hardware(other) for other in self._others(name)})
        ports = "".join(f"link set port-{name} up\n" for name in self.names)
        run("ip", "-n", self._switch, "-batch", "-", told=ports)
        self._straighten(list(self._slow))
        self._delays.deliver()
        for source, target in list(self._lossy):
            self._lose(source, target, 0.0)

    @property
    def _switch(self) -> str:
        return f"{self._tag}-switch"

    def _others(self, name: str) -> list[str]:
        return [other for other in self.names if other != name]

    def _hardware(self, name: str) -> str:
        return f"02:00:00:00:00:{self.names.index(name) + 1:02x}"

    def _cut(self, source: str, targets: Iterable[str]) -> None:
        ways = [(source, target) for target in targets]
        self._send(source, {target: NOBODY for _, target in ways})
        self._cuts.update(ways)
        self._straighten(ways)

    def _send(self, source: str, hardware: dict[str, str]) -> None:
        """Tell a machine the hardware addresses of others."""
        lines = [
            f"neigh replace {self.address(target)} lladdr {there} dev eth0 nud permanent\n"
            for target, there in hardware.items()
        ]
        run("ip", "-n", self.namespace(source), "-batch", "-", told="".join(lines))

    def _straighten(self, ways: Sequence[tuple[str, str]]) -> None:
        """Let ways lead through the switch again, past no delay line."""
        for source, target in ways:
            if (source, target) in self._slow:
                past = (f"{self.address(target)}/32", "dev", DEVICE)
                run("ip", "-n", self.namespace(source), "route", "del", *past)
                self._slow.discard((source, target))
            if (source, target) in self._cuts:
                self._delays.drop((source, target))

    def _lose(self, source: str, target: str, share: float) -> None:
        """Let a share be lost instead of the one that was."""
        way = (source, target)
        if way in self._lossy:
            run(*self.on(target, ["iptables", "-w", "-D", *self._lossy[way]]))
            del self._lossy[way]
        if share:
            rule = ["INPUT", "-s", self.address(source), "-m", "statistic", "--mode", "random"]
            rule += ["--probability", f"{share:.4f}", "-j", "DROP"]
            run(*self.on(target, ["iptables", "-w", "-A", *rule]))
            self._lossy[way] = rule

    def _add_namespace(self, made: ExitStack, namespace: str) -> None:
        run("ip", "netns", "add", namespace)
        made.callback(run, "ip", "netns", "del", namespace)

    def _add_machine(self, made: ExitStack, name: str) -> None:
        namespace = self.namespace(name)
        self._add_namespace(made, namespace)
        here = ("ip", "-n", namespace)
        ends = ("eth0", "address", self._hardware(name), "type", "veth", "peer", f"port-{name}")
        run(*here, "link", "add", *ends, "netns", self._switch)
        run("ip", "-n", self._switch, "link", "set", f"port-{name}", "master", "switch", "up")
        run(*here, "address", "add", f"{self.address(name)}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            run(*here, "link", "set", device, "up")

    def _add_delays(self, made: ExitStack) -> None:
        devices = {}
        for name in self.names:
            with inside(self.namespace(name)):
                devices[name] = open_device()
                made.callback(os.close, devices[name])
                # Packets come by one device and are answered by another.
                for device in ("all", "eth0", DEVICE):
                    Path(f"/proc/sys/net/ipv4/conf/{device}/rp_filter").write_text("0")
            run("ip", "-n", self.namespace(name), "link", "set", DEVICE, "up")
        made.enter_context(self._delays.carrying(devices))


def _remove_leftovers() -> None:
    """Remove the namespaces of runs that were killed; processes in them ended with these."""
    for path in NAMESPACES.glob(f"{PREFIX}-*-*-*"):
        if not Path("/proc", path.name.split("-")[1]).exists():
            with contextlib.suppress(Unsupported):  # another run may be at it as well
                run("ip", "netns", "del", path.name)


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Move this thread into a network namespace, and back at the end.

    What is opened there, sockets and devices, stays there.
    """
    with (NAMESPACES / namespace).open() as there, open("/proc/thread-self/ns/net") as here:
        _enter(there.fileno())
        try:
            yield
        finally:
            _enter(here.fileno())


def socket_in(namespace: str) -> socket.socket:
    """A TCP socket of a namespace."""
    with inside(namespace):
        made = socket.socket()
    made.setblocking(False)
    return made


def _enter(descriptor: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET):
        raise Unsupported(f"setns: {os.strerror(ctypes.get_errno())}")
