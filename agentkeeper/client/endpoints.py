"""Which endpoint to try next. Pure: no I/O, and its clock is handed in."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

DEFAULT_PORT = 7070
FIRST_PENALTY_S = 1.0
MAX_PENALTY_S = 30.0
CLEARLY_SLOWER = 1.25
PROBE_EVERY = 64
SMOOTHING = 0.25
OUTLIER = 2.0


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

    Calls stay with the endpoint that works, the client's home. One that can't be reached is avoided
    for a while that doubles with every further failure, and is still used when there is nothing
    better. Which one comes first is drawn by lot, so that many clients spread over the replicas.

    Writes prefer the leader, which spares them the way from home to there, unless its answers are
    known to take clearly longer. Every 64th goes to the other of the two, so that both are known.
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
        self.clock = clock
        """Seconds, of the clock by which penalties end and answers are timed."""
        self._penalties: dict[str, _Penalty] = {}
        self._leader = ""
        self._writes = 0
        # Smoothed time of a write's answer, under the present leader. None: one has been answered,
        # but it may have paid for the connection. Infinite: it failed since.
        self._answer_s: dict[str, float | None] = {}

    def __len__(self) -> int:
        return len(self._ring)

    def pick(self, tried: Collection[str], *, write: bool = False) -> str | None:
        """Return the endpoint to try next, or None if a call that tried `tried` should pause.

        None means that everything worth trying has been tried in this round. `write`: the call
        changes something and is answered as soon as that is done.
        """
        if not tried:
            first = self._first_for_write() if write else self._ring[0]
            if not self._is_bad(first):
                return first
        good = [address for address in self._ring if not self._is_bad(address)]
        fresh = [address for address in good if address not in tried]
        if self._leader in fresh and (write or tried):
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

    def wrote(
        self, address: str, tried: Collection[str] = (), answer_s: float | None = None
    ) -> None:
        """Note the answer of `address` to a write that failed at `tried`, if anywhere.

        Home moves only if it failed, and never to the leader. `answer_s` is how long the answer
        took, where that says something about `address`.
        """
        home = self._ring[0]
        if address == home or (home in tried and address != self._leader):
            self.worked(address)
        else:
            self._penalties.pop(address, None)
        if answer_s is not None:
            self._learn(address, answer_s)

    def unready(self, address: str) -> None:
        """Note that `address` answered that it can't serve now; no reason to avoid it later."""
        self._answer_s[address] = math.inf

    def failed(self, address: str) -> None:
        """Note that `address` could not be reached or did not answer."""
        self.unready(address)
        penalty = self._penalties.get(address)
        now = self.clock()
        if penalty is None:
            self._penalties[address] = _Penalty(now + FIRST_PENALTY_S, FIRST_PENALTY_S)
        elif penalty.until <= now:  # calls that fail together count as one failure
            penalty.length_s = min(MAX_PENALTY_S, 2 * penalty.length_s)
            penalty.until = now + penalty.length_s

    def hint(self, leader: str) -> None:
        """Note where a replica believes the leader to be; empty: nobody is known to lead.

        Unknown endpoints are ignored.
        """
        known = leader and self._known(leader)
        if known is not None and known != self._leader:
            self._leader = known
            self._answer_s.clear()

    def _known(self, leader: str) -> str | None:
        try:
            address = parse_endpoint(leader)
        except ValueError:
            return None
        aliases = {address, address.replace("127.0.0.1", "localhost")}
        return next((known for known in self._ring if known in aliases), None)

    def _first_for_write(self) -> str:
        home, leader = self._ring[0], self._leader
        if not leader or leader == home:
            return home
        self._writes += 1
        leader_s, home_s = self._answer_s.get(leader), self._answer_s.get(home)
        if leader_s is None:
            slower = False
        elif home_s is None:
            slower = leader_s == math.inf
        else:
            slower = leader_s > CLEARLY_SLOWER * home_s
        to_leader = not slower
        if self._writes % PROBE_EVERY == 0:
            to_leader = not to_leader
        return leader if to_leader else home

    def _learn(self, address: str, answer_s: float) -> None:
        before = self._answer_s.get(address, math.inf)
        if before is None:
            self._answer_s[address] = answer_s
        elif before == math.inf:
            self._answer_s[address] = None
        else:  # one answer that took much longer alone proves nothing
            self._answer_s[address] = before + SMOOTHING * (
                min(answer_s, OUTLIER * before) - before
            )

    def _is_bad(self, address: str) -> bool:
        penalty = self._penalties.get(address)
        return penalty is not None and penalty.until > self.clock()
