"""Agents as row numbers, and who has which tools and names as sets of them.

Rows are given in the order in which agents come and never again to another agent, so going through
a set meets the oldest agents first, and what two sets share costs microseconds. The sets are
Roaring bitmaps (Lemire et al., "Roaring bitmaps: implementation of an optimized software library",
Software: Practice and Experience 48(4), 2018).
"""

from collections.abc import Iterable, Sequence
from typing import Protocol

from pyroaring import BitMap

Sets = dict[str, BitMap]

MIN_GONE = 4096
"""How many rows must be without agent before `compact` does anything."""


class RowFollower(Protocol):
    """Who keeps something by row."""

    def dropped(self, row: int) -> None:
        """The row's agent is gone."""

    def moved(self, kept: Sequence[int]) -> None:
        """Rows have new numbers: what was row `kept[i]` is row `i` now. `kept` is ascending."""


class AgentRows:
    """Which agents there are, in order of registration; who is ALIVE, and who has what.

    Tools filter; names, of any kind, only tell who has them.
    """

    def __init__(self) -> None:
        self._row_of: dict[str, int] = {}  # in order of rows
        self._agents: list[str | None] = []
        self._tools_of: dict[str, tuple[str, ...]] = {}
        self._names_of: dict[str, tuple[str, ...]] = {}
        self._having: Sets = {}
        self._named: Sets = {}
        self._alive = BitMap()
        self._followers: list[RowFollower] = []
        self.generation = 0
        """How often rows have been given new numbers. Rows of another generation mean nothing."""

    @property
    def agents(self) -> Sequence[str | None]:
        """The agents by row, None for those gone. `compact` leaves it behind as it was then."""
        return self._agents

    def __len__(self) -> int:
        return len(self._row_of)

    def __contains__(self, agent_id: str) -> bool:
        return agent_id in self._row_of

    def follow(self, follower: RowFollower) -> None:
        """Tells `follower` from now on what becomes of the rows."""
        self._followers.append(follower)

    def unfollow(self, follower: RowFollower) -> None:
        """Tells `follower` nothing more; one that does not follow changes nothing."""
        self._followers = [other for other in self._followers if other is not follower]

    def put(
        self, agent_id: str, tools: Iterable[str], alive: bool, names: Iterable[str] = ()
    ) -> None:
        """Adds an agent in a new row; one that is there keeps its row and gets these tools and
        names.
        """
        row = self._row_of.get(agent_id)
        if row is None:
            row = self._row_of[agent_id] = len(self._agents)
            self._agents.append(agent_id)
        else:
            self._take(agent_id, row)
        self._tools_of[agent_id] = tuple(tools)
        self._names_of[agent_id] = tuple(names)
        _add(self._having, self._tools_of[agent_id], row)
        _add(self._named, self._names_of[agent_id], row)
        self.set_alive(agent_id, alive)

    def set_alive(self, agent_id: str, alive: bool) -> None:
        """Notes whether an agent is ALIVE; an unknown one changes nothing."""
        row = self._row_of.get(agent_id)
        if row is None:
            return
        if alive:
            self._alive.add(row)
        else:
            self._alive.discard(row)

    def drop(self, agent_id: str) -> None:
        """Forgets an agent; an unknown one changes nothing."""
        row = self._row_of.get(agent_id)
        if row is None:
            return
        self._take(agent_id, row)
        self._alive.discard(row)
        del self._row_of[agent_id], self._tools_of[agent_id], self._names_of[agent_id]
        self._agents[row] = None
        for follower in self._followers:
            follower.dropped(row)

    def row(self, agent_id: str) -> int | None:
        """The agent's row, if it is known."""
        return self._row_of.get(agent_id)

    def agent(self, row: int) -> str | None:
        """The row's agent, unless it is gone."""
        return self._agents[row] if 0 <= row < len(self._agents) else None

    def named(self, name: str) -> BitMap:
        """The agents that have the name, ALIVE or not. Only to be looked at."""
        return self._named.get(name) or BitMap()

    def fitting(self, tools: Iterable[str] = ()) -> BitMap:
        """The ALIVE agents that have all of the tools. The set is the caller's own."""
        sets: list[BitMap] = []
        for tool in tools:
            having = self._having.get(tool)
            if having is None:
                return BitMap()
            sets.append(having)
        sets.sort(key=len)
        if not sets:
            return self._alive.copy()
        fitting = sets[0] & self._alive
        for having in sets[1:]:
            fitting &= having
        return fitting

    def compact(self) -> bool:
        """Gives the agents new rows without gaps, in the same order, if more than half of the rows
        are without agent. Tells whether it did; then rows and sets from before mean nothing.

        To be called between searches; 250 to 500 ms if 40,000 agents with a dozen tools are left.
        """
        gone = len(self._agents) - len(self)
        if gone < MIN_GONE or gone * 2 <= len(self._agents):
            return False
        kept = list(self._row_of.values())
        agents: list[str | None] = list(self._row_of)
        alive = [row for row, before in enumerate(kept) if before in self._alive]
        having = _sets(self._tools_of[agent_id] for agent_id in self._row_of)
        named = _sets(self._names_of[agent_id] for agent_id in self._row_of)
        self._row_of = {agent_id: row for row, agent_id in enumerate(self._row_of)}
        self._agents = agents  # not in place: a search may still look names up in the former list
        self._alive = BitMap(alive)
        self._having, self._named = having, named
        self.generation += 1
        for follower in self._followers:
            follower.moved(kept)
        return True

    def _take(self, agent_id: str, row: int) -> None:
        _discard(self._having, self._tools_of[agent_id], row)
        _discard(self._named, self._names_of[agent_id], row)


def _add(sets: Sets, keys: Iterable[str], row: int) -> None:
    for key in keys:
        sets.setdefault(key, BitMap()).add(row)


def _discard(sets: Sets, keys: Iterable[str], row: int) -> None:
    for key in keys:
        rows = sets.get(key)
        if rows is None:
            continue  # named twice in a card
        rows.discard(row)
        if not rows:
            del sets[key]


def _sets(keys_of: Iterable[tuple[str, ...]]) -> Sets:
    """The sets of agents, in order of their rows, by what each has."""
    sets: dict[str, list[int]] = {}
    for row, keys in enumerate(keys_of):
        for key in keys:
            sets.setdefault(key, []).append(row)
    return {key: BitMap(rows) for key, rows in sets.items()}
