"""A program that uses all of the sync face, for type checkers; nobody runs it."""

from pathlib import Path

from agentkeeper import (
    AgentHandle,
    AgentInfo,
    AgentKeeperClient,
    AgentKeeperError,
    AgentLost,
    AgentStatus,
    AlreadyExists,
    CheckResult,
    ClaimLost,
    ClientClosed,
    Compacted,
    Election,
    ElectionState,
    EventStream,
    Explanation,
    FindMode,
    FoundAgent,
    FoundAgents,
    InvalidArgument,
    LeaderMoved,
    Leadership,
    LeadershipLost,
    Lease,
    LeaseHandle,
    LeaseInfo,
    LeaseLost,
    LossSignal,
    NotFound,
    OutcomeUnknown,
    Overloaded,
    PermissionDenied,
    Policy,
    PolicyEffect,
    Refused,
    SnapshotSaved,
    StaleToken,
    Subscription,
    Summary,
    Task,
    TaskHandle,
    TaskStatus,
    Unavailable,
    WatchEvent,
    WatchGap,
    Worker,
)


def on_agent_lost(agent: AgentHandle) -> None:
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


def handler(task: TaskHandle) -> bytes | None:
    task.check()
    if task.lost or task.lost.wait(0.1):
        raise ClaimLost(task.lost.reason)
    whole: Task = task.task
    print(task.id.upper(), task.type.upper(), task.token + 1, whole.status is TaskStatus.CLAIMED)
    return task.input.upper() or None


def registry(client: AgentKeeperClient) -> AgentHandle:
    agent = client.register(
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
    info: AgentInfo = client.get_agent(agent.agent_id, timeout=1)
    found: list[AgentInfo] = client.find("browse", tools=("browser",), limit=3)
    print(info.card.metadata.items(), [each.status.value for each in found])
    ranked: FoundAgents = client.find("somebody who can browse")
    print(ranked.mode is FindMode.SEMANTIC, ranked.pending + 1, [a.score + 1 for a in ranked[:3]])
    if ranked:
        best: FoundAgent = ranked[0]
        print(best.score + 1)
    with client.register("other", "", "1") as other:
        signal: LossSignal = other.lost
        print(bool(signal), signal.is_set(), signal.wait(timeout=1.0))
    agent.deregister(timeout=3)
    return agent


def leases(client: AgentKeeperClient, agent: AgentHandle) -> None:
    def on_lost(lease: LeaseHandle) -> None:
        print(lease.lease.task_id.upper())

    lease = client.acquire_lease(
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
    with lease:
        lease.check()
        renewed: Lease = lease.renew(ttl=60, timeout=3)
        valid: bool = client.verify_token("job", lease.token)
        print(renewed.token == lease.token, valid, lease.lost.is_set())
    lease.release(timeout=1)


def elections(client: AgentKeeperClient, agent: AgentHandle) -> None:
    state: ElectionState = client.campaign("group", agent.agent_id)
    print(state.leader_agent_id.upper(), state.term + 1, state.elected_at)
    client.resign("group", agent.agent_id)

    def on_lost(leadership: Leadership) -> None:
        print(leadership.group.upper(), leadership.term + 1)

    with client.lead("group", agent, on_lost=on_lost, timeout=30) as leadership:
        leadership.check()
        print(leadership.agent_id.upper(), leadership.lost.wait(0))
        leadership.resign(timeout=1)

    def on_change(state: ElectionState) -> None:
        print(state.group.upper())

    with client.watch_election("group", on_change, after=1, on_gap=on_gap) as watch:
        print(watch.active)


def policies(client: AgentKeeperClient) -> None:
    policy: Policy = client.set_policy("p", "agent:*", "call", "tool:*", PolicyEffect.ALLOW)
    client.set_policy(policy.id, "agent:*", "call", "tool:*", "DENY")
    result: CheckResult = client.check_policy("agent:a", "call", "tool:t")
    print(result.allowed, result.reason.upper(), [each.effect for each in client.list_policies()])
    client.delete_policy(policy.id)


def tasks(client: AgentKeeperClient, agent: AgentHandle) -> None:
    task: Task = client.create_task(
        "work", b"in", ["browser"], 3, 60, priority=1, idempotency_key="once"
    )
    claimed: Task = client.claim_task(agent.agent_id, timeout=1)
    client.extend_task(task.id, agent.agent_id, 60, claim_token=claimed.claim_token)
    client.complete_task(task.id, agent.agent_id, b"out")
    client.fail_task(task.id, agent.agent_id, "reason")
    client.requeue_task(task.id)
    by_status: list[Task] = [*client.list_tasks(TaskStatus.DEAD), *client.list_tasks("PENDING")]
    print(client.get_task(task.id).output.upper(), len(by_status))
    worker: Worker = client.worker(agent, handler, concurrency=4, drain_timeout=10)
    worker.stop()
    worker.run()
    with client.worker(agent, lambda task: task.input) as running:
        error: AgentKeeperError | None = running.error
        print(error)


def events(client: AgentKeeperClient) -> None:
    watch: Subscription = client.watch(["agent."], on_event, after=0, on_gap=on_gap, timeout=5)
    print(watch.active, watch.error)
    watch.cancel()
    stream: EventStream
    with client.events(["lease."], after=3) as stream:
        for event in stream:
            print(event.sequence + 1, event.topic.upper())
            break
    for event in client.events():
        on_event(event)


def administration(client: AgentKeeperClient) -> None:
    agents: list[AgentInfo] = client.list_agents(
        [AgentStatus.DEAD, "ALIVE"], name_prefix="web", tools=["browser"], limit=3, timeout=1
    )
    leases: list[LeaseInfo] = client.list_leases("job/", limit=10)
    info: LeaseInfo = client.get_lease("job")
    print(len(agents), info.lease.token + info.remaining_ms + info.waiting, len(leases))
    groups: list[Election] = client.list_elections("east")
    election: Election = client.get_election("east")
    print(len(groups), election.state.term + election.candidates, election.candidate_agent_ids)
    told: Explanation = client.explain_policy("agent:a", "call", "tool:t")
    print(told.allowed, told.policy_id.upper(), [each.effect for each in told.matching])
    tasks: list[Task] = client.list_tasks(type="work", claimed_by="a", limit=1)
    summary: Summary = client.summary()
    print(len(tasks), summary.agents_alive + summary.oldest_pending_ms)
    renewed: Lease = client.renew_lease("job", "a", 3, ttl=60)
    client.release_lease("job", "a", renewed.token)
    client.heartbeat("a")
    client.deregister("a")
    moved: LeaderMoved = client.move_leader("b", timeout=10)
    saved: SnapshotSaved = client.save_snapshot(Path("backup"), stale=True)
    print(moved.leader_node_id.upper(), moved.term + 1, saved.path.upper(), saved.size_bytes + 1)


def failures(client: AgentKeeperClient) -> int:
    try:
        client.find()
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


def main() -> None:
    with AgentKeeperClient("localhost", 7070, timeout=10) as client:
        agent = registry(client)
        leases(client, agent)
        elections(client, agent)
        policies(client)
        tasks(client, agent)
        events(client)
        administration(client)
        print(failures(client))
    with AgentKeeperClient(endpoints=["a:1", "b:1"]) as several:
        several.close()
    with AgentKeeperClient.embedded(binary="agentkeeper", port=1, data_dir="/tmp/x") as embedded:
        embedded.find()
