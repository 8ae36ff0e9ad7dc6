"""The story that the demo plays, one function for each act."""

from __future__ import annotations

import signal
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass

from rich.table import Table

from agentkeeper import AgentKeeperClient, PolicyEffect
from agentkeeper.cli.demo import checks
from agentkeeper.cli.demo.checks import Ack, Hold
from agentkeeper.cli.demo.stage import Actor, DemoFailed, Stage, wait_for
from agentkeeper.launcher import Node

WORKERS = 4
ORCHESTRATORS = 3
WRITERS = 2
DOOMED_TTL_S = 2
LOAD_BEFORE_KILL = 300  # acknowledged writes
LOAD_AFTER_KILL = 300
FAILOVER_PATIENCE_S = 30.0
DEATH_PATIENCE_S = 15.0


def agents_register(stage: Stage) -> list[Actor]:
    """Agents come up as processes, register, and are found by what they can do."""
    stage.act("1. Agents register and are found")
    workers = [stage.cast("worker", f"worker-{n}") for n in range(1, WORKERS + 1)]
    ids = {worker.first("registered")["agent_id"] for worker in workers}
    found = stage.client.find("read documents", tools=["pdf_reader"], limit=50)
    table = Table("name", "agent id", "status", "tools", box=None)
    for info in found:
        table.add_row(info.card.name, info.agent_id, info.status.value, ", ".join(info.card.tools))
    stage.console.print(table)
    missing = sorted(ids - {info.agent_id for info in found})
    stage.check(f"{len(ids)} processes registered, and a search by tool finds all of them", missing)
    return workers


def one_claims(stage: Stage, workers: list[Actor]) -> None:
    """Many wait for a task; one gets it."""
    stage.act("2. A task is claimed by exactly one of many")
    task = stage.client.create_task("summarise", b"report.pdf", required_tools=["pdf_reader"])
    stage.say(f"{len(workers)} workers wait; task {task.id} is created")

    def completed() -> list[str]:
        return [w.name for w in workers for r in w.told("completed") if r["task_id"] == task.id]

    wait_for("the task to be completed", completed)
    # Its claim, too, has been delivered when this event has.
    wait_for(
        "the event of the completion",
        lambda: stage.events.find("task.completed", lambda payload: _id(payload) == task.id),
    )
    claims = {w.name: [r["task_id"] for r in w.told("claimed")] for w in workers}
    by = checks.claimers(claims, task.id)
    done = stage.client.get_task(task.id)
    stage.say(
        f"{' and '.join(by) or 'nobody'} claimed it: {done.output.decode()!r}, {done.status.value}"
    )
    claimed = [
        e for e in stage.events.all() if e.topic == "task.claimed" and _id(e.payload) == task.id
    ]
    stage.check(
        "exactly one worker claimed it, by the workers' word and by the events",
        [] if len(by) == len(claimed) == 1 else [f"claimed by {by}; {len(claimed)} events"],
    )


def _id(payload: object) -> str:
    return getattr(payload, "id", "")


def orchestrators_elect(stage: Stage) -> None:
    """Standbys wait behind a leader; it leaves, one of them leads."""
    stage.act("3. Orchestrators elect a leader")
    group = "orchestrator:pipeline"
    actors = [
        stage.cast("orchestrator", f"orchestrator-{n}", group) for n in range(1, ORCHESTRATORS + 1)
    ]
    by_id = {actor.first("registered")["agent_id"]: actor for actor in actors}
    states = [actor.first("election") for actor in actors]
    first = states[0]
    agreed = all(state == first for state in states)
    leader = by_id[first["leader"]]
    stage.say(f"{leader.name} leads in term {first['term']}; it is told to stop")
    leader.child.signal(signal.SIGTERM)
    standbys = [actor for actor in actors if actor is not leader]

    def successors() -> list[tuple[str, int]] | None:
        told = [actor.told("election")[-1] for actor in standbys]
        changed = [(t["leader"], t["term"]) for t in told if t["leader"] != first["leader"]]
        return changed if len(changed) == len(standbys) else None

    after = wait_for("the standbys to learn of a new leader", successors)
    successor, term = after[0]
    stage.say(f"{by_id[successor].name} leads in term {term}")
    fine = agreed and len(set(after)) == 1 and term == first["term"] + 1
    stage.check(
        "all saw the same leader, then the same successor, one term later",
        [] if fine else [f"first {states}, then {after}"],
    )
    for actor in standbys:
        actor.child.signal(signal.SIGTERM)


