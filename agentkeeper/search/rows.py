"""Agents as row numbers, and who has which tools and names as sets of them.

Rows are given in the order in which agents come, so going through a set meets the oldest agents
first, and what two sets share costs microseconds. Those of agents gone stay empty until `compact`
moves others down, in the same order. The sets are Roaring bitmaps (Lemire et al., "Roaring bitmaps:
implementation of an optimized software library", Software: Practice and Experience 48(4), 2018).
"""

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Protocol

from pyroaring import BitMap

Sets = dict[str, BitMap]

MIN_GONE = 4096
"""How many rows must be without agent before `compact` does anything."""
STEP_ROWS = 64
"""So many rows are looked at in one step; below a millisecond if all are moved."""
KEPT_MOVES = 1024
"""A search that goes on for more steps than these is done again."""


class RowFollower(Protocol):
    """Who keeps something by row."""

    def dropped(self, row: int) -> None:
        """The row's agent is gone."""

    def moved(self, before: Sequence[int], after: Sequence[int]) -> None:
        """Who was in row `before[i]` is in row `after[i]` now, which was free. Both ascend."""

    def cut(self, end: int) -> None:
        """There are no rows from `end` on, until agents come: compaction is done."""


class AgentRows:
    """Which agents there are, in order of registration; who is ALIVE, and who has what.

    Tools filter; names, of any kind, only tell who has them.
    """

    def __init__(self) -> None:
        self._row_of: dict[str, int] = {}
        self._agents: list[str | None] = []
        self._tools_of: dict[str, tuple[str, ...]] = {}
        self._names_of: dict[str, tuple[str, ...]] = {}
        self._having: Sets = {}
        self._named: Sets = {}
        self._alive = BitMap()
        self._followers: list[RowFollower] = []
        self.compacting = False
        """Whether `compact` is at it."""
        self._looked = self._filled = 0
        """Compaction has looked at so many rows; their agents are in the first so many."""
        self.moves = 0
        """How often rows have come to mean other agents. `unmoved` takes it as a point in time."""
        self._last_moves: deque[BitMap] = deque(maxlen=KEPT_MOVES)

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
        """Once more than half of the rows are without agent, moves the others down, some with each
        call, until no gaps are left. Tells whether there is more to do.

        What was in a set before may be in another row now; followers are told.
        """
        gone = len(self._agents) - len(self)
        if not self.compacting and (gone < MIN_GONE or gone * 2 <= len(self._agents)):
            return False
        self.compacting = True
        before, after = [], []
        end = min(self._looked + STEP_ROWS, len(self._agents))
        for row in range(self._looked, end):
            agent_id = self._agents[row]
            if agent_id is None:
                continue
            if row != self._filled:
                self._move(agent_id, row, self._filled)
                before.append(row)
                after.append(self._filled)
            self._filled += 1
        self._looked = end
        if before:
            self._note(BitMap(before) | BitMap(after))
            for follower in self._followers:
                follower.moved(before, after)
        if end == len(self._agents):
            self._finish()
        return self.compacting

    def unmoved(self, rows: BitMap, moves: int) -> BitMap:
        """Those of the rows that mean whom they meant when `moves` was this, if he is there."""
        missed = self.moves - moves
        if missed > len(self._last_moves):
            return BitMap()
        return rows.difference(*islice(reversed(self._last_moves), missed))

    def _note(self, rows: BitMap) -> None:
        self.moves += 1
        self._last_moves.append(rows)

    def _move(self, agent_id: str, row: int, to: int) -> None:
        self._row_of[agent_id] = to
        self._agents[row], self._agents[to] = None, agent_id
        if row in self._alive:
            self._alive.add(to)
            self._alive.remove(row)
        for sets, keys in (
            (self._having, self._tools_of[agent_id]),
            (self._named, self._names_of[agent_id]),
        ):
            for key in keys:
                sets[key].add(to)
                sets[key].discard(row)

    def _finish(self) -> None:
        end = self._filled
        self._note(BitMap(range(end, len(self._agents))))
        del self._agents[end:]
        self.compacting = False
        self._looked = self._filled = 0
        for follower in self._followers:
            follower.cut(end)

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
