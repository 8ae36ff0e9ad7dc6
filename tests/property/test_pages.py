"""Lists in pages, against a naive filter, while things change between the pages."""

import asyncio
import random
from types import SimpleNamespace

import pytest
from core_budget import bounded
from core_traffic import RandomDice, Traffic, small_limits
from hypothesis import given
from hypothesis import strategies as st

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.core import commands as c
from agentkeeper.core import limits
from agentkeeper.core.apply import apply
from agentkeeper.core.records import AgentStatus, TaskStatus
from agentkeeper.core.state import State
from agentkeeper.server.caller import Caller
from agentkeeper.server.services.elections import ElectionService
from agentkeeper.server.services.entitlements import EntitlementsService
from agentkeeper.server.services.leases import LeaseService
from agentkeeper.server.services.registry import RegistryService
from agentkeeper.server.services.tasks import TaskService
from agentkeeper.server.turns import Turns

LIVE = {AgentStatus.ALIVE, AgentStatus.UNREACHABLE}
ROOM = {
    "AGENTS": 50, "DEAD_AGENTS": 50, "CARDS_BYTES": 10**6, "LEASES": 50, "GROUPS": 50,
    "GROUPS_EACH": 50, "LEASES_EACH": 50, "POLICIES": 50, "PATTERN_SUBJECTS": 50, "TASKS": 50,
    "FINISHED_TASKS": 50, "TASK_BYTES": 10**6, "DUE_WORK_PER_ENTRY": 10**6,
}  # fmt: skip
NAMES = st.sampled_from(["", "a", "w", "work", "worker", "deploy", "x"])


class Listing:
    """A list: its method, its naive like, and what tells its entries apart, in their order."""

    def __init__(self, world, request, field, key, naive):
        self.world, self.request, self.field, self.key = world, request, field, key
        self.naive = naive
        """All keys that a state's records have which fit."""

    async def pages(self, limit, between):
        """The entries of each page, with what fitted as it was asked for."""
        handle = self.world.method(type(self.request).__name__.removesuffix("Request"))
        request = type(self.request)()
        request.CopyFrom(self.request)
        request.limit = limit
        while True:
            fitting = self.naive(self.world.state)
            answer = await handle(request, Caller())
            yield [self.key(entry) for entry in getattr(answer, self.field)], fitting
            if not answer.next_page_token:
                return
            request.page_token = answer.next_page_token
            between()


class World:
    """Services over a state that a test changes by hand."""

    def __init__(self, seed):
        self.state = State()
        self._traffic = Traffic(RandomDice(random.Random(seed)), self.state)
        self._made = set()
        self._count = 0
        self._random = random.Random(seed)

        async def read(caller):
            return self.state

        self.replica = SimpleNamespace(read=read, turns=Turns())
        kinds = (RegistryService, LeaseService, ElectionService, EntitlementsService, TaskService)
        self._methods = {m.name: m for kind in kinds for m in kind(self.replica).methods()}

    def method(self, name):
        return self._methods[name].handle

    def change(self):
        """Something happens: much of it adds, some takes away."""
        batch = self._traffic.batch()
        apply(self.state, batch._replace(commands=tuple(filter(self._is_new, batch.commands))))
        for make in self._random.sample((self._agent, self._lease, self._group, self._task), 2):
            self._do(*make())

    def _is_new(self, command):
        """Whether what is made has an id of its own, as replicas draw it."""
        if not isinstance(command.body, c.Register | c.CreateTask):
            return True
        made = command.body[0]
        known = made in self._made
        self._made.add(made)
        return not known

    def renew(self):
        """Everybody says that it lives, and time goes on by less than that lasts."""
        agents = [c.Heartbeat(agent) for agent in self.state.tool_sets]
        claimed = [t for t in self.state.tasks.values() if t.status == TaskStatus.CLAIMED]
        tasks = [c.ExtendTask(t.task_id, t.claimed_by, 0, 60_000) for t in claimed]
        self._do(*agents, *tasks)
        self._do(after_ms=25_000)

    def _do(self, *bodies, after_ms=0):
        commands = tuple(c.Command("", "", 0, 0, body) for body in bodies)
        time_ms = self.state.time_ms + after_ms
        apply(self.state, c.Batch(time_ms, time_ms, commands))

    def _name(self):
        self._count += 1
        stem = self._random.choice(["worker", "work", "a", "x", "deploy"])
        return f"{stem}{self._count * 7919 % 100}-{self._count}"

    def _somebody(self):
        return self._random.choice(list(self.state.tool_sets) or ["nobody"])

    def _agent(self):
        card = self._traffic._register().card._replace(name=self._name())
        yield c.Register(self._name(), card, 60_000, 0)

    def _lease(self):
        yield c.AcquireLease(self._name(), self._somebody(), 60_000, 0, False)

    def _group(self):
        yield c.Campaign(self._name(), self._somebody())

    def _task(self):
        yield c.CreateTask(self._name(), self._random.choice("xyz"), b"", (), 0, 60_000, 0, "")
        yield c.ClaimTask(self._somebody())
        policy = self._traffic._policy()._replace(policy_id=self._name())
        yield c.SetPolicy(policy)


