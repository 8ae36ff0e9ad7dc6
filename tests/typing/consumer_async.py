"""A program that uses all of the async face, for type checkers; nobody runs it."""

from pathlib import Path

from agentkeeper import (
    AgentInfo,
    AgentKeeperError,
    AgentLost,
    AgentStatus,
    AlreadyExists,
    AsyncAgentHandle,
    AsyncAgentKeeperClient,
    AsyncEventStream,
    AsyncLeadership,
    AsyncLeaseHandle,
    AsyncLossSignal,
    AsyncSubscription,
    AsyncTaskHandle,
    AsyncWorker,
    CheckResult,
    ClaimLost,
    ClientClosed,
    Compacted,
    Election,
    ElectionState,
    Explanation,
    FindMode,
    FoundAgent,
    FoundAgents,
    InvalidArgument,
    LeaderMoved,
    LeadershipLost,
    Lease,
    LeaseInfo,
    LeaseLost,
    NotFound,
    OutcomeUnknown,
    Overloaded,
    PermissionDenied,
    Policy,
    PolicyEffect,
    Refused,
    SnapshotSaved,
    StaleToken,
    Summary,
    Task,
    TaskStatus,
    Unavailable,
    WatchEvent,
    WatchGap,
)


async def on_agent_lost(agent: AsyncAgentHandle) -> None:
    print(agent.agent_id, agent.lost.reason.upper())


def on_event(event: WatchEvent) -> None:
    if isinstance(event.payload, AgentInfo):
        print(event.payload.card.name.upper(), event.payload.status is AgentStatus.DEAD)
    elif isinstance(event.payload, Lease):
        print(event.payload.task_id.upper(), event.payload.expires_at.isoformat())
    print(
        event.topic.upper(), event.sequence + 1, event.timestamp.isoformat(), event.reason.upper()
    )


def on_gap(gap: WatchGap) -> None:
    print(gap.after + gap.oldest)


async def handler(task: AsyncTaskHandle) -> bytes | None:
    task.check()
    if task.lost or await task.lost.wait(0.1):
        raise ClaimLost(task.lost.reason)
    whole: Task = task.task
    print(task.id.upper(), task.type.upper(), task.token + 1, whole.status is TaskStatus.CLAIMED)
    return task.input.upper() or None


async def registry(client: AsyncAgentKeeperClient) -> AsyncAgentHandle:
    agent = await client.register(
        "worker",
        "Does what is asked",
        "1.0.0",
        tools=["browser"],
        metadata={"team": "data"},
        ttl=30,
        on_name_conflict="replace",
        reregister=True,
        on_lost=on_agent_lost,
        timeout=5.0,
    )
    info: AgentInfo = await client.get_agent(agent.agent_id, timeout=1)
    found: list[AgentInfo] = await client.find("browse", tools=("browser",), limit=3)
    print(info.card.metadata.items(), [each.status.value for each in found])
    ranked: FoundAgents = await client.find("somebody who can browse")
    print(ranked.mode is FindMode.SEMANTIC, ranked.pending + 1, [a.score + 1 for a in ranked[:3]])
    if ranked:
        best: FoundAgent = ranked[0]
        print(best.score + 1)
    async with client.register("other", "", "1") as other:
        signal: AsyncLossSignal = other.lost
        print(bool(signal), signal.is_set(), await signal.wait(timeout=1.0))
    await agent.deregister(timeout=3)
    return agent


async def leases(client: AsyncAgentKeeperClient, agent: AsyncAgentHandle) -> None:
    def on_lost(lease: AsyncLeaseHandle) -> None:
        print(lease.lease.task_id.upper())

    lease = await client.acquire_lease(
        "job",
        agent.agent_id,
        60,
        wait=5.0,
        exclusive=True,
        keep_alive=True,
        on_lost=on_lost,
        timeout=10,
    )
    if lease is None:
        return
    async with lease:
        lease.check()
        renewed: Lease = await lease.renew(ttl=60, timeout=3)
        valid: bool = await client.verify_token("job", lease.token)
        print(renewed.token == lease.token, valid, lease.lost.is_set())
    await lease.release(timeout=1)


async def elections(client: AsyncAgentKeeperClient, agent: AsyncAgentHandle) -> None:
    state: ElectionState = await client.campaign("group", agent.agent_id)
    print(state.leader_agent_id.upper(), state.term + 1, state.elected_at)
    await client.resign("group", agent.agent_id)

    def on_lost(leadership: AsyncLeadership) -> None:
        print(leadership.group.upper(), leadership.term + 1)

    async with client.lead("group", agent, on_lost=on_lost, timeout=30) as leadership:
        leadership.check()
        print(leadership.agent_id.upper(), await leadership.lost.wait(0))
        await leadership.resign(timeout=1)

    def on_change(state: ElectionState) -> None:
        print(state.group.upper())

    async with client.watch_election("group", on_change, after=1, on_gap=on_gap) as watch:
        print(watch.active)


