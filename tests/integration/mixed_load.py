"""Everything the SDK does, by threads and by tasks, while replicas are hurt; then the accounts."""

from __future__ import annotations

import itertools
import uuid
from collections import Counter
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, wait
from functools import partial
from typing import Any

import pytest

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.launcher import LocalCluster

from .faces import Face, Signal, Tasks, Threads, each, entered, value
from .ledger import Ledger
from .links import Links
from .waiting import PATIENCE_S, eventually
from .wire import Wire, payload_of, subject_of

TIMEOUT_S = 30.0
PACE_S = 0.1
AGENT_TTL_S = 10
HELD_TTL_S = 6
CONTENDED_TTL_S = 20
CLAIM_TTL_S = 5

Actor = Callable[[Face, Any], Coroutine[Any, Any, None]]


class MixedLoad:
    """Threads and tasks that create and do work, take leases, lead, read and watch.

    On each face there is a client at home at every replica. No call may fail: every time limit is
    far above any outage. A context manager: it begins on entry, and `finish` checks the accounts.
    """

    def __init__(self, cluster: LocalCluster, links: Links, after: int) -> None:
        """`after` is the number of the last event before."""
        self.mark = uuid.uuid4().hex[:8]
        self.ledger = Ledger()
        self._cluster = cluster
        self._links = links
        self._after = self._last = after
        self._numbers = itertools.count()
        self._before: Counter[str] = Counter()
        self._stop_writing: Signal = Future()
        self._stop: Signal = Future()
        self._writing: dict[Future[Any], str] = {}
        self._rest: dict[Future[Any], str] = {}
        self._faces: list[Face] = [Threads(), Tasks()]
        self._clients: list[tuple[Face, Any]] = []
        self._streams: list[Any] = []

    def __enter__(self) -> MixedLoad:
        for face in self._faces:
            clients = face.start(partial(self._connect, face)).result(PATIENCE_S)
            self._clients += [(face, client) for client in clients]
            rest = (self._watch, self._iterate, self._work, self._hold)
            writing = (
                *(self._create, self._create, self._create, self._cycle),
                *(self._contend, self._contend, self._lead, self._read),
            )
            for actors, running in ((rest, self._rest), (writing, self._writing)):
                for number, actor in enumerate(actors):
                    client = clients[number % len(clients)]
                    act = partial(self._act, actor, face, client)
                    running[face.start(act)] = f"{actor.__name__} by {face.name}"
        try:
            self.await_more(1, "everybody at work")
        except BaseException as error:
            self.__exit__(type(error))
            raise
        return self

    def __exit__(self, kind: object, *exception: object) -> None:
        self._end_writing()
        self._stop.set_result(None)
        for stream in self._streams:
            stream.close()
        self._join(self._writing | self._rest)
        for face, client in self._clients:
            face.start(partial(_close, client)).result(PATIENCE_S)
        for face in self._faces:
            face.close()
        if kind is None:
            assert not self.ledger.failures, self.ledger.report()

    def tell(self, what: str) -> None:
        """Say what is done to the cluster, for the report of a failure."""
        self.ledger.tell(what)

    def await_more(self, count: int, what: str) -> None:
        """Wait until everybody has succeeded `count` times since this was last so."""
        expected = [
            f"{kind} by {face.name}"
            for kind in ("create", "cycle", "contend", "lead", "read", "work", "watch", "iterate")
            for face in self._faces
        ]

        def lagging() -> list[str]:
            acts = self.ledger.acts
            return [who for who in expected if acts[who] - self._before[who] < count]

        try:
            eventually(lambda: self.ledger.failures or not lagging(), what)
        except pytest.fail.Exception:
            pytest.fail(f"{what}: nothing more of {lagging()}\n{self.ledger.report()}")
        assert not self.ledger.failures, self.ledger.report()
        self._before = Counter(self.ledger.acts)
        self.tell(what)

    # ------------------------------------------------------------ those at work

    async def _connect(self, face: Face) -> list[Any]:
        """Clients of the whole cluster, one at home at each replica: homes are drawn by lot."""
        homes: dict[str, Any] = {}
        while len(homes) < len(self._cluster.nodes):
            before = Counter(self._links.accepted())
            client = face.client(endpoints=self._cluster.endpoints, timeout=TIMEOUT_S)
            await value(client.check_policy("nobody", "does", "anything"))
            used = set(Counter(self._links.accepted()) - before)
            if len(used) == 1 and not used <= homes.keys():
                homes[used.pop()] = client
            else:
                await value(client.close())
        return list(homes.values())

    async def _act(self, actor: Actor, face: Face, client: Any) -> None:
        try:
            await actor(face, client)
        except BaseException as error:
            self.ledger.fail(f"{actor.__name__} by {face.name}", error)

    def _agent(self, face: Face, client: Any) -> Any:
        def lost(agent: Any) -> None:
            self.ledger.fail(f"{agent} by {face.name}", f"lost: {agent.lost.reason}")

        tools = [self._tool(face)]
        return entered(
            client.register("load", "At work", "1", tools=tools, ttl=AGENT_TTL_S, on_lost=lost)
        )

    def _tool(self, face: Face) -> str:
        return f"{self.mark}-{face.name}"

    async def _again(self, face: Face) -> bool:
        await face.wait(self._stop_writing, PACE_S)
        return not self._stop_writing.done()

    async def _create(self, face: Face, client: Any) -> None:
        """Tasks for the workers of this face, each of a type of its own."""
        while await self._again(face):
            type = f"{self.mark}-{next(self._numbers)}"
            task = await value(
                client.create_task(
                    type, type.encode(), required_tools=[self._tool(face)], ttl=CLAIM_TTL_S
                )
            )
            self.ledger.created[type] = task.id
            read = await value(client.get_task(task.id))
            assert (read.type, read.input) == (type, type.encode()), f"not its own write: {read}"
            self.ledger.did(f"create by {face.name}")

    async def _work(self, face: Face, client: Any) -> None:
        def handle(task: Any) -> bytes:
            holder = self.ledger.hold(task.id, f"work by {face.name}", task)
            self.ledger.handled[task.id] += 1
            self.ledger.did(f"work by {face.name}")
            holder.give_back()
            return task.input[::-1]

        async def handle_in_turns(task: Any) -> bytes:
            return handle(task)

        handler = handle if face.name == "thread" else handle_in_turns
        async with (
            self._agent(face, client) as agent,
            entered(client.worker(agent, handler, concurrency=2)) as worker,
        ):
            await face.wait(self._stop)
            assert worker.error is None, f"a worker has ended: {worker.error!r}"

    async def _cycle(self, face: Face, client: Any) -> None:
        """A lease of one's own: acquire, renew, release."""
        key = f"{self.mark}-own-{face.name}"
        async with self._agent(face, client) as agent:
            while await self._again(face):
                lease = await value(client.acquire_lease(key, agent.agent_id, ttl=60))
                assert lease is not None, "somebody else has it"
                self.ledger.tokens[key].append(lease.token)
                lease.check()
                renewed = await value(lease.renew())
                assert renewed.token == lease.token
                lease.check()
                await value(lease.release())
                self.ledger.did(f"cycle by {face.name}")

    async def _contend(self, face: Face, client: Any) -> None:
        key = f"{self.mark}-contended"
        async with self._agent(face, client) as agent:
            while await self._again(face):
                lease = await value(
                    client.acquire_lease(
                        key, agent.agent_id, ttl=CONTENDED_TTL_S, wait=TIMEOUT_S / 2
                    )
                )
                if lease is None:
                    continue
                holder = self.ledger.hold(key, f"contend by {face.name}", lease)
                self.ledger.tokens[key].append(lease.token)
                lease.check()
                holder.give_back()
                await value(lease.release())
                self.ledger.did(f"contend by {face.name}")

    async def _hold(self, face: Face, client: Any) -> None:
        """A lease that is kept throughout."""
        key = f"{self.mark}-kept-{face.name}"

        def lost(lease: Any) -> None:
            self.ledger.fail(f"{lease} by {face.name}", f"lost: {lease.lost.reason}")

        async with self._agent(face, client) as agent:
            acquired = client.acquire_lease(
                key, agent.agent_id, ttl=HELD_TTL_S, keep_alive=True, on_lost=lost
            )
            async with entered(acquired) as lease:
                token = lease.token
                self.ledger.tokens[key].append(token)
                await face.wait(self._stop)
                lease.check()
                assert lease.token == token, "it was acquired anew"
                assert await value(client.verify_token(key, token)), "somebody else's"

    async def _lead(self, face: Face, client: Any) -> None:
        group = f"{self.mark}-group"
        async with self._agent(face, client) as agent:
            while await self._again(face):
                leadership = await value(client.lead(group, agent, timeout=TIMEOUT_S))
                holder = self.ledger.hold(group, f"lead by {face.name}", leadership)
                before = self.ledger.leaders.setdefault(leadership.term, agent.agent_id)
                assert before == agent.agent_id, f"two leaders in term {leadership.term}"
                leadership.check()
                holder.give_back()
                await value(leadership.resign())
                self.ledger.did(f"lead by {face.name}")

    async def _read(self, face: Face, client: Any) -> None:
        """Reads see one's own writes, at whichever replica."""
        subject = f"{self.mark}-{uuid.uuid4().hex[:8]}"
        async with self._agent(face, client) as agent:
            allowed = False
            while await self._again(face):
                allowed = not allowed
                effect = "ALLOW" if allowed else "DENY"
                await value(client.set_policy(subject, subject, "do", "*", effect))
                seen = await value(client.check_policy(subject, "do", "anything"))
                assert seen.allowed is allowed, f"read what was overwritten: {seen}"
                found = await value(client.find(tools=[self._tool(face)]))
                assert found, "nobody is ALIVE"
                known = await value(client.get_agent(agent.agent_id))
                assert known.status.value == "ALIVE", f"not kept alive: {known}"
                self.ledger.did(f"read by {face.name}")

    async def _watch(self, face: Face, client: Any) -> None:
        who = f"watch by {face.name}"

        def see(event: Any) -> None:
            self.ledger.seen[who].append(event)
            self.ledger.did(who)

        def gap(gap: Any) -> None:
            self.ledger.fail(who, f"events are missing: {gap}")

        watch = await value(client.watch([], see, after=self._after, on_gap=gap))
        await face.wait(self._stop)
        assert watch.active, f"a watch has ended: {watch.error!r}"
        watch.cancel()

    async def _iterate(self, face: Face, client: Any) -> None:
        who = f"iterate by {face.name}"
        async with entered(client.events(after=self._after)) as stream:
            self._streams.append(stream)
            async for event in each(stream):
                self.ledger.seen[who].append(event)
                self.ledger.did(who)
            assert self._stop.done(), "a stream of events has ended"

    # ------------------------------------------------------------ the accounts

    def finish(self, wires: list[Wire]) -> None:
        """End the writing, let the rest catch up, and compare with what every replica says."""
        self._end_writing()
        self._join(self._writing)
        assert not self.ledger.failures, self.ledger.report()
        self._await_work(wires[0])
        self._last = int(wires[0].watch_all().headers["agentkeeper-sequence"])
        events = [self._events(wire) for wire in wires]
        assert all(others == events[0] for others in events), "replicas tell of different events"
        self._check_watches(events[0])
        assert not self.ledger.failures, self.ledger.report()
        for wire in wires:
            self._check_tasks(wire.list_tasks(), events[0])
        self._check_leases(events[0])
        self._check_elections(events[0])

    def _end_writing(self) -> None:
        if not self._stop_writing.done():
            self._stop_writing.set_result(None)

    def _join(self, running: dict[Future[Any], str]) -> None:
        for future in wait(running, 2 * TIMEOUT_S).not_done:
            self.ledger.fail(running[future], "never ends")

    def _await_work(self, wire: Wire) -> None:
        def all_done() -> bool:
            tasks = [task for task in wire.list_tasks() if task.type.startswith(self.mark)]
            return all(task.status == pb.TASK_STATUS_COMPLETED for task in tasks)

        eventually(all_done, f"all tasks done\n{self.ledger.report()}")

    def _events(self, wire: Wire) -> list[tuple[int, str, str, Any]]:
        """All events of the load, without gap or repeat."""
        watch = wire.watch_all(after=self._after)
        eventually(lambda: watch.sequences[-1:] >= [self._last], f"event {self._last} at {wire}")
        watch.cancel()
        events = [e for e in list(watch.events) if e.sequence_number <= self._last]
        numbers = [event.sequence_number for event in events]
        assert numbers == list(range(self._after + 1, self._last + 1)), f"a gap at {wire}"
        return [(e.sequence_number, e.topic, subject_of(e), payload_of(e)) for e in events]

    def _check_watches(self, events: list[tuple[int, str, str, Any]]) -> None:
        told = [(number, topic) for number, topic, _, _ in events]
        for who, seen in self.ledger.seen.items():
            eventually(lambda seen=seen: seen[-1].sequence >= self._last, f"the last event: {who}")
            got = [(e.sequence, e.topic) for e in list(seen) if e.sequence <= self._last]
            wrong = [pair for pair in zip(got, told, strict=False) if pair[0] != pair[1]]
            assert got == told, f"{who} differs first at {wrong[:1]}\n{self.ledger.report()}"

    def _check_tasks(self, tasks: list[Any], events: list[tuple[int, str, str, Any]]) -> None:
        mine = {task.id: task for task in tasks if task.type.startswith(self.mark)}
        created = self.ledger.created
        counts = Counter(task.type for task in mine.values())
        assert set(counts.values()) == {1}, f"created twice: {counts.most_common(3)}"
        assert set(counts) == set(created), "not what was acknowledged"
        assert {id: task.type for id, task in mine.items()} == {i: t for t, i in created.items()}
        for task in mine.values():
            assert task.output == task.type.encode()[::-1], f"not its handler's output: {task}"
        done = Counter(id for _, topic, id, _ in events if topic == "task.completed" and id in mine)
        assert done == dict.fromkeys(mine, 1), "completed twice, or never"
        assert set(self.ledger.handled) == set(mine)

    def _check_leases(self, events: list[tuple[int, str, str, Any]]) -> None:
        turns = {"lease.acquired", "lease.released", "lease.expired"}
        leases = [event for event in events if event[1] in turns]
        granted = [p.token.value for _, topic, _, p in leases if topic == "lease.acquired"]
        assert granted == sorted(set(granted)), "a token was given out twice, or out of order"
        for key, tokens in self.ledger.tokens.items():
            its = [event for event in leases if event[2] == key]
            topics = [topic for _, topic, _, _ in its]
            acquired = [p.token.value for _, topic, _, p in its if topic == "lease.acquired"]
            assert topics[::2] == ["lease.acquired"] * len(acquired), f"{key}: {topics}"
            assert "lease.acquired" not in topics[1::2], f"{key}: granted while held: {topics}"
            assert len(tokens) == len(set(tokens)), f"{key}: one token for two"
            if key.endswith("contended"):
                assert set(tokens) <= set(acquired), f"{key}: an acknowledged lease is lost"
            else:
                assert tokens == acquired, f"{key}: not what was acknowledged"
                assert set(topics[1::2]) <= {"lease.released"}, f"{key}: {topics}"

    def _check_elections(self, events: list[tuple[int, str, str, Any]]) -> None:
        group = f"{self.mark}-group"
        states = [p for _, topic, key, p in events if (topic, key) == ("leader.changed", group)]
        leaders = {state.term: state.leader_agent_id for state in states if state.leader_agent_id}
        terms = [state.term for state in states if state.leader_agent_id]
        assert terms == sorted(set(terms)), f"terms out of order: {terms}"
        assert self.ledger.leaders.items() <= leaders.items(), "a leader that was none"


async def _close(client: Any) -> None:
    await value(client.close())