def policies_decide(stage: Stage) -> None:
    """Policies allow and deny."""
    stage.act("4. Policies allow and deny")
    client = stage.client
    client.set_policy("allow-workers", "agent:worker-*", "call", "tool:*", PolicyEffect.ALLOW)
    client.set_policy("no-deleting", "agent:*", "call", "tool:delete_*", PolicyEffect.DENY)
    problems = []
    for subject, resource, expected in (
        ("agent:worker-1", "tool:pdf_reader", True),
        ("agent:worker-1", "tool:delete_file", False),
        ("agent:stranger", "tool:pdf_reader", False),
    ):
        result = client.check_policy(subject, "call", resource)
        word = "[green]may[/]" if result.allowed else "[red]may not[/]"
        stage.say(f"{subject} {word} call {resource}: {result.reason}")
        if result.allowed != expected:
            problems.append(f"{subject} {resource}: {result}")
    stage.check("DENY overrides ALLOW, and what nothing allows is refused", problems)


def agent_dies(stage: Stage) -> None:
    """An agent is killed; the cluster notices and frees what it held."""
    stage.act("5. An agent is killed, and its lease is freed")
    key = "task:invoice-42"
    doomed = stage.cast("holder", "doomed", key, str(DOOMED_TTL_S))
    held = doomed.first("holding")
    stage.say(f"doomed (pid {doomed.child.pid}) holds {key} with token {held['token']}, for 600 s")
    with stage.client.register("successor", "Takes over", "1.0") as successor:
        if stage.client.acquire_lease(key, successor.agent_id) is not None:
            raise DemoFailed(f"{key} was granted twice")
        stage.say("successor asks for it, is refused, and stands in line; doomed gets SIGKILL")
        killed_s = time.monotonic()
        doomed.child.kill()
        lease = stage.client.acquire_lease(key, successor.agent_id, wait=DEATH_PATIENCE_S)
        waited_s = time.monotonic() - killed_s
        if lease is None:
            raise DemoFailed(f"{key} was not freed within {DEATH_PATIENCE_S:g} s")
        with lease:
            token = lease.lease.token
            stage.say(
                f"{waited_s:.1f} s later successor holds it with token {token}"
                f" (an agent's death takes two ttls of silence, here {2 * DOOMED_TTL_S} s)"
            )

        def died() -> bool:
            return bool(
                stage.events.find("agent.died", lambda p: p.agent_id == held["agent_id"])
                and stage.events.find("lease.released", lambda p: p.token == held["token"])
            )

        wait_for("the events of the death", died)
        stage.check(
            "the agent was declared dead, its lease released, and given on with a higher token",
            [] if token > held["token"] else [f"token {token} after {held['token']}"],
        )


@dataclass(frozen=True, slots=True)
class Ledger:
    """What the writers recorded."""

    writes: list[Ack]
    grants: list[Ack]
    holds: list[Hold]
    failures: list[str]


def read_ledger(writers: Iterable[Actor]) -> Ledger:
    """Collect the writers' records."""
    ledger = Ledger([], [], [], [])
    for writer in writers:
        for what, acks in (("wrote", ledger.writes), ("granted", ledger.grants)):
            acks.extend(Ack(r["tag"], r["begun_s"], r["acked_s"]) for r in writer.told(what))
        for r in writer.told("held"):
            hold = Hold(r["key"], r["holder"], r["token"], r["begin_s"], r["end_s"])
            ledger.holds.append(hold)
        ledger.failures.extend(r["error"] for r in writer.told("failed"))
    return ledger


