"""The promises, checked while the cluster runs.

What the first replica to apply an entry makes of it is the history that all others must repeat,
and against which every answer that a client got is held.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agentkeeper.consensus.port import Role
from agentkeeper.core import commands as c
from agentkeeper.core import records as r
from agentkeeper.core.codec import unpack
from agentkeeper.core.refusals import OUTCOME_UNKNOWN, SESSION_EXPIRED, WITHDRAWN
from agentkeeper.server.machine import Applied
from tests.simulation.clock import MAX_DRIFT

if TYPE_CHECKING:
    from agentkeeper.core.state import State
    from tests.simulation.host import Host

GONE = frozenset({OUTCOME_UNKNOWN, SESSION_EXPIRED, WITHDRAWN})
"""Reasons of refusals that tell nothing about what the request did before."""
STAMP_SLACK_MS = 3.0
DIGEST_EVERY = 16
"""Entries from one look at the state's digest to the next: it is a good part of all work."""
MAX_VIOLATIONS = 5

Key = tuple[str, int]


@dataclass(slots=True)
class Effect:
    """What a request did: the first answer to it that is not a mere wait."""

    result: r.Result
    index: int


@dataclass(slots=True)
class Belief:
    """A client takes an agent of its own for the holder of a lease, until a true time."""

    agent_id: str
    token: int
    until_s: float


@dataclass(slots=True)
class Held:
    """A lease or claim as the events told of it."""

    holder: str
    token: int
    index: int