async def policies(client: AsyncAgentKeeperClient) -> None:
    policy: Policy = await client.set_policy("p", "agent:*", "call", "tool:*", PolicyEffect.ALLOW)
    await client.set_policy(policy.id, "agent:*", "call", "tool:*", "DENY")
    result: CheckResult = await client.check_policy("agent:a", "call", "tool:t")
    print(
        result.allowed,
        result.reason.upper(),
        [each.effect for each in await client.list_policies()],
    )
    await client.delete_policy(policy.id)


async def tasks(client: AsyncAgentKeeperClient, agent: AsyncAgentHandle) -> None:
    task: Task = await client.create_task(
        "work", b"in", ["browser"], 3, 60, priority=1, idempotency_key="once"
    )
    claimed: Task = await client.claim_task(agent.agent_id, timeout=1)
    await client.extend_task(task.id, agent.agent_id, 60, claim_token=claimed.claim_token)
    await client.complete_task(task.id, agent.agent_id, b"out")
    await client.fail_task(task.id, agent.agent_id, "reason")
    await client.requeue_task(task.id)
    by_status: list[Task] = [
        *await client.list_tasks(TaskStatus.DEAD),
        *await client.list_tasks("PENDING"),
    ]
    print((await client.get_task(task.id)).output.upper(), len(by_status))
    worker: AsyncWorker = client.worker(agent, handler, concurrency=4, drain_timeout=10)
    worker.stop()
    await worker.run()
    async with client.worker(agent, lambda task: task.input) as running:
        error: AgentKeeperError | None = running.error
        print(error)


async def events(client: AsyncAgentKeeperClient) -> None:
    watch: AsyncSubscription = await client.watch(
        ["agent."], on_event, after=0, on_gap=on_gap, timeout=5
    )
    print(watch.active, watch.error)
    watch.cancel()
    stream: AsyncEventStream
    async with client.events(["lease."], after=3) as stream:
        async for event in stream:
            print(event.sequence + 1, event.topic.upper())
            break
    async for event in client.events():
        on_event(event)


async def administration(client: AsyncAgentKeeperClient) -> None:
    agents: list[AgentInfo] = await client.list_agents(
        [AgentStatus.DEAD, "ALIVE"], name_prefix="web", tools=["browser"], limit=3, timeout=1
    )
    leases: list[LeaseInfo] = await client.list_leases("job/", limit=10)
    info: LeaseInfo = await client.get_lease("job")
    print(len(agents), info.lease.token + info.remaining_ms + info.waiting, len(leases))
    groups: list[Election] = await client.list_elections("east")
    election: Election = await client.get_election("east")
    print(len(groups), election.state.term + election.candidates, election.candidate_agent_ids)
    told: Explanation = await client.explain_policy("agent:a", "call", "tool:t")
    print(told.allowed, told.policy_id.upper(), [each.effect for each in told.matching])
    tasks: list[Task] = await client.list_tasks(type="work", claimed_by="a", limit=1)
    summary: Summary = await client.summary()
    print(len(tasks), summary.agents_alive + summary.oldest_pending_ms)
    renewed: Lease = await client.renew_lease("job", "a", 3, ttl=60)
    await client.release_lease("job", "a", renewed.token)
    await client.heartbeat("a")
    await client.deregister("a")
    moved: LeaderMoved = await client.move_leader("b", timeout=10)
    saved: SnapshotSaved = await client.save_snapshot(Path("backup"), stale=True)
    print(moved.leader_node_id.upper(), moved.term + 1, saved.path.upper(), saved.size_bytes + 1)


async def failures(client: AsyncAgentKeeperClient) -> int:
    try:
        await client.find()
    except InvalidArgument as error:
        return len(error.field.upper())
    except (LeaseLost, LeadershipLost, ClaimLost, AgentLost) as error:
        return len(error.details())
    except NotFound as error:
        return len(error.reason.upper())
    except StaleToken:
        return 1
    except Compacted as error:
        return error.oldest + 1
    except (AlreadyExists, Overloaded, PermissionDenied, Refused) as error:
        return len(str(error))
    except (Unavailable, OutcomeUnknown, ClientClosed) as error:
        return len(str(error.code()))
    except AgentKeeperError as error:
        details: str = error.details()
        return len(details)
    return 0


async def main() -> None:
    async with AsyncAgentKeeperClient("localhost", 7070, timeout=10) as client:
        agent = await registry(client)
        await leases(client, agent)
        await elections(client, agent)
        await policies(client)
        await tasks(client, agent)
        await events(client)
        await administration(client)
        print(await failures(client))
    async with AsyncAgentKeeperClient(endpoints=["a:1", "b:1"]) as several:
        await several.close()
    async with AsyncAgentKeeperClient.embedded(
        binary="agentkeeper", port=1, data_dir="/tmp/x"
    ) as embedded:
        await embedded.find()
