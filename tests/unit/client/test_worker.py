"""Workers: what handlers return and raise, how many run at a time, and how it all ends."""

import asyncio
import contextlib
import threading

import pytest
from sdk_story import PATIENCE_S, Way, an_agent, background, eventually

from agentkeeper import AgentLost, ClaimLost, ClientClosed, TaskStatus
from agentkeeper.testing import FakeKeeper


class Shop:
    """A client with an agent that works, and tasks for it."""

    def __init__(self, keeper: FakeKeeper) -> None:
        self.keeper = keeper
        self.client, self.boss = keeper.client(), keeper.client()
        self.agent = an_agent(self.client, "worker", ttl=30)

    def task(self, input_=b"", **options):
        return self.boss.create_task("work", input_, **options).id

    def status(self, task_id):
        return self.boss.get_task(task_id).status

    def done(self, task_id, status=TaskStatus.COMPLETED):
        eventually(lambda: self.status(task_id) == status, f"a task that is {status}")
        return self.boss.get_task(task_id)

    def worker(self, handler, **options):
        return self.client.worker(self.agent, handler, **options)


class Gate:
    """A handler that waits to be let go on, and counts who is inside."""

    def __init__(self):
        self.handles = []
        self.inside = 0
        self.most = 0
        self._lock = threading.Lock()
        self._open = threading.Event()

    def __call__(self, task):
        with self._lock:
            self.handles.append(task)
            self.inside += 1
            self.most = max(self.most, self.inside)
        try:
            assert self._open.wait(PATIENCE_S)
            return b"done"
        finally:
            with self._lock:
                self.inside -= 1

    def open(self):
        self._open.set()


@pytest.fixture
def shop(fake_keeper: FakeKeeper):
    return Shop(fake_keeper)


# ---- what comes of a task


def test_what_the_handler_returns_is_the_output(shop: Shop):
    seen = []

    def handler(task):
        seen.append((task.id, task.type, task.input, task.token, task.task))
        task.check()
        return task.input.upper() or None

    with shop.worker(handler) as worker:
        tasks = [shop.task(text) for text in (b"a", b"b", b"")]
        assert [shop.done(task).output for task in tasks] == [b"A", b"B", b""]
        assert worker.error is None
    assert [entry[:3] for entry in seen] == [
        (task, "work", text) for task, text in zip(tasks, (b"a", b"b", b""), strict=True)
    ]
    for task_id, _, _, token, task in seen:
        assert task.id == task_id
        assert task.claim_token == token > 0
        assert task.claimed_by_agent_id == shop.agent.agent_id


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("went wrong"), "ValueError: went wrong"),
        (ValueError(""), "ValueError: "),
        (ValueError("a\x00b\x1b[31mc\u2028"), "ValueError: a\ufffdb\ufffd[31mc\ufffd"),
        (ValueError("two\nlines"), "ValueError: two\nlines"),
        (ValueError("\ud800"), "ValueError: \ufffd"),
        (KeyError("x"), "KeyError: 'x'"),
    ],
)
def test_what_it_raises_is_the_failure(shop: Shop, error: Exception, reason: str):
    def handler(task):
        raise error

    with shop.worker(handler):
        task = shop.done(shop.task(), TaskStatus.DEAD)
    assert task.failure_reason == reason


def test_a_failure_that_can_not_be_told_in_full_is_told_in_part(shop: Shop):
    def handler(task):
        raise ValueError("ä" * 100_000)

    with shop.worker(handler):
        reason = shop.done(shop.task(), TaskStatus.DEAD).failure_reason
    assert reason.startswith("ValueError: ääää")
    assert 1_990 < len(reason.encode()) <= 2_048
    assert "\ufffd" not in reason


def test_an_error_that_can_not_even_be_printed_is_a_failure(shop: Shop):
    class Unprintable(Exception):  # noqa: N818
        def __str__(self):
            raise ZeroDivisionError

    errors = [Unprintable()]

    def handler(task):
        if errors:
            raise errors.pop()
        return b"next"

    with shop.worker(handler):
        first, second = shop.task(), shop.task()
        assert shop.done(second).output == b"next"
        assert "Unprintable" in shop.done(first, TaskStatus.DEAD).failure_reason


@pytest.mark.parametrize("output", ["text", 1, bytearray(b"x"), b"x" * 1_048_577, b"x" * 5_000_000])
def test_an_output_that_can_not_be_one_is_a_failure(shop: Shop, output):
    with shop.worker(lambda task: output):
        task = shop.done(shop.task(), TaskStatus.DEAD)
        assert task.failure_reason.startswith(("TypeError: ", "InvalidArgument: "))
        assert shop.client.find(), "the worker goes on"


