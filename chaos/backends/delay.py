"""A delay line for IP packets, in user space: for kernels without netem.

Each machine has a TUN device. What it routes into that is read here, kept for a while and written
to the device of the machine it is for.
"""

from __future__ import annotations

import contextlib
import fcntl
import heapq
import itertools
import os
import random
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from chaos.backends import Unsupported

DEVICE = "delayed"
TUN = "/dev/net/tun"
TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
PACKET_BYTES = 65_536
JITTER_SHARE = 0.1
"""A packet's delay is up to this share longer than asked for."""

Way = tuple[str, str]


def open_device() -> int:
    """Make a TUN device in this thread's network namespace; it is gone when this is closed.

    Raises Unsupported.
    """
    try:
        device = os.open(TUN, os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", DEVICE.encode(), IFF_TUN | IFF_NO_PI))
    except OSError as error:
        raise Unsupported(f"links: no TUN device can be made: {error}") from error
    return device


class DelayLine:
    """Carries packets between machines, each way with its own delay; their order is kept."""

    def __init__(self, machines: Mapping[str, str], seed: int = 0) -> None:
        """`machines`: their names by their IPv4 addresses."""
        self._machines = {socket.inet_aton(address): name for address, name in machines.items()}
        self._rng = random.Random(seed)
        self._lock = threading.Lock()
        self._delays_s: dict[Way, float] = {}
        self._last_due_s: dict[Way, float] = {}
        self._underway: list[tuple[float, int, Way, bytes]] = []
        self._serial = itertools.count()

    @contextmanager
    def carrying(self, devices: Mapping[str, int]) -> Iterator[None]:
        """Carry packets until the end of the context; `devices` by machine, from `open_device`."""
        wake_read, wake_write = os.pipe()
        thread = threading.Thread(
            target=self._carry, args=(devices, wake_read), name="delay line", daemon=True
        )
        thread.start()
        try:
            yield
        finally:
            os.close(wake_write)  # its end is what the thread waits for
            thread.join()
            os.close(wake_read)

    def set(self, way: Way, delay_ms: float) -> None:
        """Delay packets of one way from now."""
        with self._lock:
            self._delays_s[way] = delay_ms / 1000

    def drop(self, way: Way) -> None:
        """Lose what is under way on one way, and delay it no longer."""
        with self._lock:
            self._delays_s.pop(way, None)
            self._underway = [entry for entry in self._underway if entry[2] != way]
            heapq.heapify(self._underway)

    def deliver(self) -> None:
        """Delay nothing any longer, not even what is under way."""
        with self._lock:
            self._delays_s.clear()
            self._last_due_s.clear()
            self._underway = [(0.0, *entry[1:]) for entry in self._underway]
            heapq.heapify(self._underway)  # now in the order in which they came

    def _carry(self, devices: Mapping[str, int], wake: int) -> None:
        sources = {device: name for name, device in devices.items()}
        poll = select.poll()
        for descriptor in (*sources, wake):
            poll.register(descriptor, select.POLLIN)
        while True:
            ready = [descriptor for descriptor, _ in poll.poll(self._patience_ms())]
            if wake in ready:
                return
            for device in ready:
                self._take(sources[device], device)
            for target, packet in self._due():
                with contextlib.suppress(OSError):  # a full device loses packets, as links do
                    os.write(devices[target], packet)

    def _patience_ms(self) -> float:
        """How long nothing is due: at most a while, as what is due may change meanwhile."""
        with self._lock:
            if not self._underway:
                return 50.0
            return min(50.0, max(0.0, self._underway[0][0] - time.monotonic()) * 1000)

    def _take(self, source: str, device: int) -> None:
        """Take in all packets that wait at a device."""
        with contextlib.suppress(BlockingIOError):
            while packet := os.read(device, PACKET_BYTES):
                target = self._machines.get(packet[16:20]) if packet[0] >> 4 == 4 else None
                if target is None:
                    continue  # what the kernel says of itself to nobody in particular
                way = (source, target)
                with self._lock:
                    delay_s = self._delays_s.get(way, 0.0)
                    delay_s *= 1 + JITTER_SHARE * self._rng.random()
                    due_s = max(time.monotonic() + delay_s, self._last_due_s.get(way, 0.0))
                    self._last_due_s[way] = due_s
                    heapq.heappush(self._underway, (due_s, next(self._serial), way, packet))

    def _due(self) -> list[tuple[str, bytes]]:
        now_s = time.monotonic()
        due = []
        with self._lock:
            while self._underway and self._underway[0][0] <= now_s:
                _, _, way, packet = heapq.heappop(self._underway)
                due.append((way[1], packet))
        return due
