"""Something of everything, done through one replica, and what must be known of it ever after."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.client import methods

from .wire import PERMISSION_DENIED, Session, Wire, refused

LONG_S = 3_600


@dataclass
class Story:
    """What was done, and how it was answered."""

    mark: str = field(default_factory=lambda: uuid.uuid4().hex[:8])
    agents: list[str] = field(default_factory=list)
    session: Session = field(default_factory=lambda: Session(""))
    lease: Any = None
    former_lease: Any = None
    pending: Any = None
    claimed: Any = None
    completed: Any = None
    dead: Any = None
    last_sequence: int = 0
    first_answer: Any = None
    events: list[pb.Event] = field(default_factory=list)

    def name(self, stem: str) -> str:
        return f"{stem}-{self.mark}"


def play(wire: Wire) -> Story:
    """Do something of everything."""
    story = Story()
    watch = wire.watch_all()
    tool = story.name("tool")
    story.agents = [wire.register(story.name(f"agent{i}"), tool, ttl=LONG_S) for i in range(3)]
    one, two, gone = story.agents
    wire.call(methods.HEARTBEAT, pb.HeartbeatRequest(agent_id=one))
    for agent_id in (gone, one, two):
        wire.call(methods.CAMPAIGN, campaign(story, agent_id))
    wire.call(methods.RESIGN, pb.ResignRequest(group=story.name("group"), agent_id=gone))
    wire.call(methods.DEREGISTER, pb.DeregisterRequest(agent_id=gone))
    story.former_lease = wire.acquire(story.name("key"), one, ttl=LONG_S).lease
    wire.release(wire.acquire(story.name("other"), one).lease)
    story.lease = wire.acquire(story.name("key"), one, ttl=LONG_S).lease
    wire.call(methods.RENEW_LEASE, renewal(story.lease))
    wire.set_policy(story.name("allow"), story.name("subject") + "*")
    wire.set_policy(story.name("deny"), story.name("subject") + "-x", pb.POLICY_EFFECT_DENY)
    wire.set_policy(story.name("gone"), story.name("subject"), pb.POLICY_EFFECT_DENY)
    wire.call(methods.DELETE_POLICY, pb.DeletePolicyRequest(id=story.name("gone")))
    _play_tasks(wire, story, tool)
    story.session = wire.open_session(ttl_seconds=LONG_S)
    story.first_answer = wire.call(
        methods.CREATE_TASK, session_request(story), **story.session.metadata(1)
    )
    story.last_sequence = watch.wait_for("task.created", story.first_answer.task.id).sequence_number
    story.events = [e for e in watch.events if e.sequence_number <= story.last_sequence]
    watch.cancel()
    return story


def _play_tasks(wire: Wire, story: Story, tool: str) -> None:
    one = story.agents[0]
    tasks = []
    for i in range(3):
        wire.create_task(story.name("task"), tool, input=bytes([i]), ttl_seconds=LONG_S)
        tasks.append(wire.call(methods.CLAIM_TASK, pb.ClaimTaskRequest(agent_id=one)).task)
    completed, dead, claimed = tasks
    wire.call(
        methods.COMPLETE_TASK,
        pb.CompleteTaskRequest(task_id=completed.id, agent_id=one, output=b"done"),
    )
    wire.call(methods.FAIL_TASK, pb.FailTaskRequest(task_id=dead.id, agent_id=one, reason="bad"))
    wire.call(methods.EXTEND_TASK, pb.ExtendTaskRequest(task_id=claimed.id, agent_id=one))
    story.completed = wire.get_task(completed.id)
    story.dead = wire.get_task(dead.id)
    story.claimed = wire.get_task(claimed.id)
    story.pending = wire.create_task(
        story.name("task"), tool, input=b"in", idempotency_key=story.name("idempotency")
    )


def campaign(story: Story, agent_id: str) -> pb.CampaignRequest:
    return pb.CampaignRequest(group=story.name("group"), agent_id=agent_id)


def renewal(lease: pb.Lease) -> pb.RenewLeaseRequest:
    return pb.RenewLeaseRequest(
        task_id=lease.task_id, agent_id=lease.holder_agent_id, token=lease.token
    )


def session_request(story: Story) -> pb.CreateTaskRequest:
    return pb.CreateTaskRequest(type=story.name("numbered"), required_tools=["nobody has this"])


def recall(wire: Wire, story: Story) -> None:
    """Check by way of a replica, changing nothing, that all of the story is known."""
    one, two, _ = story.agents
    for agent_id, status in zip(
        story.agents,
        (pb.AGENT_STATUS_ALIVE, pb.AGENT_STATUS_ALIVE, pb.AGENT_STATUS_DEAD),
        strict=True,
    ):
        agent = wire.call(methods.GET_AGENT, pb.GetAgentRequest(agent_id=agent_id)).agent
        assert agent.status == status
    found = wire.call(
        methods.FIND, pb.FindRequest(query=story.name("agent1"), tools=[story.name("tool")])
    )
    assert [agent.agent_id for agent in found.agents] == [two, one]
    state = wire.call(methods.CAMPAIGN, campaign(story, one)).state
    assert (state.leader_agent_id, state.term) == (one, 2)
    refusal = wire.acquire(story.name("key"), two)
    assert (refusal.acquired, refusal.lease.holder_agent_id) == (False, one)
    with refused(PERMISSION_DENIED):
        wire.call(methods.RENEW_LEASE, renewal(story.former_lease))
    renewed = wire.call(methods.RENEW_LEASE, renewal(story.lease)).lease
    assert (renewed.token, renewed.ttl_seconds) == (story.lease.token, LONG_S)
    assert wire.check(story.name("subject")).allowed
    assert not wire.check(story.name("subject") + "-x").allowed
    listed = wire.call(
        methods.LIST_POLICIES, pb.ListPoliciesRequest(subject_prefix=story.name("subject"))
    )
    assert [p.id for p in listed.policies] == [story.name("allow"), story.name("deny")]
    for task in (story.pending, story.claimed, story.completed, story.dead):
        assert wire.get_task(task.id) == task
    tasks = [task for task in wire.list_tasks() if task.type == story.name("task")]
    assert {task.id for task in tasks} == {
        task.id for task in (story.pending, story.claimed, story.completed, story.dead)
    }
    again = wire.create_task("another", idempotency_key=story.name("idempotency"))
    assert again.id == story.pending.id
    retry = wire.call(methods.CREATE_TASK, session_request(story), **story.session.metadata(1))
    assert retry == story.first_answer
    watch = wire.watch_all(after=story.events[0].sequence_number)
    watch.wait_for("task.created", story.first_answer.task.id)
    count = len(story.events) - 1
    assert watch.events[:count] == story.events[1:]
    watch.cancel()


def go_on(wire: Wire, story: Story) -> None:
    """End what the story left open; counters go on above all that was before."""
    one, two, _ = story.agents
    fresh = wire.acquire(story.name("fresh"), two).lease
    assert fresh.token.value > max(story.lease.token.value, story.claimed.claim_token)
    wire.release(story.lease)
    wire.call(methods.RESIGN, pb.ResignRequest(group=story.name("group"), agent_id=one))
    state = wire.call(methods.CAMPAIGN, campaign(story, two)).state
    assert (state.leader_agent_id, state.term) == (two, 3)
    wire.call(
        methods.COMPLETE_TASK,
        pb.CompleteTaskRequest(
            task_id=story.claimed.id, agent_id=one, claim_token=story.claimed.claim_token
        ),
    )
    claimed = wire.call(methods.CLAIM_TASK, pb.ClaimTaskRequest(agent_id=two)).task
    assert claimed.id == story.pending.id
    assert claimed.claim_token > fresh.token.value
    requeued = wire.call(methods.REQUEUE_TASK, pb.RequeueTaskRequest(task_id=story.dead.id)).task
    assert requeued.status == pb.TASK_STATUS_PENDING
    begin = int(wire.watch_all().headers["agentkeeper-sequence"])
    assert begin > story.last_sequence
    close = pb.CloseSessionRequest(session_id=story.session.session_id)
    wire.call(methods.CLOSE_SESSION, close)
