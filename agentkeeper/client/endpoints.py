"""Which endpoint to try next. Pure: no I/O, and its clock is handed in."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

DEFAULT_PORT = 7070
FIRST_PENALTY_S = 1.0
MAX_PENALTY_S = 30.0


def parse_endpoint(text: str) -> str:
    """Return `text` as "host:port", with the default port where none is given.

    IPv6 hosts are written in brackets when a port follows. Raises ValueError.
    """
    text = text.strip()
    if text.count(":") > 1 and not text.startswith("["):
        text = f"[{text}]"
    host, separator, port = text.rpartition(":")
    if not separator or text.endswith("]"):
        host, port = text, str(DEFAULT_PORT)
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"not an endpoint (host:port): {text!r}")
    return f"{host}:{int(port)}"


def is_loopback(address: str) -> bool:
    """Whether an endpoint is on this host, where no proxy has a place."""
    return address.startswith(("localhost:", "127.", "[::1]"))


@dataclass(slots=True)
class _Penalty:
    until: float
    length_s: float


class Endpoints:
    """The configured endpoints, with what is known of their health.

    Calls stay with the endpoint that works. One that can't be reached is avoided for a while that
    doubles with every further failure, and is still used when there is nothing better. Which one
    comes first is drawn by lot, so that many clients spread over the replicas.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        clock: Callable[[], float],
        shuffle: Callable[[list[str]], None] = random.shuffle,
    ) -> None:
        ring = list(dict.fromkeys(parse_endpoint(address) for address in addresses))
        if not ring:
            raise ValueError("at least one endpoint is needed")
        shuffle(ring)
        self._ring = ring
        self._clock = clock
        self._penalties: dict[str, _Penalty] = {}
        self._leader = ""

    def __len__(self) -> int:
        return len(self._ring)

    def pick(self, tried: Collection[str]) -> str | None:
        """Return the endpoint to try next, or None if a call that tried `tried` should pause.

        None means that everything worth trying has been tried in this round.
        """
        good = [address for address in self._ring if not self._is_bad(address)]
        fresh = [address for address in good if address not in tried]
        if self._leader in fresh:
            return self._leader
        if fresh:
            return fresh[0]
        if good:
            return None
        # All are bad: try each once per round, the one whose penalty ends first before the rest.
        untried = [address for address in self._ring if address not in tried]
        return min(untried, key=lambda address: self._penalties[address].until, default=None)

    def worked(self, address: str) -> None:
        """Note an answer from `address` (a refusal is one too) and stay with it."""
        self._penalties.pop(address, None)
        if self._ring[0] != address:
            start = self._ring.index(address)
            self._ring = self._ring[start:] + self._ring[:start]

    def unready(self, address: str) -> None:
        """Note that `address` answered that it can't serve now; no reason to avoid it later."""
        if self._leader == address:
            self._leader = ""

    def failed(self, address: str) -> None:
        """Note that `address` could not be reached or did not answer."""
        self.unready(address)
        penalty = self._penalties.get(address)
        now = self._clock()
        if penalty is None:
            self._penalties[address] = _Penalty(now + FIRST_PENALTY_S, FIRST_PENALTY_S)
        elif penalty.until <= now:  # calls that fail together count as one failure
            penalty.length_s = min(MAX_PENALTY_S, 2 * penalty.length_s)
            penalty.until = now + penalty.length_s

    def hint(self, leader: str) -> None:
        """Note where a replica believes the leader to be; unknown endpoints are ignored."""
        try:
            address = parse_endpoint(leader)
        except ValueError:
            return
        aliases = {address, address.replace("127.0.0.1", "localhost")}
        self._leader = next((known for known in self._ring if known in aliases), self._leader)

    def _is_bad(self, address: str) -> bool:
        penalty = self._penalties.get(address)
        return penalty is not None and penalty.until > self._clock()
