"""Random logs: batches of commands that are likely to mean something to the state they meet.

Choices come from a `Dice`: bytes drawn by Hypothesis (which it can shrink), or a seeded generator.
Small sets of names and small limits make everything happen that can: collisions, full tables,
retries, stale numbers, deaths in the middle of a wait.
"""

from contextlib import contextmanager

import pytest

from agentkeeper.core import commands as c
from agentkeeper.core import limits
from agentkeeper.core.records import Acquired, Capability, Card, Policy, Task, TaskStatus

SMALL_LIMITS = {
    "AGENTS": 5, "DEAD_AGENTS": 3, "CARDS_BYTES": 400, "LEASES": 3, "LEASES_EACH": 2,
    "LEASE_WAITERS": 6, "LEASE_WAITERS_EACH": 4, "GROUPS": 2, "GROUPS_EACH": 1,
    "CANDIDATES_EACH": 3, "POLICIES": 4, "PATTERN_SUBJECTS": 2, "TASKS": 5, "CLAIMS_EACH": 2,
    "FINISHED_TASKS": 3, "TASK_BYTES": 60, "TOOL_SETS": 3, "SESSIONS": 4, "EVENTS": 40,
    "EVENT_BYTES": 2_500, "REPLICAS": 2, "CLAIM_EXPIRIES": 3, "DUE_WORK_PER_ENTRY": 1,
    "DIGEST_BACKLOG": 7, "AGENT_RETENTION_MS": 15_000, "TASK_RETENTION_MS": 20_000,
    "GROUP_RETENTION_MS": 25_000,
}  # fmt: skip
AGENTS = [f"agent{i}" for i in range(8)]
LEASES = ["deploy", "index", "report", "train"]
GROUPS = ["east", "north", "west"]
SESSIONS = ["s0", "s1", "s2", "s3", "s4"]
TOOLS = [(), ("browser",), ("gpu",), ("browser", "gpu"), ("ssh",)]
TTLS = [1_000, 2_000, 5_000, 20_000]
LONG_TTLS = [3_000, 10_000, 60_000]


