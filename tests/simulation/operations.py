"""What clients do: all that the daemon offers, on few keys, so they get in each other's way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.server.errors import CallError
from tests.simulation.clients import AGENT_TTL_S, HEARTBEAT_S, Agent, Client, Operation

if TYPE_CHECKING:
    from tests.simulation.world import World

KEYS: Final = tuple(f"lease-{number}" for number in range(10))
GROUPS: Final = ("planners", "reviewers")
POLICIES: Final = tuple(f"policy-{number}" for number in range(8))
TOOLS: Final = ("read", "write")


class Work:
    """The next thing for a client to do; once `enough` was done there is no hurry any more."""

    def __init__(self, world: World, enough: int) -> None:
        self.world = world
        self.enough = enough
        self._choices = (
            (14, self._acquire),
            (6, self._wait_in_line),
            (12, self._renew),
            (8, self._release),
            (2, self._use_old_token),
            (10, self._create),
            (12, self._claim),
            (12, self._finish),
            (3, self._extend),
            (3, self._campaign),
            (2, self._resign),
            (3, self._set_policy),
            (1, self._deregister),
            (8, self._verify),
            (5, self._get_task),
            (3, self._get_agent),
            (3, self._check),
            (1, self._list),
            (1, self._find),
        )
        self._weights = [weight for weight, _ in self._choices]
        self._acts = [act for _, act in self._choices]

    def next(self, client: Client) -> None:
        """Begin an operation, after which the client goes on by itself."""
        if self.world.checks.counted["operations"] >= self.enough and client.rng.random() < 0.8:
            client.soon()
            return
        agent = client.agent()
        if agent is None:
            self._register(client)
            return
        client.rng.choices(self._acts, self._weights)[0](client, agent)

    # --- agents ----------------------------------------------------------------------------------
    def _register(self, client: Client) -> None:
        def ended(operation: Operation, data: bytes | None, error: CallError | None) -> None:
            if data is not None:
                agent_id = pb.RegisterResponse.FromString(data).agent_id
                agent = Agent(agent_id, operation.first_sent_s + 2 * AGENT_TTL_S * 0.999)
                client.agents.append(agent)
                self._beat_later(client, agent)
            client.soon()

        tools = [tool for tool in TOOLS if client.rng.random() < 0.7]
        card = pb.AgentCard(name=client.name, description="works", tools=tools)
        client.ask("Register", pb.RegisterRequest(card=card, ttl_seconds=AGENT_TTL_S), ended)

    def _beat_later(self, client: Client, agent: Agent) -> None:
        when_s = self.world.time_s + HEARTBEAT_S * client.rng.uniform(0.7, 1.1)
        self.world.at(self.world.beat(when_s), self._beat, client, agent)

    def _beat(self, client: Client, agent: Agent) -> None:
        def ended(operation: Operation, data: bytes | None, error: CallError | None) -> None:
            if data is not None:
                alive_s = operation.first_sent_s + 2 * AGENT_TTL_S * 0.999
                agent.alive_until_s = max(agent.alive_until_s, alive_s)
            elif error is not None and error.code == "NOT_FOUND":
                if agent.alive_until_s > self.world.time_s and agent in client.agents:
                    self.world.checks.violated(f"{agent.agent_id} is not found, but must be alive")
                client.lost(agent.agent_id)
            self._beat_later(client, agent)

        if agent in client.agents and client.session_id and not client.stopped:
            client.ask("Heartbeat", pb.HeartbeatRequest(agent_id=agent.agent_id), ended)

    def _deregister(self, client: Client, agent: Agent) -> None:
        client.lost(agent.agent_id)
        self._plain(client, "Deregister", pb.DeregisterRequest(agent_id=agent.agent_id))

    def _plain(
        self,
        client: Client,
        method: str,
        request: pb.HeartbeatRequest
        | pb.DeregisterRequest
        | pb.ReleaseLeaseRequest
        | pb.ResignRequest
        | pb.CampaignRequest
        | pb.SetPolicyRequest
        | pb.CompleteTaskRequest
        | pb.FailTaskRequest
        | pb.ExtendTaskRequest,
    ) -> None:
        client.ask(method, request, lambda operation, data, error: client.soon())

    # --- leases ----------------------------------------------------------------------------------
    def _acquire(self, client: Client, agent: Agent, wait_ms: int = 0) -> None:
        def ended(operation: Operation, data: bytes | None, error: CallError | None) -> None:
            if data is not None:
                response = pb.AcquireLeaseResponse.FromString(data)
                if response.acquired:
                    client.hold(operation, agent.agent_id, response.lease)
            client.soon()

        key = client.rng.choice(KEYS)
        client.let_go(key, agent.agent_id)  # what it holds may be replaced from now on
        request = pb.AcquireLeaseRequest(
            task_id=key,
            agent_id=agent.agent_id,
            ttl_seconds=client.rng.randint(1, 3),
            wait_ms=wait_ms,
            exclusive=client.rng.random() < 0.3,
        )
        timeout_s = wait_ms / 1000 + 1.0 if wait_ms else None
        client.ask("AcquireLease", request, ended, timeout_s=timeout_s)

    def _wait_in_line(self, client: Client, agent: Agent) -> None:
        self._acquire(client, agent, client.rng.choice((100, 400, 1500)))

    def _renew(self, client: Client, agent: Agent) -> None:
        def ended(operation: Operation, data: bytes | None, error: CallError | None) -> None:
            if data is not None:
                lease = pb.RenewLeaseResponse.FromString(data).lease
                if client.leases.get(key) == (holder, token):
                    client.hold(operation, holder, lease)
            elif error is not None and error.definite:
                client.leases.pop(key, None)
                client.old.append((key, holder, token))
            client.soon()

        if not client.leases:
            self._acquire(client, agent)
            return
        key = client.rng.choice(list(client.leases))
        holder, token = client.leases[key]
        request = pb.RenewLeaseRequest(
            task_id=key, agent_id=holder, token=pb.FencingToken(value=token)
        )
        client.ask("RenewLease", request, ended)

    def _release(self, client: Client, agent: Agent) -> None:
        if not client.leases:
            self._acquire(client, agent)
            return
        key = client.rng.choice(list(client.leases))
        holder, token = client.leases[key]
        client.let_go(key, holder)
        client.old.append((key, holder, token))
        self._release_token(client, key, holder, token)

    def _release_token(self, client: Client, key: str, holder: str, token: int) -> None:
        request = pb.ReleaseLeaseRequest(
            task_id=key, agent_id=holder, token=pb.FencingToken(value=token)
        )
        self._plain(client, "ReleaseLease", request)

    def _use_old_token(self, client: Client, agent: Agent) -> None:
        """A zombie: it goes on with a lease that it had once."""
        if not client.old:
            self._verify(client, agent)
            return
        key, holder, token = client.old.pop(client.rng.randrange(len(client.old)))
        if client.leases.get(key) == (holder, token):
            client.let_go(key, holder)
        self._release_token(client, key, holder, token)

    def _verify(self, client: Client, agent: Agent) -> None:
        def ended(operation: Operation, data: bytes | None, error: CallError | None) -> None:
            client.soon()

        known = list(client.leases.items())
        key, (_, token) = client.rng.choice(known) if known else (KEYS[0], ("", 1))
        request = pb.VerifyTokenRequest(task_id=key, token=pb.FencingToken(value=token))
        client.ask("VerifyToken", request, ended, write=False)

    # --- tasks -----------------------------------------------------------------------------------
    def _create(self, client: Client, agent: Agent) -> None:
        def ended(operation: Operation, data: bytes | None, error: CallError | None) -> None:
            if data is not None:
                task = pb.CreateTaskResponse.FromString(data).task
                client.tasks.append(task.id)
                del client.tasks[:-10]
            client.soon()

        rng = client.rng
        request = pb.CreateTaskRequest(
            type="summary",
            input=b"text" * rng.randint(0, 20),
            required_tools=[tool for tool in TOOLS if rng.random() < 0.3],
            max_retries=rng.randint(0, 3),
            ttl_seconds=rng.randint(1, 3),
            priority=rng.randint(0, 2),
            idempotency_key=f"once-{rng.randint(0, 40)}" if rng.random() < 0.2 else "",
        )
        client.ask("CreateTask", request, ended)

    def _claim(self, client: Client, agent: Agent) -> None:
        def ended(operation: Operation, data: bytes | None, error: CallError | None) -> None:
            if data is not None:
                response = pb.ClaimTaskResponse.FromString(data)
                if response.HasField("task"):
                    task = response.task
                    client.claims[task.id] = (agent.agent_id, task.claim_token)
            client.soon()

        wait_ms = client.rng.choice((1, 100, 800))
        request = pb.ClaimTaskRequest(agent_id=agent.agent_id, wait_ms=wait_ms)
        client.ask("ClaimTask", request, ended, timeout_s=wait_ms / 1000 + 1.0)

    def _finish(self, client: Client, agent: Agent) -> None:
        if not client.claims:
            self._create(client, agent)
            return
        task_id = client.rng.choice(list(client.claims))
        holder, token = client.claims[task_id]
        if client.rng.random() < 0.9:
            del client.claims[task_id]  # else it tries again later, with a claim that has ended
        if client.rng.random() < 0.7:
            request = pb.CompleteTaskRequest(
                task_id=task_id, agent_id=holder, claim_token=token, output=b"done"
            )
            self._plain(client, "CompleteTask", request)
        else:
            failed = pb.FailTaskRequest(
                task_id=task_id, agent_id=holder, claim_token=token, reason="no"
            )
            self._plain(client, "FailTask", failed)

    def _extend(self, client: Client, agent: Agent) -> None:
        if not client.claims:
            self._claim(client, agent)
            return
        task_id = client.rng.choice(list(client.claims))
        holder, token = client.claims[task_id]
        request = pb.ExtendTaskRequest(
            task_id=task_id, agent_id=holder, claim_token=token, ttl_seconds=2
        )
        self._plain(client, "ExtendTask", request)

    # --- elections and policies ------------------------------------------------------------------
    def _campaign(self, client: Client, agent: Agent) -> None:
        group = client.rng.choice(GROUPS)
        request = pb.CampaignRequest(group=group, agent_id=agent.agent_id)
        self._plain(client, "Campaign", request)

    def _resign(self, client: Client, agent: Agent) -> None:
        request = pb.ResignRequest(group=client.rng.choice(GROUPS), agent_id=agent.agent_id)
        self._plain(client, "Resign", request)

    def _set_policy(self, client: Client, agent: Agent) -> None:
        policy = pb.Policy(
            id=client.rng.choice(POLICIES),
            subject=client.rng.choice(("*", "worker-*", client.name)),
            action=client.rng.choice(("read", "write", "*")),
            resource="notes/*",
            effect=client.rng.choice((pb.POLICY_EFFECT_ALLOW, pb.POLICY_EFFECT_DENY)),
        )
        self._plain(client, "SetPolicy", pb.SetPolicyRequest(policy=policy))

    # --- reads -----------------------------------------------------------------------------------
    def _look(
        self,
        client: Client,
        method: str,
        request: pb.GetTaskRequest
        | pb.GetAgentRequest
        | pb.CheckPolicyRequest
        | pb.ListTasksRequest
        | pb.FindRequest,
        missing: str = "",
    ) -> None:
        """Read, at times content with a stale answer. `missing`: a violation if it is not found."""

        def ended(operation: Operation, data: bytes | None, error: CallError | None) -> None:
            if missing and error is not None and error.code == "NOT_FOUND":
                self.world.checks.violated(missing)
            client.soon()

        stale = client.rng.random() < 0.4
        client.ask(method, request, ended, write=False, stale=stale)

    def _get_task(self, client: Client, agent: Agent) -> None:
        if not client.tasks:
            self._list(client, agent)
            return
        task_id = client.rng.choice(client.tasks)
        missing = f"task {task_id} was acknowledged, but is not found"
        self._look(client, "GetTask", pb.GetTaskRequest(task_id=task_id), missing)

    def _get_agent(self, client: Client, agent: Agent) -> None:
        missing = f"agent {agent.agent_id} was acknowledged, but is not found"
        self._look(client, "GetAgent", pb.GetAgentRequest(agent_id=agent.agent_id), missing)

    def _check(self, client: Client, agent: Agent) -> None:
        request = pb.CheckPolicyRequest(subject=client.name, action="read", resource="notes/1")
        self._look(client, "CheckPolicy", request)

    def _list(self, client: Client, agent: Agent) -> None:
        self._look(client, "ListTasks", pb.ListTasksRequest(limit=5))

    def _find(self, client: Client, agent: Agent) -> None:
        self._look(client, "Find", pb.FindRequest(query="", limit=3))
