"""What each named snippet is given, and what must be true once it has run.

A case is a generator: it yields the names that the reader would have defined, then looks.
"""

from __future__ import annotations

import re

import pytest

from agentkeeper import AgentStatus, TaskStatus

from .case import case

# ---------------------------------------------------------------- concepts


@case("agents")
def agents(world):
    yield {}
    assert world.printed == ["AgentStatus.ALIVE", "deregistered"]


@case("leases")
def leases(world):
    yield {}
    assert re.fullmatch(r"mine, under token \d+", world.printed[0])
    taken = world.client.acquire_lease("invoice-42", world.agent().agent_id)
    assert taken is not None


@case("policies")
def policies(world):
    yield {}
    assert world.printed == ['False denied by policy "no-writes"']


# ---------------------------------------------------------------- orchestrators


def batches(count):
    """A `work_left` and a `plan_one_batch` that keep the terms in which they were called."""
    terms = []
    return terms, {"work_left": lambda: len(terms) < count, "plan_one_batch": terms.append}


@case("lead")
def lead(world):
    terms, provided = batches(3)
    yield provided
    assert len(terms) == 3
    assert len(set(terms)) == 1
    after = world.client.campaign("invoices", world.agent().agent_id)
    assert after.term > terms[0]


@case("stand-by-again")
def stand_by_again(world):
    led = []

    def plan_until_done(leadership):
        led.append(leadership)
        if len(led) == 1:
            world.agent("orchestrator", on_name_conflict="replace")
            assert leadership.lost.wait(30)
            leadership.check()
            pytest.fail("check() let a lost leadership pass")

    yield {"plan_until_done": plan_until_done}
    first, second = led
    assert first.agent_id != second.agent_id
    assert second.term > first.term
    assert world.printed[0].startswith("standing by again:")


@case("on-lost")
def on_lost(world):
    stopped = []

    def work_left():
        if not stopped:
            world.agent("orchestrator", on_name_conflict="replace")
            stopped.append(world.names["stop"].wait(30))
        return True

    yield {"work_left": work_left, "plan_one_batch": lambda term: None}
    assert stopped == [True]
    assert bool(world.names["leadership"].lost)


@case("give-out-work")
def give_out_work(world):
    yield {}
    ids = [line.split()[1] for line in world.printed]
    assert ids[0] == ids[2] != ids[1]


@case("choose-an-agent")
def choose_an_agent(world):
    assigned, worked = [], []

    def do_work(task_id, token):
        # Meanwhile another orchestrator looks for somebody to do it.
        assert world.names["choose"](world.client, task_id) is None
        assert world.client.verify_token(task_id, token)
        worked.append(task_id)

    yield {
        "assign": lambda agent_id, task_id: assigned.append((agent_id, task_id)),
        "do_work": do_work,
    }
    assert assigned == [(world.names["reader"].agent_id, "invoice-43")]
    assert worked == ["invoice-43"]


# ---------------------------------------------------------------- finding


@case("find-by-meaning")
def find_by_meaning(world):
    yield {}
    *agents, how = world.printed
    assert {line.split()[1] for line in agents} >= {"menus:", "expenses:"}
    assert how == "FindMode.LEXICAL 0", "the daemon has no model"


@case("find-or-wait")
def find_or_wait(world):
    yield {}
    assert "archive" in world.printed[0]


# ---------------------------------------------------------------- workers


@case("worker", program=True)
def worker(world):
    task = world.client.create_task("extract", b"a", required_tools=["pdf_reader"])
    world.eventually(
        lambda: world.client.get_task(task.id).status is TaskStatus.COMPLETED, "the task completed"
    )
    world.names["stop"] = True
    yield {}
    assert world.client.get_task(task.id).output == b"total of a"
    assert world.client.find(tools=["pdf_reader"]) == []


@case("worker-in-background")
def worker_in_background(world):
    task = world.client.create_task("extract", b"abc", required_tools=["pdf_reader"])

    def serve_until_told_to_stop():
        world.eventually(
            lambda: world.client.get_task(task.id).status is TaskStatus.COMPLETED, "completed"
        )

    yield {"serve_until_told_to_stop": serve_until_told_to_stop}
    assert world.client.get_task(task.id).output == b"ABC"


@case("idempotent-handler")
def idempotent_handler(world):
    saved = []
    task = world.client.create_task("extract", b"abc", required_tools=["pdf_reader"])
    yield {
        "extract_total": bytes.upper,
        "save_total": lambda *what: saved.append(what),
        "serve_until_told_to_stop": lambda: world.eventually(
            lambda: world.client.get_task(task.id).status is TaskStatus.COMPLETED, "completed"
        ),
    }
    [(task_id, total, token)] = saved
    assert (task_id, total) == (task.id, b"ABC")
    assert token > 0