def test_a_task_that_failed_is_tried_again(shop: Shop):
    tries = []

    def handler(task):
        tries.append(task.token)
        if len(tries) < 3:
            raise ValueError("not yet")
        return b"at last"

    with shop.worker(handler):
        assert shop.done(shop.task(max_retries=2)).output == b"at last"
    assert len(set(tries)) == 3


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, asyncio.CancelledError])
def test_a_handler_that_wants_to_end_more_than_itself_does_not_hold_its_task_for_ever(
    shop: Shop, error
):
    """The thread is the worker's own: nothing is there to be ended but the task."""

    def handler(task):
        if task.input:
            raise error
        return b"next"

    with shop.worker(handler):
        first = shop.task(b"x", ttl=10)
        second = shop.task()
        assert background(shop.done, second).result(5).output == b"next"
        assert shop.status(first) == TaskStatus.DEAD


# ---- at a time


@pytest.mark.parametrize("concurrency", [1, 3, 8])
def test_as_many_run_at_a_time_as_are_wanted_and_no_more(shop: Shop, concurrency: int):
    gate = Gate()
    with shop.worker(gate, concurrency=concurrency):
        tasks = [shop.task() for _ in range(2 * concurrency + 1)]
        eventually(lambda: gate.inside == concurrency, "all at work")
        shop.keeper.advance(5)
        claimed = [shop.status(task) for task in tasks].count(TaskStatus.CLAIMED)
        assert claimed == concurrency, "nothing is claimed in advance"
        gate.open()
        for task in tasks:
            shop.done(task)
    assert gate.most == concurrency
    assert len(gate.handles) == len(tasks)


@pytest.mark.parametrize("concurrency", [0, -1])
def test_nobody_at_a_time_is_refused(shop: Shop, concurrency: int):
    with pytest.raises(ValueError, match="concurrency"):
        shop.worker(print, concurrency=concurrency)


# ---- the claim


def test_a_claim_is_extended_for_as_long_as_the_handler_runs(shop: Shop):
    gate = Gate()
    with shop.worker(gate):
        task = shop.task(ttl=5)
        eventually(lambda: gate.inside == 1, "at work")
        shop.keeper.advance(600)
        assert not gate.handles[0].lost
        gate.handles[0].check()
        assert shop.status(task) == TaskStatus.CLAIMED
        gate.open()
        assert shop.done(task).expired_claims == 0
    assert not gate.handles[0].lost
    with pytest.raises(ClaimLost, match="done"):
        gate.handles[0].check()


def test_a_claim_that_was_waited_for_is_counted_on_only_once_it_is_sure(shop: Shop):
    gate = Gate()
    with shop.worker(gate):
        shop.keeper.advance(3600)
        shop.task(ttl=5)
        eventually(lambda: gate.inside == 1, "at work")
        gate.handles[0].check()
        gate.open()


def test_a_handler_is_told_that_its_claim_is_lost(shop: Shop):
    gate = Gate()
    other = an_agent(shop.boss, "other")
    with shop.worker(gate):
        task = shop.task(ttl=10)
        eventually(lambda: gate.inside == 1, "at work")
        handle = gate.handles[0]
        shop.keeper.disconnect(shop.client)
        shop.keeper.advance(6)
        handle.check()
        shop.keeper.advance(3.9)
        assert handle.lost
        with pytest.raises(ClaimLost) as lost:
            handle.check()
        assert handle.lost.reason in lost.value.details()
        shop.keeper.advance(0.1)
        taken = shop.boss.claim_task(other.agent_id, timeout=1)
        assert (taken.id, taken.claim_token > handle.token) == (task, True)
        shop.keeper.reconnect(shop.client)
        gate.open()
        eventually(lambda: gate.inside == 0, "the handler has returned")
        shop.boss.complete_task(task, other.agent_id, b"theirs")
        assert shop.done(task).output == b"theirs"


def test_a_claim_is_lost_with_its_agent(shop: Shop):
    gate = Gate()
    with contextlib.suppress(AgentLost), shop.worker(gate):
        shop.task(ttl=3600)
        eventually(lambda: gate.inside == 1, "at work")
        shop.agent.deregister()
        assert gate.handles[0].lost
        gate.open()


def test_a_claim_that_is_lost_is_not_a_failure(shop: Shop):
    """The handler does as it should and gives up; the task is for somebody else, not DEAD."""
    way, at_work = Way(shop.client), threading.Event()

    def handler(task):
        at_work.set()
        assert task.lost.wait(PATIENCE_S)
        task.check()

    worker = shop.worker(handler)
    with worker:
        task = shop.task(ttl=10)
        assert at_work.wait(PATIENCE_S)
        way.requests_lost["ExtendTask"] = 1_000
        shop.keeper.advance(9.95)  # lost by this side's clock, not by the keeper's
        background(worker.stop)
        eventually(lambda: not worker._claims._held, "the handler has given up")
        assert shop.boss.get_task(task).failure_reason == ""
        assert shop.status(task) == TaskStatus.CLAIMED, "until its ttl is over"


