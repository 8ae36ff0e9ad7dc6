"""The worker process and the daemon's side of it, with an embedder that misbehaves on demand."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import structlog
import uvloop
from scripted_embedder import DIMENSION, vector_of

from agentkeeper.search.model.locate import ModelFiles
from agentkeeper.search.worker.child import Child
from agentkeeper.search.worker.frames import pack
from agentkeeper.search.worker.process import (
    MAX_TEXT_BYTES,
    MAX_URGENT,
    EmbeddingProcess,
    EmbeddingRefused,
    EmbeddingUnavailable,
    Limits,
)

QUICK = Limits(first_pause_s=0.01, longest_pause_s=0.02, failed_pause_s=0.01)
LOADER = "scripted_embedder:load"


class Stage:
    """A directory that tells the embedder what to do, and the processes that run on it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.cache: Path | None = None
        self.spent: list[float] = []
        self.states: list[str] = []
        self._turned = asyncio.Event()
        self._stack = contextlib.AsyncExitStack()
        self.write("model", "scripted")

    def write(self, name: str, text: str = "") -> None:
        (self.directory / name).write_text(text)

    @property
    def log(self) -> list[str]:
        path = self.directory / "log"
        return path.read_text().splitlines() if path.exists() else []

    def process(self, limits: Limits = QUICK, loader: str = LOADER) -> EmbeddingProcess:
        files = ModelFiles(self.directory, "setting", "onnxruntime", self.directory / "model")

        def turned() -> None:
            self.states.append(process.state)
            self._turned.set()

        process = EmbeddingProcess(
            files,
            self.cache,
            on_change=turned,
            on_embedded=self.spent.append,
            loader=loader,
            limits=limits,
        )
        self._stack.push_async_callback(process.stop)
        return process

    async def ready(self, process: EmbeddingProcess | None = None) -> EmbeddingProcess:
        process = process or self.process()
        process.start()
        await self.turned(process, "ready")
        return process

    async def turned(self, process: EmbeddingProcess, state: str) -> None:
        async with asyncio.timeout(60):
            while process.state != state:
                self._turned.clear()
                await self._turned.wait()

    async def asked(self, *texts: str) -> None:
        """Wait until the embedder was asked these texts, and no others."""
        async with asyncio.timeout(60):
            while self.log != list(texts):  # noqa: ASYNC110  # another process writes it
                await asyncio.sleep(0.005)

    async def close(self) -> None:
        await self._stack.aclose()


@pytest.fixture
async def stage(tmp_path):
    stage = Stage(tmp_path)
    yield stage
    await stage.close()