@st.composite
def listings(draw):
    """Makes one of the lists, with any filters, of a world."""
    prefix, kind = draw(NAMES), draw(st.sampled_from(["agents", "leases", "groups", "policies"]))
    if draw(st.integers(0, 4)) == 0:
        status, type_ = draw(st.integers(0, 5)), draw(st.sampled_from(["", "x", "y"]))

        def tasks(state):
            found = (t for t in state.tasks.values() if status in (0, t.status))
            return [t.task_id for t in found if type_ in ("", t.type)]

        request = pb.ListTasksRequest(status=status, type=type_)
        return lambda world: Listing(world, request, "tasks", lambda t: t.id, tasks)
    if kind == "agents":
        statuses = draw(st.lists(st.sampled_from([1, 2, 3]), max_size=3))
        tools = draw(st.lists(st.sampled_from(["browser", "gpu"]), max_size=2, unique=True))

        def agents(state):
            return [
                a.agent_id
                for a in sorted(state.agents.values(), key=lambda a: a.order)
                if a.status in (statuses or LIVE)
                and a.card.name.startswith(prefix)
                and set(tools) <= set(a.card.tools)
            ]

        request = pb.ListAgentsRequest(statuses=statuses, name_prefix=prefix, tools=tools)
        return lambda world: Listing(world, request, "agents", lambda a: a.agent_id, agents)
    if kind == "leases":
        mine = draw(st.booleans())

        def of_holder(world):
            holder = world._somebody() if mine else ""

            def leases(state):
                held = (x for x in state.leases.values() if holder in ("", x.holder))
                return sorted(x.task_id for x in held if x.task_id.startswith(prefix))

            request = pb.ListLeasesRequest(task_id_prefix=prefix, holder_agent_id=holder)
            return Listing(world, request, "leases", lambda x: x.lease.task_id, leases)

        return of_holder
    if kind == "groups":
        return lambda world: Listing(
            world,
            pb.ListElectionsRequest(group_prefix=prefix),
            "elections",
            lambda e: e.state.group,
            lambda state: sorted(g for g in state.elections if g.startswith(prefix)),
        )
    subject = draw(st.sampled_from(["", "a", "a*", "*"]))
    return lambda world: Listing(
        world,
        pb.ListPoliciesRequest(subject_prefix=subject),
        "policies",
        lambda p: p.id,
        lambda state: sorted(
            p.policy_id for p in state.policies.values() if p.subject.startswith(subject)
        ),
    )


class Restless(Turns):
    """Lets the world change at some turns, and takes note of what fits then."""

    def __init__(self, world, listing, seed):
        super().__init__()
        self._world, self._listing = world, listing
        self._random = random.Random(seed)
        self.fitting = [set(listing.naive(world.state))]

    async def take(self):
        if self._random.random() < 0.3:
            self._random.choice((self._world.change, self._world.renew))()
            self.fitting.append(set(self._listing.naive(self._world.state)))


async def while_it_changes(seed, make):
    """Make one page that has room for all; return it, and what fitted at each moment."""
    world = a_world(seed)
    listing = make(world)
    world.replica.turns = turns = Restless(world, listing, seed)
    ((keys, _),) = [page async for page in listing.pages(1_000, None)]
    return keys, turns.fitting


def a_world(seed):
    world = World(seed)
    for _ in range(60):
        world.change()
    return world


async def walk(seed, make, limit, changes):
    """Go through a list while things change; return its pages and what fitted at each."""
    world = a_world(seed)

    def between():
        for _ in range(changes):
            world.change()

    return [page async for page in make(world).pages(limit, between)]


def run(seed, make, limit, changes):
    return with_room(walk(seed, make, limit, changes))


def with_room(work):
    with small_limits(), pytest.MonkeyPatch.context() as patch:
        for name, value in ROOM.items():
            patch.setattr(limits, name, value)
        return asyncio.run(work)


@bounded(60)
@given(seed=st.integers(0, 2**32), make=listings(), limit=st.integers(1, 7))
def test_the_pages_together_are_what_fits_in_order(seed, make, limit):
    pages = run(seed, make, limit, 0)
    assert [key for keys, _ in pages for key in keys] == pages[0][1]
    assert all(len(keys) == limit for keys, _ in pages[:-1])
    assert len(pages[-1][0]) in range(len(pages) > 1, limit + 1)


@bounded(60)
@given(
    seed=st.integers(0, 2**32), make=listings(), limit=st.integers(1, 4), changes=st.integers(1, 3)
)
def test_whatever_changes_meanwhile_what_fits_all_along_is_in_them_once(seed, make, limit, changes):
    pages = run(seed, make, limit, changes)
    listed = [key for keys, _ in pages for key in keys]
    assert len(listed) == len(set(listed))
    for keys, fitting in pages:
        assert keys == [key for key in fitting if key in keys]
    assert set.intersection(*(set(fitting) for _, fitting in pages)) <= set(listed)


@bounded(150)
@given(seed=st.integers(0, 2**32), make=listings())
def test_what_a_page_tells_was_so_at_some_moment_while_it_was_made(seed, make):
    keys, fitting = with_room(while_it_changes(seed, make))
    assert len(keys) == len(set(keys))
    assert set(keys) <= set.union(*fitting)
    assert set.intersection(*fitting) <= set(keys)


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.ListAgentsRequest(statuses=[1, 2, 3]), "agents"),
        (pb.ListLeasesRequest(), "leases"),
        (pb.ListElectionsRequest(), "elections"),
        (pb.ListPoliciesRequest(), "policies"),
        (pb.ListTasksRequest(), "tasks"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_there_is_something_to_list(request_, field):
    pages = run(
        3, lambda world: Listing(world, request_, field, lambda entry: 1, lambda state: []), 5, 0
    )
    assert sum(len(keys) for keys, _ in pages) >= 10