def leader_dies(stage: Stage) -> tuple[Node, Ledger]:
    """The replica that leads is killed while writers write."""
    stage.act("6. The Raft leader is killed under load")
    writers = [stage.cast("writer", f"writer-{n}") for n in range(1, WRITERS + 1)]

    def busy(count: int, since_s: float = 0.0) -> bool:
        writes = read_ledger(writers).writes
        return sum(1 for ack in writes if ack.begun_s >= since_s) >= count

    wait_for("the load to begin", lambda: busy(LOAD_BEFORE_KILL))
    leader = stage.cluster.leader()
    stage.say(f"{WRITERS} processes write; {leader.name} (pid {leader.pid}) leads: SIGKILL")
    killed_s = time.monotonic()
    leader.kill()
    dead_s = time.monotonic()
    wait_for("writes after the kill", lambda: busy(LOAD_AFTER_KILL, dead_s), FAILOVER_PATIENCE_S)
    successor = stage.cluster.leader()
    for writer in writers:
        writer.child.signal(signal.SIGTERM)
    wait_for("the writers to end", lambda: all(w.child.exit_code is not None for w in writers))
    ledger = read_ledger(writers)
    exits = checks.bad_exits({writer.name: writer.child.exit_code for writer in writers})
    acks = ledger.writes + ledger.grants
    failover_s = checks.failover_s(acks, killed_s, dead_s)
    stage.say(f"{successor.name} leads now")
    stage.say(
        f"[bold]failover took {failover_s:.2f} s[/] from the kill to the first acknowledged write"
        " that began after its death"
        if failover_s is not None
        else "no write was acknowledged after the kill"
    )
    stage.say(
        f"{len(ledger.writes)} writes and {len(ledger.grants)} leases acknowledged; the longest"
        f" silence was {checks.longest_silence_s(acks):.2f} s"
    )
    stage.check("no call of the writers failed: they only took longer", ledger.failures + exits)
    return leader, ledger


def nothing_is_lost(stage: Stage, killed: Node, ledger: Ledger) -> None:
    """Every acknowledged write is there, at every replica; then also at the one that returns."""
    stage.act("7. Was anything lost? Did a lease ever have two holders?")
    survivors = [node for node in stage.cluster.nodes.values() if node is not killed]
    for node in survivors:
        _check_writes(stage, node, ledger)
    _check_leases(stage, ledger)
    stage.say(f"{killed.name} is started again")
    killed.start()
    stage.cluster.wait_ready(nodes=[killed])
    _check_writes(stage, killed, ledger)


def _check_writes(stage: Stage, node: Node, ledger: Ledger) -> None:
    with AgentKeeperClient(endpoints=[node.endpoint]) as client:
        found = [t.input.decode() for t in client.list_tasks() if t.type == "demo.write"]
    tags = [ack.tag for ack in ledger.writes]
    stage.check(
        f"read through {node.name}: all {len(tags)} acknowledged writes are there, each once",
        checks.lost_writes(tags, found) + checks.repeated_writes(found),
    )


def _check_leases(stage: Stage, ledger: Ledger) -> None:
    # An event of the end shows that everything before it has been delivered too.
    marker = f"end-of-story-{uuid.uuid4()}"
    stage.client.set_policy(marker, "none", "none", "none", PolicyEffect.DENY)
    wait_for("the last event", lambda: stage.events.find("policy.set", lambda p: _id(p) == marker))
    events = stage.events.all()
    stage.check(
        f"by the holders' own records, no two of {len(ledger.holds)} holds of a lease overlap,"
        " and tokens only rise",
        checks.overlapping_holds(ledger.holds) if ledger.holds else ["nobody held anything"],
    )
    stage.check(
        "by the events, no lease was granted while another held it",
        checks.double_holders(events),
    )
    stage.check(
        "every hold has its grant among the events",
        checks.unrecorded_holds(ledger.holds, events),
    )
    stage.check(
        f"the watch went on through the kill: {len(events)} events without gap or repeat",
        checks.sequence_gaps([event.sequence for event in events]),
    )


def play(stage: Stage) -> None:
    """Play all acts."""
    workers = agents_register(stage)
    one_claims(stage, workers)
    orchestrators_elect(stage)
    policies_decide(stage)
    agent_dies(stage)
    killed, ledger = leader_dies(stage)
    nothing_is_lost(stage, killed, ledger)