def children():
    """The workers among them: what tests share may have processes too."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if "agentkeeper.search.worker" in child.cmdline():
                found.append(child)
    return found


def oom_score(pid):
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


@contextlib.contextmanager
def logged():
    with structlog.testing.capture_logs() as logs:
        yield logs


async def test_texts_become_vectors(stage):
    process = stage.process()
    assert (process.state, process.model_id, process.dimension) == ("starting", "", 0)
    assert process.rss_bytes() == 0
    with pytest.raises(EmbeddingUnavailable):
        await process.embed(["early"])
    await stage.ready(process)
    assert (process.model_id, process.dimension) == ("scripted", DIMENSION)
    texts = ["one", "zwei", "три", "", "x" * 200_000]
    assert await process.embed(texts) == [vector_of(text) for text in texts]
    assert await process.embed([]) == []
    assert await process.embed(["one"], urgent=True) == [vector_of("one")]
    assert (process.embedded, process.cache_hits, process.restarts) == (5, 1, 0)
    assert len(stage.spent) == 5
    assert process.rss_bytes() > 5_000_000
    assert stage.states == ["ready"]


def test_it_runs_on_the_daemons_event_loop(tmp_path):
    async def story():
        stage = Stage(tmp_path)
        process = await stage.ready()
        assert await process.embed(["a"]) == [vector_of("a")]
        with pytest.raises(EmbeddingUnavailable):
            await process.embed(["die"])
        await stage.turned(process, "ready")
        assert await process.embed(["b"]) == [vector_of("b")]
        await stage.close()
        assert children() == []

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(story())


async def test_urgent_texts_wait_for_one_other_at_most(stage):
    process = await stage.ready()
    background = asyncio.create_task(process.embed(["wait a", "b", "c"]))
    await stage.asked("wait a")
    urgent = [asyncio.create_task(process.embed([text], urgent=True)) for text in ("d", "e")]
    await asyncio.sleep(0)
    stage.write("a")
    assert [await each for each in urgent] == [[vector_of("d")], [vector_of("e")]]
    assert await background == [vector_of(text) for text in ("wait a", "b", "c")]
    assert stage.log == ["wait a", "d", "e", "b", "c"]


async def test_a_cancelled_call_takes_its_texts_back(stage):
    process = await stage.ready()
    call = asyncio.create_task(process.embed(["wait a", "b", "c"]))
    await stage.asked("wait a")
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    stage.write("a")
    assert await process.embed(["d"]) == [vector_of("d")]
    assert stage.log == ["wait a", "d"]


async def test_urgent_texts_are_bounded(stage):
    process = await stage.ready()
    await_a = asyncio.create_task(process.embed(["wait a"]))
    await stage.asked("wait a")
    texts = [str(number) for number in range(MAX_URGENT)]
    many = asyncio.create_task(process.embed(texts, urgent=True))
    await asyncio.sleep(0)
    with pytest.raises(EmbeddingUnavailable, match="too many"):
        await process.embed(["one more"], urgent=True)
    patient = asyncio.create_task(process.embed(["patient"]))
    stage.write("a")
    await asyncio.gather(await_a, many, patient)
    assert stage.log == ["wait a", *texts, "patient"]


async def test_a_text_that_the_model_cant_do_is_refused_and_others_are_done(stage):
    process = await stage.ready()
    for text, reason in (
        ("raise this", "ValueError: this"),
        ("short", "shape"),
        ("infinite", "not finite"),
        ("void", "without direction"),
        ("x" * (MAX_TEXT_BYTES + 1), "more than"),
    ):
        with pytest.raises(EmbeddingRefused, match=reason) as caught:
            await process.embed(["before", text, "after"])
        assert caught.value.text == text
    assert await process.embed(["\ud800", "after"]) == [vector_of("?"), vector_of("after")]
    assert process.restarts == 0


async def test_what_libraries_print_does_no_harm(stage):
    process = await stage.ready()
    assert await process.embed(["print", "after"]) == [vector_of("print"), vector_of("after")]
    assert process.restarts == 0


async def test_a_death_fails_all_calls_and_the_next_worker_goes_on(stage):
    process = await stage.ready()
    with logged() as logs:
        calls = [process.embed(["a", "exit", "b"]), process.embed(["c"])]
        for result in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(result, EmbeddingUnavailable)
        assert process.state == "restarting"
        with pytest.raises(EmbeddingUnavailable):
            await process.embed(["d"])
        await stage.turned(process, "ready")
    assert await process.embed(["c"]) == [vector_of("c")]
    assert process.restarts == 1
    assert stage.states == ["ready", "restarting", "ready"]
    [line] = [each for each in logs if each["log_level"] == "warning"]
    assert line["ended"] == "ended with 3: cannot go on"


async def test_short_memory_is_not_the_texts_fault(stage):
    process = await stage.ready()
    with pytest.raises(EmbeddingUnavailable):
        await process.embed(["full"])
    await stage.turned(process, "ready")
    assert process.restarts == 1


async def test_an_idle_worker_that_dies_is_replaced(stage):
    process = await stage.ready()
    with logged() as logs:
        children()[0].kill()
        await stage.turned(process, "restarting")
        await stage.turned(process, "ready")
    assert process.restarts == 1
    assert logs[0]["ended"] == "ended by SIGKILL"
    assert await process.embed(["a"]) == [vector_of("a")]


@pytest.mark.parametrize("text", ["stop", "wait for ever"])
async def test_a_worker_that_hangs_is_replaced(stage, text):
    process = await stage.ready(stage.process(replace(QUICK, answer_s=1.5)))
    [hanging] = children()
    with pytest.raises(EmbeddingUnavailable, match="no answer"):
        await process.embed([text])
    await stage.turned(process, "ready")
    assert not hanging.is_running()
    assert await process.embed(["a"]) == [vector_of("a")]
    assert process.restarts == 1


async def test_a_daemon_that_stood_still_does_not_blame_the_worker(stage):
    process = await stage.ready(stage.process(replace(QUICK, answer_s=1)))
    call = asyncio.create_task(process.embed(["wait a"]))
    await stage.asked("wait a")
    stage.write("a")
    time.sleep(1.1)  # noqa: ASYNC251  # the loop stands still
    assert await call == [vector_of("wait a")]
    assert process.restarts == 0


GARBAGE = {
    "no frame": b"Traceback (most recent call last)",
    "no map": b"\0\0\0\x01\x05",
    "no answer": pack({"number": 2}),
    "another's answer": pack({"number": 1, "vector": bytes(4 * DIMENSION)}),
    "no vector": pack({"number": 2, "vector": "text"}),
    "a short vector": pack({"number": 2, "vector": b"1234"}),
    "strange notes": pack({"number": 2, "vector": bytes(4 * DIMENSION), "notes": 5}),
    "a strange time": pack({"number": 2, "vector": bytes(4 * DIMENSION), "spent_s": b"s"}),
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE.keys())
async def test_garbage_from_the_worker_ends_it(stage, data):
    process = stage.process()
    process._on_embedded = float  # a strange time is none
    await stage.ready(process)
    with pytest.raises(EmbeddingUnavailable):
        await process.embed([f"garbage {data.hex()}"])
    await stage.turned(process, "ready")
    assert process.restarts == 1
    assert await process.embed(["a"]) == [vector_of("a")]


async def test_an_answer_to_nothing_ends_the_worker(stage):
    process = await stage.ready()
    twice = pack({"number": 2, "vector": bytes(4 * DIMENSION)})
    await process.embed([f"garbage {twice.hex()}"])  # and then the worker's own answer
    await stage.turned(process, "restarting")
    await stage.turned(process, "ready")
    assert await process.embed(["a"]) == [vector_of("a")]


async def test_a_text_that_kills_twice_is_given_up(stage):
    process = await stage.ready()
    with pytest.raises(EmbeddingUnavailable):
        await process.embed(["a", "die", "b"])
    await stage.turned(process, "ready")
    with pytest.raises(EmbeddingRefused) as caught:
        await process.embed(["a", "die", "b"])
    assert caught.value.text == "die"
    await stage.turned(process, "ready")
    with pytest.raises(EmbeddingRefused):
        await process.embed(["b", "die"])
    assert process.state == "ready"
    assert process.restarts == 2
    assert await process.embed(["a", "b"]) == [vector_of("a"), vector_of("b")]


async def test_pauses_grow_to_their_limit_and_shrink_after_a_proof(stage):
    limits = Limits(first_pause_s=1, longest_pause_s=5, proven_s=60)
    process = stage.process(limits)
    assert [process._mourn("died") for _ in range(4)] == [1, 2, 4, 5]
    process.state, process._ready_at_s = "ready", asyncio.get_running_loop().time() - 30
    assert process._mourn("died") == 5
    process.state, process._ready_at_s = "ready", asyncio.get_running_loop().time() - 61
    assert [process._mourn("died") for _ in range(2)] == [1, 2]
    assert process.restarts == 7


async def test_a_model_that_cant_be_loaded_is_told_once_and_tried_again(stage):
    stage.write("on_load", "refuse")
    process = stage.process()
    with logged() as logs:
        process.start()
        await stage.turned(process, "failed")
        with pytest.raises(EmbeddingUnavailable, match="no such model"):
            await process.embed(["a"])
        pids = set()
        while len(pids) < 3:
            pids.update(child.pid for child in children())
            await asyncio.sleep(0.005)
        stage.write("on_load")
        await stage.turned(process, "ready")
    assert [line["reason"] for line in logs] == ["no such model"]
    assert stage.states == ["failed", "ready"]
    assert process.restarts == 0
    assert await process.embed(["a"]) == [vector_of("a")]


@pytest.mark.parametrize("loader", ["no_such_module:load", "scripted_embedder:no_such_name"])
async def test_a_broken_installation_is_a_model_that_cant_be_loaded(stage, loader):
    process = stage.process(loader=loader)
    process.start()
    await stage.turned(process, "failed")
    with pytest.raises(EmbeddingUnavailable, match="no_such"):
        await process.embed(["a"])


async def test_dying_while_loading_is_survived(stage):
    stage.write("on_load", "die")
    process = stage.process()
    process.start()
    await stage.turned(process, "restarting")
    stage.write("on_load")
    await stage.turned(process, "ready")
    assert process.restarts >= 1


async def test_hanging_while_loading_is_survived(stage):
    stage.write("on_load", "wait")
    process = stage.process(replace(QUICK, load_s=2))
    process.start()
    await stage.turned(process, "restarting")
    stage.write("on_load")
    await stage.ready(process)


async def test_a_worker_that_cant_be_started_is_tried_again(stage, monkeypatch):
    executable = sys.executable
    monkeypatch.setattr(sys, "executable", str(stage.directory / "missing"))
    process = stage.process()
    with logged() as logs:
        process.start()
        await stage.turned(process, "restarting")
        monkeypatch.setattr(sys, "executable", executable)
        await stage.turned(process, "ready")
    assert "can't be started: No such file" in logs[0]["reason"]


async def test_another_model_in_the_same_place_is_taken(stage):
    process = await stage.ready()
    stage.write("model", "another")
    with pytest.raises(EmbeddingUnavailable):
        await process.embed(["die"])
    await stage.turned(process, "ready")
    assert process.model_id == "another"
    assert await process.embed(["a"]) == [vector_of("a")]


async def test_the_cache_makes_a_restart_free(stage):
    stage.cache = stage.directory / "vectors.db"
    process = await stage.ready()
    await process.embed(["a", "b"])
    with pytest.raises(EmbeddingUnavailable):
        await process.embed(["die"])
    await stage.turned(process, "ready")
    assert await process.embed(["a"]) == [vector_of("a")]
    await process.stop()
    another = await stage.ready()
    assert await another.embed(["a", "b"]) == [vector_of("a"), vector_of("b")]
    assert (another.embedded, another.cache_hits) == (0, 2)
    assert stage.log == ["a", "b", "die"]


async def test_what_is_not_to_be_kept_is_neither_put_nor_looked_for(stage):
    stage.cache = stage.directory / "vectors.db"
    process = await stage.ready()
    for keep in (False, True, False, True):
        assert await process.embed(["a"], urgent=True, keep=keep) == [vector_of("a")]
    assert (process.embedded, process.cache_hits) == (3, 1)
    assert stage.log == ["a"] * 3


async def test_a_damaged_cache_is_told(stage):
    stage.cache = stage.directory / "vectors.db"
    stage.cache.write_bytes(b"nonsense" * 1000)
    with logged() as logs:
        process = await stage.ready()
        assert await process.embed(["a"]) == [vector_of("a")]
    assert [line for line in logs if "begun anew" in line["note"]]


async def test_stopping_ends_the_worker_and_fails_calls(stage):
    process = await stage.ready()
    call = asyncio.create_task(process.embed(["wait for ever", "b"]))
    await stage.asked("wait for ever")
    await process.stop()
    with pytest.raises(EmbeddingUnavailable):
        await call
    assert children() == []
    assert process.state == "starting"
    assert process.rss_bytes() == 0
    await process.stop()
    await stage.ready(process)
    assert await process.embed(["a"]) == [vector_of("a")]


async def test_stopping_ends_a_worker_that_still_loads(stage):
    stage.write("on_load", "wait")
    process = stage.process()
    process.start()
    while not children():  # noqa: ASYNC110  # nobody tells
        await asyncio.sleep(0.005)
    await process.stop()
    assert children() == []


async def test_a_worker_is_ended_though_its_end_is_cancelled(stage):
    child = await Child.start()
    [worker] = children()
    worker.suspend()
    ending = asyncio.create_task(child.end())
    await asyncio.sleep(0)
    ending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ending
    psutil.wait_procs([worker], timeout=60)
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE
    await child.end()


async def test_the_worker_stands_last_in_line_and_heeds_its_parent_alone(stage):
    process = await stage.ready()
    [worker] = children()
    assert worker.nice() == min(19, psutil.Process().nice() + 5)
    assert oom_score(worker.pid) == 500
    for number in (signal.SIGINT, signal.SIGTERM):
        worker.send_signal(number)
    assert await process.embed(["a"]) == [vector_of("a")]
    assert process.restarts == 0


@pytest.mark.parametrize("on_load", ["", "wait"])
def test_the_worker_is_gone_with_its_parent(tmp_path, on_load):
    (tmp_path / "on_load").write_text(on_load)
    (tmp_path / "model").write_text("scripted")
    story = f"""
        import asyncio, psutil, sys
        from pathlib import Path
        sys.path[:] = {sys.path!r}
        from agentkeeper.search.model.locate import ModelFiles
        from agentkeeper.search.worker.process import EmbeddingProcess

        async def main():
            here = Path({str(tmp_path)!r})
            files = ModelFiles(here, "setting", "onnxruntime", here / "model")
            process = EmbeddingProcess(files, None, on_change=lambda: None, loader={LOADER!r})
            process.start()
            while not psutil.Process().children():
                await asyncio.sleep(0.01)
            while not {on_load!r} and process.state != "ready":
                await asyncio.sleep(0.01)
            print(psutil.Process().children()[0].pid, flush=True)
            await asyncio.sleep(600)

        asyncio.run(main())
    """
    command = [sys.executable, "-c", textwrap.dedent(story)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        worker = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    psutil.wait_procs([worker], timeout=60)
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE


def test_a_worker_whose_parent_is_gone_already_ends_at_once():
    command = [sys.executable, "-m", "agentkeeper.search.worker", str(os.getpid() + 1)]
    ended = subprocess.run(command, stdin=subprocess.PIPE, check=False, timeout=60)
    assert ended.returncode == 1