@case("dead-tasks")
def dead_tasks(world):
    agent = world.agent("scanner", tools=["ocr"])
    task = world.client.create_task("scan", b"a", required_tools=["ocr"])
    claimed = world.client.claim_task(agent.agent_id, timeout=30)
    assert claimed.id == task.id
    world.client.fail_task(task.id, agent.agent_id, "paper jam")
    yield {"worth_another_try": lambda dead: dead.failure_reason == "paper jam"}
    assert any("paper jam" in line for line in world.printed)
    assert world.client.get_task(task.id).status is TaskStatus.PENDING
    world.client.claim_task(agent.agent_id, timeout=30)
    world.client.complete_task(task.id, agent.agent_id)


@case("claim-by-hand")
def claim_by_hand(world):
    good = world.client.create_task("scan", b"good", required_tools=["ocr"])
    bad = world.client.create_task("scan", b"bad", required_tools=["ocr"])

    def extract_total(document):
        if document == b"bad":
            raise ValueError("unreadable")
        return b"total of " + document

    yield {"extract_total": extract_total}
    assert world.client.get_task(good.id).output == b"total of good"
    assert world.client.get_task(bad.id).status is TaskStatus.DEAD
    assert world.client.get_task(bad.id).failure_reason == "unreadable"


# ---------------------------------------------------------------- watching


@case("callback")
def callback(world):
    def run_for_a_while():
        with world.client.register("mayfly", "Dies soon", "1") as agent:
            pass
        world.printed_line(f"agent.died {agent.agent_id} deregistered")

    yield {"run_for_a_while": run_for_a_while}


@case("loop")
def loop(world):
    agent = world.agent("clumsy", tools=["hammer"])
    failed = []

    def create_a_task_that_fails():
        task = world.client.create_task("hit", required_tools=["hammer"])
        world.client.claim_task(agent.agent_id, timeout=30)
        world.client.fail_task(task.id, agent.agent_id, "thumb")
        failed.append(task.id)

    yield {"create_a_task_that_fails": create_a_task_that_fails}
    assert world.printed == [f"{failed[0]} thumb"]


@case("resume")
def resume(world):
    handled, saved = [], []
    with world.client.register("mayfly", "Dies soon", "1"):
        pass
    yield {"load_position": lambda: 0, "handle": handled.append, "save_position": saved.append}
    assert handled[-1].topic == "agent.died"
    assert saved == [event.sequence for event in handled] == sorted(saved)
    assert handled[0].topic == "agent.registered"


@case("gaps")
def gaps(world):
    handled = []

    def run_for_a_while():
        world.agent("late")
        world.eventually(
            lambda: any(e.topic == "agent.registered" for e in handled), "a registration"
        )
        from agentkeeper import WatchGap

        world.names["on_gap"](WatchGap(after=4, oldest=8))

    reloaded = []
    yield {
        "handle": handled.append,
        "load_position": lambda: 0,
        "reload_everything": lambda: reloaded.append(True),
        "run_for_a_while": run_for_a_while,
    }
    assert reloaded == [True]
    assert world.printed == ["events after 4 are gone; the first one kept is 8"]


@case("election")
def election(world):
    agent = world.agent("leader")
    world.client.campaign("invoices", agent.agent_id)

    def run_for_a_while():
        world.printed_line(agent.agent_id)
        world.client.resign("invoices", agent.agent_id)
        world.printed_line("nobody")

    yield {"run_for_a_while": run_for_a_while}


# ---------------------------------------------------------------- errors


@case("retry")
def retry(world):
    yield {}
    assert world.printed == ["TaskStatus.PENDING"]
    again = world.names["create_once"](world.client, "invoice-60")
    assert sum(t.id == again.id for t in world.client.list_tasks()) == 1


@case("codes")
def codes(world):
    yield {}
    assert "no-such-task" in world.printed[0]


@case("lease-lost")
def lease_lost(world):
    def do_work(lease):
        agent_id = lease.lease.holder_agent_id
        world.client.acquire_lease("invoice-61", agent_id)  # a new token: the handle is stale

    yield {"do_work": do_work}
    assert world.printed == ["lost; somebody else may have worked on it at the same time"]


# ---------------------------------------------------------------- asyncio


@case("async-lease")
def async_lease(world):
    tokens = []

    async def do_work(token):
        tokens.append(token)

    yield {"do_work": do_work}
    assert len(tokens) == 1


@case("async-entering")
def async_entering(world):
    yield {}
    assert re.fullmatch(r"token \d+", world.printed[0])
    assert world.printed[1:] == ["nothing to enter: the call gave None"]


@case("async-many")
def async_many(world):
    yield {}
    assert world.printed == ["10"]


@case("async-worker")
def async_worker(world):
    yield {}
    assert world.printed == ["b'INVOICE-71'"]


@case("async-blocked")
def async_blocked(world):
    yield {}
    assert world.printed == [str(AgentStatus.ALIVE)]


@case("async-loops")
def async_loops(world):
    yield {}
    assert sorted(line.split()[0] for line in world.printed) == ["loop-0", "loop-1"]


@case("spawn", program=True)
def spawn(world):
    yield {}
    assert world.printed[0].startswith("child ")
    assert world.printed[1].startswith("exit code 0")