@contextmanager
def small_limits():
    """Bounds so small that random traffic meets them."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SMALL_LIMITS.items():
            patch.setattr(limits, name, value)
        yield


class ByteDice:
    """Choices from bytes; nothing but the first choice once they have run out."""

    def __init__(self, data):
        self._bytes = iter(data)

    def roll(self, sides):
        return next(self._bytes, 0) % sides


class RandomDice:
    """Choices from a seeded generator."""

    def __init__(self, random):
        self._random = random

    def roll(self, sides):
        return self._random.randrange(sides)


class Traffic:
    """Writes the next batch of a log, looking at the state that all before it led to."""

    def __init__(self, dice, state):
        self._roll = dice.roll
        self._state = state
        self._sent = {}  # commands by session, in order of sending
        self._tasks = 0

    def batch(self):
        time_ms = self._time()
        commands = [self._command() for _ in range(self._roll(5))]
        wall_ms = 1_700_000_000_000 + time_ms + self._roll(3) * 1_000
        return c.Batch(time_ms, wall_ms, tuple(commands))

    def _time(self):
        now, due, kind = self._state.time_ms, self._state.next_due_ms(), self._roll(16)
        if kind in (1, 2) and due is not None:
            return due - (kind == 1)  # just before it, and at it
        if kind == 4:
            return now + self._pick([2_500, 5_000, 10_000, 40_000])
        jumps = {5: -5_000, 6: 300, 7: 300, 8: 1_000}
        return max(0, now + jumps.get(kind, 0))

    def _command(self):
        if self._roll(6) == 1:
            again = self._repeated()
            if again is not None:
                return again
        make = _MAKERS[self._roll(len(_MAKERS))]
        return self._addressed(make(self))

    def _addressed(self, body):
        """`body` under a session or none, under a number that is new, or wrong."""
        waits = isinstance(body, c.AcquireLease) and body.wait_ms > 0
        opened = sorted(self._state.sessions)
        if isinstance(body, c.OpenSession):
            identity = "replica:a" if body.session_id == "s0" else "x"
            self._sent[body.session_id] = self._sent_under(body.session_id)
            return c.Command(identity if self._roll(16) != 1 else "y", "", 0, 0, body)
        if not waits and (not opened or self._roll(3) == 1):
            return c.Command("x", "", 0, 0, body)
        session_id = self._pick(opened) if opened and self._roll(16) != 1 else self._pick(SESSIONS)
        sent = self._sent_under(session_id)
        last = max((command.number for command in sent), default=0)
        number = last + 1
        if self._roll(12) == 1:
            number = self._roll(last + 12)
        seen = self._seen(session_id, last)
        command = c.Command("x", session_id, number, seen, body, self._attempt(body))
        if self._roll(24) == 1:
            return command._replace(identity="y")
        self._sent[session_id] = [*sent, command]
        return command

    def _sent_under(self, session_id):
        return self._sent.get(session_id, []) if session_id in self._state.sessions else []

    def _seen(self, session_id, last):
        session = self._state.sessions.get(session_id)
        if session is None:
            return 0
        kind = self._roll(8)
        if kind == 1:
            return self._roll(last + 3)
        return max(session.seen, last - 1 - kind % 4)

    def _repeated(self):
        """A command again: a retry, or a waiting request that asks for its grant."""
        granted = sorted(self._state.grants)
        if granted and self._roll(4):
            session_id, number = self._pick(granted)
        else:
            sent = [(s, x.number) for s in sorted(self._sent) for x in self._sent_under(s)]
            if not sent:
                return None
            session_id, number = sent[-1 - self._roll(min(len(sent), 12))]
        for command in self._sent_under(session_id):
            if command.number == number:
                return command._replace(attempt=self._attempt(command.body))
        return None

    def _attempt(self, body):
        """Calls that might withdraw their request draw a number for each attempt."""
        return self._roll(3) if isinstance(body, c.AcquireLease | c.ClaimTask) else 0

    def _pick(self, choices):
        return choices[self._roll(len(choices))]

    def _agent(self):
        living = sorted(self._state.tool_sets)
        return self._pick(living) if living and self._roll(10) != 1 else self._pick(AGENTS)

    def _register(self):
        card = Card(
            self._pick(["worker", "orchestrator", "crawler"]), "does work", "1.0",
            (Capability("fetch", "gets pages"),) * self._roll(2), self._pick(TOOLS),
            (("zone", "a"),) * self._roll(2),
        )  # fmt: skip
        conflict = self._pick([0, 0, 0, 1, 2])
        return c.Register(self._pick(AGENTS), card, self._pick(LONG_TTLS), conflict)

    def _acquire(self):
        wait_ms = self._pick([0, 3_000, 10_000, 30_000])
        exclusive = self._roll(3) == 1
        task_id = self._pick(sorted(self._state.leases) or LEASES if wait_ms else LEASES)
        return c.AcquireLease(task_id, self._agent(), self._pick(TTLS), wait_ms, exclusive)

    def _held(self):
        """Task, holder and token of a lease; now and then one of them is wrong."""
        lease = self._state.leases.get(self._pick(LEASES))
        if lease is None or self._roll(8) == 1:
            return self._pick(LEASES), self._agent(), self._roll(5)
        token = lease.token - (self._roll(8) == 1)
        return lease.task_id, lease.holder if self._roll(8) != 1 else self._agent(), token

    def _claimed(self):
        """The same of a task."""
        claimed = sorted(t for t in self._state.tasks.values() if t.status == TaskStatus.CLAIMED)
        if not claimed or self._roll(8) == 1:
            claimed = sorted(self._state.tasks.values())
        if not claimed:
            return "t0", self._agent(), 0
        task = self._pick(claimed)
        token = self._pick([0, task.claim_token, task.claim_token, task.claim_token - 1])
        agent_id = self._agent() if self._roll(8) == 1 else task.claimed_by or self._agent()
        return task.task_id, agent_id, max(0, token)

    def _create_task(self):
        self._tasks += self._roll(8) != 1
        key = self._pick(["", "", "", "nightly", "weekly"])
        tools = self._pick([*TOOLS, ("gpu", "browser")])
        return c.CreateTask(
            f"t{self._tasks}", "crawl", b"i" * self._pick([0, 4, 9, 30, 60]), tools,
            self._roll(3), self._pick(TTLS), self._roll(3), key,
        )  # fmt: skip

    def _dead_task(self):
        dead = sorted(t.task_id for t in self._state.tasks.values() if t.status == TaskStatus.DEAD)
        return self._pick(dead) if dead and self._roll(4) else f"t{self._roll(self._tasks + 1)}"

    def _policy(self):
        part = ["*", "a*", "*1", "a1", "b1"]
        subject, action, resource = (self._pick(part) for _ in range(3))
        return Policy(f"p{self._roll(5)}", subject, action, resource, 1 + self._roll(2))

    def _withdraw(self):
        known = sorted(self._state.grants) or sorted(self._state.waiters)
        answers = self._state.answers
        if not known or self._roll(2) == 1:
            given = (Task, Acquired)
            known = [key for key in sorted(answers) if isinstance(answers.get(key).result, given)]
        if not known or self._roll(4) == 1:
            known = sorted(answers) or [("s1", 1)]
        session_id, number = self._pick(known)
        answer = answers.get((session_id, number))
        attempt = answer.attempt if answer and self._roll(4) != 1 else self._roll(3)
        return c.Withdraw(session_id, number + (self._roll(6) == 1), attempt)

    def _open_session(self):
        return c.OpenSession(self._pick(SESSIONS), self._pick(LONG_TTLS), 3 + self._roll(3))

    def _announce(self):
        encoding = 1 + self._roll(2)
        return c.Announce(self._pick(["a", "b", "c"]), f"h:{self._roll(3)}", "1", encoding)


_MAKERS = [
    *[Traffic._register] * 6,
    *[lambda t: c.Heartbeat(t._agent())] * 6,
    lambda t: c.Deregister(t._agent()),
    *[Traffic._acquire] * 9,
    *[lambda t: c.RenewLease(*t._held(), t._pick([0, *TTLS]))] * 2,
    *[lambda t: c.ReleaseLease(*t._held())] * 3,
    *[lambda t: c.Campaign(t._pick(GROUPS), t._agent())] * 4,
    *[lambda t: c.Resign(t._pick(GROUPS), t._agent())] * 2,
    *[lambda t: c.SetPolicy(t._policy())] * 2,
    lambda t: c.DeletePolicy(f"p{t._roll(5)}"),
    *[Traffic._create_task] * 5,
    *[lambda t: c.ClaimTask(t._agent())] * 7,
    *[lambda t: c.CompleteTask(*t._claimed(), b"o" * t._pick([0, 3, 20]))] * 2,
    *[lambda t: c.FailTask(*t._claimed(), "broke")] * 2,
    lambda t: c.ExtendTask(*t._claimed(), t._pick([0, *TTLS])),
    lambda t: c.RequeueTask(t._dead_task()),
    *[Traffic._open_session] * 3,
    lambda t: c.CloseSession(t._pick(SESSIONS)),
    *[Traffic._withdraw] * 2,
    lambda t: c.Takeover(t._pick([1_000, 3_000])),
    Traffic._announce,
    lambda t: c.RaiseVersion(2),
]
