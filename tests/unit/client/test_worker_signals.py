"""Workers in processes of their own, told to stop by signals."""

import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from sdk_story import PATIENCE_S

from agentkeeper import AgentKeeperClient, TaskStatus
from agentkeeper.launcher import LocalCluster

WORKERS = {
    "sync": """
        import sys, time
        from agentkeeper import AgentKeeperClient
        with AgentKeeperClient(endpoints=sys.argv[1]) as client:
            agent = client.register("worker", "", "1", tools=[sys.argv[2]])
            def handler(task):
                print("began", flush=True)
                while not worker._claims._stopping.is_set():
                    time.sleep(0.01)
                task.check()
                return b"done"
            worker = client.worker(agent, handler)
            worker.run()
            print("drained", flush=True)
            agent.deregister()
    """,
    "async": """
        import asyncio, sys
        from agentkeeper import AsyncAgentKeeperClient
        async def main():
            async with AsyncAgentKeeperClient(endpoints=sys.argv[1]) as client:
                agent = await client.register("worker", "", "1", tools=[sys.argv[2]])
                async def handler(task):
                    print("began", flush=True)
                    while not worker._claims._stopping.is_set():
                        await asyncio.sleep(0.01)
                    task.check()
                    return b"done"
                worker = client.worker(agent, handler)
                await worker.run()
                print("drained", flush=True)
                await agent.deregister()
        RUN
    """,
}
RUNS = {
    "sync": "",
    "async": "asyncio.run(main())",
    "uvloop": "import uvloop; asyncio.Runner(loop_factory=uvloop.new_event_loop).run(main())",
}


@pytest.fixture(scope="module")
def endpoint():
    with LocalCluster(replicas=1) as cluster:
        cluster.wait_ready()
        yield next(iter(cluster.endpoints))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("face", sorted(RUNS))
def test_a_signal_drains(endpoint: str, face: str, number: signal.Signals, tmp_path: Path):
    tool = f"tool-{face}-{number}"
    program = textwrap.dedent(WORKERS["sync" if face == "sync" else "async"])
    command = [sys.executable, "-c", program.replace("RUN", RUNS[face]), endpoint, tool]
    with (
        AgentKeeperClient(endpoints=endpoint) as client,
        (tmp_path / "errors").open("w") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        try:
            tasks = [client.create_task("work", required_tools=[tool]).id for _ in range(2)]
            assert process.stdout.readline() == "began\n", (tmp_path / "errors").read_text()
            process.send_signal(number)
            assert process.stdout.readline() == "drained\n", (tmp_path / "errors").read_text()
            assert process.wait(PATIENCE_S) == 0
        finally:
            process.kill()
        assert client.get_task(tasks[0]).output == b"done"
        assert client.get_task(tasks[1]).status == TaskStatus.PENDING


def test_the_second_signal_does_what_it_did_before(endpoint: str):
    """A drain that takes too long can be cut short by hand."""
    program = textwrap.dedent("""
        import sys, time
        from agentkeeper import AgentKeeperClient
        client = AgentKeeperClient(endpoints=sys.argv[1])
        agent = client.register("worker", "", "1", tools=["patience"])
        def handler(task):
            print("began", flush=True)
            while not worker._claims._stopping.is_set():
                time.sleep(0.01)
            print("draining", flush=True)
            time.sleep(3600)
        worker = client.worker(agent, handler, drain_timeout=3600)
        worker.run()
    """)
    command = [sys.executable, "-c", program, endpoint]
    with (
        AgentKeeperClient(endpoints=endpoint) as client,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process,
    ):
        try:
            client.create_task("work", required_tools=["patience"])
            assert process.stdout.readline() == "began\n"
            process.send_signal(signal.SIGTERM)
            assert process.stdout.readline() == "draining\n"
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_S) == -signal.SIGTERM
        finally:
            process.kill()