@dataclass
class Checks:
    """All that was seen so far. `now_s` is true time."""

    now_s: Callable[[], float]
    record: Callable[[bytes], None]
    violations: list[str] = field(default_factory=list)
    entries: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Term and checksum of every entry that was delivered anywhere."""
    digests: dict[int, str] = field(default_factory=dict)
    leaders: dict[int, str] = field(default_factory=dict)
    effects: dict[Key, Effect] = field(default_factory=dict)
    refusals: set[Key] = field(default_factory=set)
    """Requests that clients were told can have no effect."""
    owners: dict[str, Key] = field(default_factory=dict)
    """The request that made each agent or task."""
    events: list[tuple[str, str]] = field(default_factory=list)
    """Topic and subject of every event; the first has sequence number 1."""
    leases: dict[str, Held] = field(default_factory=dict)
    claims: dict[str, Held] = field(default_factory=dict)
    beliefs: dict[str, Belief] = field(default_factory=dict)
    """By lease key; there can only be one."""
    last_index: int = 0
    acknowledged_index: int = 0
    """Whatever is read from now on must be as of this index, or later."""
    counted: Counter[str] = field(default_factory=Counter)
    _stamps: dict[bytes, float] = field(default_factory=dict)
    _stamp_floor: float | None = None
    _last_token: int = 0
    _time_ms: int = 0
    _rejected: set[bytes] = field(default_factory=set)
    _delivered: set[bytes] = field(default_factory=set)
    _stored: set[int] = field(default_factory=set)
    _dead: set[str] = field(default_factory=set)
    _terms: dict[str, int] = field(default_factory=dict)
    _watched: dict[int, int] = field(default_factory=dict)
    _stamped_s: dict[int, float] = field(default_factory=dict)

    def violated(self, what: str) -> None:
        if len(self.violations) < MAX_VIOLATIONS:
            self.violations.append(f"at {self.now_s():.6f} s: {what}")

    def count(self, what: str) -> None:
        self.counted[what] += 1

    # --- consensus -------------------------------------------------------------------------------
    def role_changed(self, host: Host, role: Role, term: int) -> None:
        if role is Role.LEADER and self.leaders.setdefault(term, host.node_id) != host.node_id:
            self.violated(f"{self.leaders[term]} and {host.node_id} both lead term {term}")

    def committed(self, host: Host, delivered: int, index: int, term: int, payload: bytes) -> None:
        if index <= delivered:
            self.violated(f"{host.node_id}: entry {index} is delivered after {delivered}")
        entry = (term, zlib.crc32(payload))
        if self.entries.setdefault(index, entry) != entry:
            self.violated(f"{host.node_id}: its entry {index} is another than was delivered before")
        self._delivered.add(payload)
        if payload in self._rejected:
            self.violated(f"{host.node_id}: entry {index} is delivered, but was rejected")
        stamped_s = self._stamps.pop(payload, None)
        if stamped_s is not None:
            self._stamped_s.setdefault(index, stamped_s)

    def restoring(self, host: Host, delivered: int, index: int) -> None:
        if index < delivered:
            self.violated(f"{host.node_id}: goes back from {delivered} to a snapshot at {index}")

    def stamped(self, payload: bytes) -> None:
        self._stamps[payload] = self.now_s()

    def proposed(self, payload: bytes) -> None:
        self._rejected.discard(payload)

    def rejected(self, payload: bytes) -> None:
        """A proposal was answered: it is not in the log, and never will be."""
        self._rejected.add(payload)
        if payload in self._delivered:
            self.violated("a proposal was rejected that had been committed")

    def stored(self, index: int, hosts: Collection[Host]) -> None:
        """What is delivered is on the disks of a majority. Those that were emptied had it once."""
        if index in self._stored:
            return
        self._stored.add(index)
        having = [host for host in hosts if host.disk_lost or host.stored_index() >= index]
        if 2 * len(having) <= len(hosts):
            self.violated(f"entry {index} is delivered, but stored by {len(having)} only")

    # --- the state machine -----------------------------------------------------------------------
    def applied(self, host: Host, applied: Applied, state: State) -> None:
        index = applied.index
        digest = "" if index % DIGEST_EVERY else state.digest()
        if index > self.last_index:
            self.last_index = index
            self.digests[index] = digest
            self.record(digest.encode())
            self._history(applied, state.time_ms)
        elif self.digests.get(index) != digest:
            self.violated(f"{host.node_id}: its state at {index} is another: {digest}")

    def restored(self, host: Host, index: int, state: State) -> None:
        self.count("snapshots restored")
        known = self.digests.get(index)
        if known is None:
            self.violated(f"{host.node_id}: a snapshot at {index}, which nobody has applied")
        elif known not in ("", state.digest()):
            self.violated(f"{host.node_id}: its snapshot at {index} is of another state")

    def _history(self, applied: Applied, time_ms: int) -> None:
        self._time(applied.index, time_ms)
        for command, result in zip(applied.batch.commands, applied.results, strict=True):
            self._command(applied.index, command, result)
        for event in applied.events:
            self._event(applied.index, event)

    def _time(self, index: int, time_ms: int) -> None:
        """Cluster time never runs faster than true time."""
        stamped_s = self._stamped_s.pop(index, None)
        if stamped_s is None:
            self.violated(f"entry {index} was proposed by nobody")
            return
        if time_ms < self._time_ms:
            self.violated(f"cluster time fell from {self._time_ms} to {time_ms} ms at {index}")
        self._time_ms = time_ms
        ahead_ms = time_ms - 1000 * (1 + 1.2 * MAX_DRIFT) * stamped_s
        if self._stamp_floor is not None and ahead_ms > self._stamp_floor + STAMP_SLACK_MS:
            gained_ms = ahead_ms - self._stamp_floor
            self.violated(f"cluster time gained {gained_ms:.1f} ms by entry {index}")
        if self._stamp_floor is None or ahead_ms < self._stamp_floor:
            self._stamp_floor = ahead_ms

    def _command(self, index: int, command: c.Command, result: r.Result) -> None:
        if isinstance(result, r.Waiting):
            return
        done = not isinstance(result, r.Refused)
        if command.session_id:
            key = (command.session_id, command.number)
            effect = self.effects.get(key)
            if effect is not None:
                gone = isinstance(result, r.Refused) and result.reason in GONE
                if effect.result != result and not gone:
                    was = effect.result
                    self.violated(f"request {key} took effect twice: {was}, then {result}")
                return  # a copy of it, which was given the same answer
            self.effects[key] = Effect(result, index)
            if key in self.refusals and done:
                self.violated(f"request {key} took effect at {index}, after it was refused")
            self._made(key, result)
        body = command.body
        if done and isinstance(body, c.RenewLease | c.ReleaseLease):
            self._guarded("lease", self.leases.get(body.task_id), index, body.token)
        elif done and isinstance(body, c.CompleteTask | c.FailTask | c.ExtendTask):
            self._guarded("claim", self.claims.get(body.task_id), index, body.claim_token)

    def _guarded(self, what: str, held: Held | None, index: int, token: int) -> None:
        """A command with a stale token must not have succeeded; those of one batch aside."""
        # What ended or began within this batch is not known here yet, so only an older holder
        # can be held against it.
        if held is not None and held.index < index and held.token > token:
            self.violated(f"a stale {what} token {token} won over {held.token} at {index}")
        self.count(f"{what} tokens used")

    def _made(self, key: Key, result: r.Result) -> None:
        made = ""
        if isinstance(result, r.Registered):
            made = result.agent_id
        if made and self.owners.setdefault(made, key) != key:
            self.violated(f"{made} was made by two requests: {self.owners[made]} and {key}")

    # --- events ----------------------------------------------------------------------------------
    def _event(self, index: int, event: r.Event) -> None:
        if event.sequence != len(self.events) + 1:
            self.violated(f"event {event.sequence} follows event {len(self.events)}")
        self.events.append((event.topic, event.subject))
        kind, _, what = event.topic.partition(".")
        if kind == "lease":
            self._lease(index, what, event)
        elif kind == "task":
            self._task(index, what, event)
        elif kind == "leader":
            self._leader(event)
        elif event.topic == "agent.died":
            self._dead.add(event.subject)

    def _lease(self, index: int, what: str, event: r.Event) -> None:
        row: Any = unpack(event.payload)
        key, holder, token = row[0], row[1], row[2]
        held = self.leases.get(key)
        if what == "acquired":
            self._fresh(token)
            if holder in self._dead:
                self.violated(f"lease {key} is granted to {holder}, who is dead")
            if held is not None and held.holder != holder:
                self.violated(f"lease {key} is granted to {holder} while {held.holder} holds it")
            self.leases[key] = Held(holder, token, index)
            return
        if held is None or (held.holder, held.token) != (holder, token):
            self.violated(f"lease {key}: {what} of {holder} under {token}, but {held} holds it")
        if what in ("expired", "released"):
            self.leases.pop(key, None)
            self._ended(key, holder, token, f"{what} {event.reason}")

    def _ended(self, key: str, agent_id: str, token: int, how: str) -> None:
        """A lease never ends early, as its holder sees it."""
        belief = self.beliefs.get(key)
        if belief is None or (belief.agent_id, belief.token) != (agent_id, token):
            return
        del self.beliefs[key]
        if belief.until_s > self.now_s():
            left_s = belief.until_s - self.now_s()
            self.violated(f"lease {key} of {agent_id} ended {left_s:.3f} s early: {how}")

    def _task(self, index: int, what: str, event: r.Event) -> None:
        row: Any = unpack(event.payload)
        task_id, claimed_by, token = row[0], row[7], row[8]
        if what == "claimed":
            self._fresh(token)
            if task_id in self.claims:
                self.violated(f"task {task_id} is claimed while it is claimed")
            self.claims[task_id] = Held(claimed_by, token, index)
        else:
            self.claims.pop(task_id, None)

    def _leader(self, event: r.Event) -> None:
        row: Any = unpack(event.payload)
        group, term, candidates = row[0], row[1], row[4]
        # When nobody is left to lead the last term stays.
        if term < self._terms.get(group, 0) + bool(candidates):
            self.violated(f"group {group}: term {term} follows {self._terms[group]}")
        self._terms[group] = term

    def _fresh(self, token: int) -> None:
        if token <= self._last_token:
            self.violated(f"token {token} is given out after {self._last_token}")
        self._last_token = token

    # --- what clients see ------------------------------------------------------------------------
    def acknowledged(self, key: Key, began_index: int | None) -> Effect | None:
        """A write has been answered: it is in the history, and after what was answered before.

        `began_index` is what had been acknowledged when its only attempt was sent, if there was
        only one.
        """
        effect = self.effects.get(key)
        if effect is None or isinstance(effect.result, r.Refused):
            self.violated(f"request {key} was acknowledged, but has had no effect: {effect}")
            return None
        if began_index is not None and effect.index <= began_index:
            self.violated(f"request {key} took effect at {effect.index}, before {began_index}")
        self.acknowledged_index = max(self.acknowledged_index, effect.index)
        self.count("writes acknowledged")
        return effect

    def refused(self, key: Key) -> None:
        """A definite refusal: the request has no effect, now or ever."""
        self.count("writes refused")
        self.refusals.add(key)
        effect = self.effects.get(key)
        if effect is not None and not isinstance(effect.result, r.Refused):
            self.violated(f"request {key} was refused, but took effect: {effect}")

    def read(self, index: int, least_index: int, *, stale: bool) -> None:
        if index < least_index:
            self.violated(f"a read saw the state at {index}, not yet {least_index}")
        if not stale:
            self.acknowledged_index = max(self.acknowledged_index, index)
        self.count("stale reads" if stale else "reads")

    def believe(self, key: str, agent_id: str, token: int, until_s: float) -> None:
        """A client has just been told that its agent holds a lease."""
        if until_s <= self.now_s():
            return
        held = self.leases.get(key)
        if held is None or (held.holder, held.token) != (agent_id, token):
            self.violated(f"{agent_id} takes itself for the holder of {key}, which {held} is")
            return
        self.beliefs[key] = Belief(agent_id, token, until_s)

    def forget(self, key: str, agent_id: str) -> None:
        """A client is about to give a lease up, or to take it anew."""
        belief = self.beliefs.get(key)
        if belief is not None and belief.agent_id == agent_id:
            del self.beliefs[key]

    def watched(self, after: int, sequence: int, topic: str, data: bytes) -> None:
        """A watcher got an event after event `after`."""
        self.count("events watched")
        if sequence != after + 1:
            self.violated(f"a watcher got event {sequence} after event {after}")
        elif sequence > len(self.events) or self.events[sequence - 1][0] != topic:
            self.violated(f"a watcher got a {topic!r} as event {sequence}, which it is not")
        elif self._watched.setdefault(sequence, zlib.crc32(data)) != zlib.crc32(data):
            self.violated(f"event {sequence} was told in two ways")