# ---- the agent


def test_a_worker_whose_agent_is_dead_ends(shop: Shop):
    worker = shop.worker(lambda task: None)
    running = background(worker.run)
    eventually(lambda: shop.keeper.calls_under_way == 1, "a claim that waits")
    shop.keeper.disconnect(shop.client)
    shop.keeper.advance(120)
    shop.keeper.reconnect(shop.client)
    shop.keeper.advance(60)
    with pytest.raises(AgentLost, match="timed_out"):
        running.result(PATIENCE_S)
    assert isinstance(worker.error, AgentLost)


def test_a_worker_goes_on_for_an_agent_that_registers_itself_again(shop: Shop):
    agent = an_agent(shop.client, "phoenix", ttl=10, reregister=True, tools=["t"])
    with shop.client.worker(agent, lambda task: b"done"):
        shop.keeper.disconnect(shop.client)
        shop.keeper.advance(60)
        shop.keeper.reconnect(shop.client)
        shop.keeper.advance(20)
        task = shop.done(shop.task(required_tools=["t"]))
    assert task.output == b"done"
    assert not agent.lost


def test_a_worker_outlasts_an_outage(shop: Shop):
    agent = an_agent(shop.client, "steady", tools=["t"])
    with shop.client.worker(agent, lambda task: b"done", concurrency=2):
        for _ in range(3):
            shop.keeper.disconnect(shop.client)
            shop.keeper.advance(100)
            shop.keeper.reconnect(shop.client)
            shop.keeper.advance(5)
            assert shop.done(shop.task(required_tools=["t"])).output == b"done"


def test_a_worker_ends_with_its_client(shop: Shop):
    running = background(shop.worker(lambda task: None).run)
    eventually(lambda: shop.keeper.calls_under_way == 1, "a claim that waits")
    shop.client.close()
    with pytest.raises(ClientClosed):
        running.result(PATIENCE_S)


# ---- stopping


def test_a_handler_may_stop_the_worker(shop: Shop):
    handled = []

    def handler(task):
        handled.append(task.id)
        worker.stop()
        return b"done"

    worker = shop.worker(handler)
    tasks = [shop.task() for _ in range(3)]
    background(worker.run).result(PATIENCE_S)
    assert handled == tasks[:1]
    assert shop.done(tasks[0]).output == b"done"
    assert shop.status(tasks[1]) == TaskStatus.PENDING


def test_draining_waits_for_the_handlers(shop: Shop):
    gate = Gate()
    worker = shop.worker(gate, concurrency=2)
    running = background(worker.run)
    tasks = [shop.task(ttl=5) for _ in range(3)]
    eventually(lambda: gate.inside == 2, "two at work")
    worker.stop()
    worker.stop()
    eventually(worker._claims._stopping.is_set, "it drains")
    shop.keeper.advance(60)
    assert not running.done()
    assert not any(handle.lost for handle in gate.handles)
    gate.open()
    running.result(PATIENCE_S)
    statuses = [shop.status(task) for task in tasks]
    assert statuses.count(TaskStatus.COMPLETED) == 2
    assert statuses.count(TaskStatus.PENDING) == 1
    assert shop.keeper.calls_under_way == 0, "nobody waits for a task"


def test_what_is_not_done_in_time_is_left_to_others(shop: Shop, caplog):
    gate = Gate()
    worker = shop.worker(gate, drain_timeout=0.05)
    running = background(worker.run)
    task = shop.task(ttl=5)
    eventually(lambda: gate.inside == 1, "at work")
    worker.stop()
    running.result(PATIENCE_S)
    assert gate.handles[0].lost
    with pytest.raises(ClaimLost):
        gate.handles[0].check()
    assert "not done in time" in caplog.text
    shop.keeper.advance(5)
    assert shop.status(task) == TaskStatus.PENDING, "not extended any more"
    gate.open()


def test_one_that_was_stopped_before_it_began_does_nothing(shop: Shop):
    handled = []
    worker = shop.worker(handled.append, concurrency=4)
    tasks = [shop.task() for _ in range(4)]
    worker.stop()
    background(worker.run).result(PATIENCE_S)
    assert handled == []
    assert {shop.status(task) for task in tasks} == {TaskStatus.PENDING}


def test_a_worker_runs_once(shop: Shop):
    worker = shop.worker(lambda task: None)
    with worker, pytest.raises(RuntimeError, match="once"):
        worker.run()
    with pytest.raises(RuntimeError, match="once"):
        worker.run()


def test_an_exception_in_the_block_wins(shop: Shop):
    with pytest.raises(ZeroDivisionError), shop.worker(lambda task: None):  # noqa: PT012
        shop.agent.deregister()
        raise ZeroDivisionError
