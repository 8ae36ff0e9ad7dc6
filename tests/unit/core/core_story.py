"""Telling a story to the state machine: one command at a time, at a time of one's choosing."""

from agentkeeper.core import commands as c
from agentkeeper.core.apply import apply
from agentkeeper.core.codec import thaw, unpack
from agentkeeper.core.records import Card, Refused
from agentkeeper.core.state import State

WALL = 1_700_000_000_000


def card(name="worker", tools=()):
    return Card(name, "does work", "1.0", (), tuple(tools), ())


class Story:
    """A state, its clock, and all events since `forget`."""

    def __init__(self, state=None):
        self.state = state or State()
        self.now = self.state.time_ms
        self.events = []

    def at(self, time_ms):
        """Let the clock stand at `time_ms`; whatever is due happens."""
        self.now = time_ms
        self.batch()
        return self

    def batch(self, *commands):
        """Apply several commands in one log entry."""
        batch = c.Batch(self.now, WALL + self.now, tuple(commands))
        results, events = apply(self.state, batch)
        self.events += events
        return results

    def do(self, body, session="", number=0, seen=0, identity="alice", *, attempt=0):
        """Apply one command in an entry of its own."""
        return self.batch(c.Command(identity, session, number, seen, body, attempt))[0]

    def forget(self):
        self.events = []
        return self

    def topics(self):
        """What happened, shortly: topic, subject, and the reason if there is one."""
        return [" ".join(filter(None, (e.topic, e.subject, e.reason))) for e in self.events]

    def payloads(self, kind, topic):
        return [thaw(kind, unpack(e.payload)) for e in self.events if e.topic == topic]

    # Short words for what stories are full of.

    def agent(self, *agent_ids, ttl=30_000, tools=(), name=None):
        for agent_id in agent_ids:
            self.do(c.Register(agent_id, card(name or agent_id, tools), ttl, 0))
        return self

    def session(self, *session_ids, ttl=10**9, window=100):
        for session_id in session_ids:
            self.do(c.OpenSession(session_id, ttl, window))
        return self

    def acquire(self, task_id, agent_id, ttl=60_000, wait=0, exclusive=False, **request):
        return self.do(c.AcquireLease(task_id, agent_id, ttl, wait, exclusive), **request)

    def release(self, task_id, agent_id, token):
        return self.do(c.ReleaseLease(task_id, agent_id, token))

    def renew(self, task_id, agent_id, token, ttl=0):
        return self.do(c.RenewLease(task_id, agent_id, token, ttl))

    def task(self, task_id, *, tools=(), retries=0, ttl=60_000, priority=0, key="", data=b""):
        body = c.CreateTask(task_id, "crawl", data, tuple(tools), retries, ttl, priority, key)
        return self.do(body)

    def claim(self, agent_id, **request):
        return self.do(c.ClaimTask(agent_id), **request)

    def status(self, agent_id):
        return self.state.agents.get(agent_id).status


def reason(result):
    """Why a command was refused."""
    assert isinstance(result, Refused), result
    return result.code, result.reason


NOT_FOUND = ("NOT_FOUND", "not_found")
STALE = ("PERMISSION_DENIED", "stale_token")
FULL = ("RESOURCE_EXHAUSTED", "limit")
