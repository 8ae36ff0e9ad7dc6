"""One sample of each command and result, and a state that has something in every table.

The bytes of all of them are kept in `golden/`. They are written once per encoding, by running this
file; a test fails when they change, as logs and snapshots on disk would no longer be read.
"""

import json
from pathlib import Path

from core_story import WALL, Story, card

from agentkeeper.core import codec
from agentkeeper.core import commands as c
from agentkeeper.core import records as r
from agentkeeper.core.snapshot import capture, pack_snapshot

GOLDEN = Path(__file__).parent / "golden"
CARD = r.Card(
    "crawler-é", "Fetches pages", "2.1.0", (r.Capability("fetch", "gets a page"),),
    ("browser", "http"), (("team", "search"), ("zone", "eu")),
)  # fmt: skip
LEASE = r.Lease("deploy", "ann", 7, 60_000, WALL, WALL + 60_000, 61_000, ("s", 3))
TASK = r.Task(
    "t1", "crawl", 2, ("browser",), 3, 1, 1, "ann", 9, "broke", WALL, WALL + 1, 0, 5, "nightly",
    60_000, 61_000, 12,
)  # fmt: skip

BODIES = [
    c.Register("ann", CARD, 30_000, 1),
    c.Heartbeat("ann"),
    c.Deregister("ann"),
    c.AcquireLease("deploy", "ann", 60_000, 5_000, True),
    c.RenewLease("deploy", "ann", 2**53 - 1, 0),
    c.ReleaseLease("deploy", "ann", 2**64 - 1),
    c.Campaign("east", "ann"),
    c.Resign("east", "ann"),
    c.SetPolicy(r.Policy("p1", "agent:*", "call", "tool:*", 2)),
    c.DeletePolicy("p1"),
    c.CreateTask("t1", "crawl", b"\x00\xff", ("browser", "http"), 3, 60_000, -5, "nightly"),
    c.ClaimTask("ann"),
    c.CompleteTask("t1", "ann", 9, b"\x80out"),
    c.FailTask("t1", "ann", 9, "broke"),
    c.ExtendTask("t1", "ann", 9, 5_000),
    c.RequeueTask("t1"),
    c.OpenSession("s", 600_000, 256),
    c.CloseSession("s"),
    c.Withdraw("s", 3, 77),
    c.Takeover(3_000),
    c.Announce("a", "10.0.0.1:7070", "0.2.0", 1),
    c.RaiseVersion(2),
]
SINCE = {c.RaiseVersion: 2}
"""Encodings that the commands came with; all others with the first."""
RESULTS = [
    r.Registered("ann"),
    LEASE,
    r.Election("east", 4, WALL, 17, ("ann",), 0),
    r.Policy("p1", "agent:*", "call", "tool:*", 2),
    TASK,
    r.Session("s", "alice", 600_000, 256, 2, 601_000),
    r.Refused("NOT_FOUND", "not_found", "no such agent: 'ann'"),
    r.Acquired(True, LEASE._replace(grant=None)),
    r.WAITING,
    r.DONE,
]


def bodies(encoding):
    return [body for body in BODIES if SINCE.get(type(body), 1) <= encoding]


def command(body):
    return c.Command("alice", "s", 3, 2, body, 77)


def answer(result):
    return r.Answer(result, 0xDEADBEEF, 77)


def golden(name):
    return json.loads((GOLDEN / f"{name}.json").read_text())


def fields(encoding):
    """Names of the fields of each record, in order: a swap of two may leave the bytes alone."""
    kinds = {
        c.Command,
        c.Batch,
        r.Agent,
        r.Card,
        r.Capability,
        r.Waiter,
        r.Replica,
        r.Event,
        r.Answer,
    }
    kinds |= {type(each) for each in [*bodies(encoding), *RESULTS]}
    return {kind.__name__: list(kind._fields) for kind in sorted(kinds, key=lambda k: k.__name__)}


def encoded(encoding):
    """Hex of everything that is logged, forwarded, or kept as an answer, and the fields in it."""
    commands = [command(body) for body in bodies(encoding)]
    batches = {type(x.body).__name__: c.Batch(1_000, WALL, (x,)) for x in commands}
    batches["empty"] = c.Batch(0, 0, ())
    batches["all"] = c.Batch(2**53 - 1, WALL, tuple(commands))
    return {
        "fields": fields(encoding),
        "batches": {
            name: codec.pack_batch(batch, encoding).hex() for name, batch in batches.items()
        },
        "forwarded": codec.pack_commands(commands, encoding).hex(),
        "answers": {
            type(result).__name__: codec.pack(codec.answer_row(answer(result))).hex()
            for result in RESULTS
        },
    }  # fmt: skip


def rich_story(version=1):
    """A state with something in every table, some of it about to happen."""
    story = Story().agent("ann", "bob", ttl=50_000).agent("cyd", ttl=10**9, tools=("gpu",))
    story.agent("dead").do(c.Deregister("dead"))
    story.session("sa", "sb")
    for agent_id in ("ann", "bob"):
        story.do(c.Campaign("east", agent_id))
    story.do(c.Campaign("empty", "ann"))
    story.do(c.Resign("empty", "ann"))
    story.do(c.SetPolicy(r.Policy("p1", "agent:*", "call", "*", 2)))
    story.do(c.SetPolicy(r.Policy("p2", "ann", "call", "*", 1)))
    story.acquire("granted", "cyd", ttl=1_000)
    story.acquire("granted", "ann", wait=9_000, session="sa", number=1)
    story.at(1_000).acquire("deploy", "ann", ttl=3_000)
    story.acquire("deploy", "bob", wait=30_000, session="sb", number=1)
    story.acquire("deploy", "cyd", wait=30_000, session="sb", number=2)
    story.acquire("index", "bob", session="sb", number=3)
    story.do(c.Heartbeat("ann"), session="sb", number=4)
    story.task("t1", data=b"in", key="nightly", priority=3)
    story.task("t2", tools=("gpu",))
    story.task("t3", data=b"more")
    story.claim("ann", session="sa", number=2)
    story.claim("cyd")
    story.do(c.CompleteTask("t1", "ann", 0, b"out"))
    story.do(c.Register("eve", CARD, 30_000, 0), session="sb", number=5)
    story.do(c.Register("eve", card(), 30_000, 0), session="sb", number=6)
    story.do(c.Announce("a", "10.0.0.1:7070", "0.2.0", 1))
    if version > 1:
        story.do(c.RaiseVersion(version))
    return story


def write():
    """Write the files of the present encoding. For a new encoding only, beside the old files."""
    state = rich_story(codec.ENCODING).state
    snapshot = b"".join(pack_snapshot(capture(state, 42))).hex()
    for name, content in [
        (f"commands-{codec.ENCODING}", encoded(codec.ENCODING)),
        (f"snapshot-{codec.ENCODING}", {"digest": state.digest(), "snapshot": snapshot}),
    ]:
        path = GOLDEN / f"{name}.json"
        if path.exists():
            raise SystemExit(f"{path} stands for good: a changed encoding needs a new number")
        path.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    write()
