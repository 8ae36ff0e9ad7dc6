"""The log on a disk that loses power, fills up and fails, against lists."""

from __future__ import annotations

import contextlib
import random

from core_budget import bounded
from hypothesis import assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from simulated_disk import SimulatedDisk

from agentkeeper.consensus.config import Durability
from agentkeeper.consensus.entries import NO_OP, Entry
from agentkeeper.consensus.journal import Journal, JournalFullError

SEGMENT_BYTES = 400
COMMANDS = st.lists(st.binary(max_size=60), min_size=1, max_size=8)


class DeadError(Exception):
    pass


class JournalMachine(RuleBasedStateMachine):
    """Knows what the log holds in memory and what must be found of it after a crash.

    On disk the entries that were added since the last flush come one by one, each replacing what
    was there from its index on; all that differs is how many of them made it. Entries before the
    first one kept may be found or not, but none that is kept may be missing.
    """

    @initialize(seed=st.integers(0, 2**32), durability=st.sampled_from(Durability))
    def begin(self, seed: int, durability: Durability) -> None:
        self.disk = SimulatedDisk(random.Random(seed))
        self.durability = durability
        self.journal = Journal.create(self.disk, durability=durability, segment_bytes=SEGMENT_BYTES)
        self.memory: list[Entry] = []
        self.unflushed = 0  # how many of the last ones
        self.begins_anew = False  # whether the first of those replaces everything
        self.durable_index = 0
        self.term = 1
        self.stored: list[Entry] = []  # what the files hold, with all that was ever trimmed
        self.history: list[list[Entry]] = [[]]  # all that `stored` has been
        self.first_kept = 0  # in `stored`
        self.first_kept_anew = 0  # once what begins anew is stored

    # --- the model ---------------------------------------------------------------------------
    def stages(self) -> list[list[Entry]]:
        """Give what the files hold as the unflushed entries come in."""
        added = self.memory[len(self.memory) - self.unflushed :]
        base: list[Entry] = []
        if added and not self.begins_anew:
            base = [entry for entry in self.stored if entry[1] < added[0][1]]
        return [self.stored] + [base + added[:count] for count in range(1, len(added) + 1)]

    def settle(self, count: int) -> None:
        """Note that `count` of the unflushed entries are stored."""
        if count == 0:
            return
        stages = self.stages()
        self.history += stages[1 : count + 1]
        self.stored = stages[count]
        self.unflushed -= count
        self.durable_index = self.stored[-1][1]
        if self.begins_anew:
            self.first_kept = self.first_kept_anew
            self.begins_anew = False

    def append(self, commands: list[bytes]) -> None:
        for command in commands:
            index = self.memory[-1][1] + 1 if self.memory else 1
            self.memory.append((command, index, self.term))
            self.journal.add(command, index, self.term)
            self.unflushed += 1

    def reopen(self, stages: list[list[Entry]]) -> None:
        self.journal = Journal.open(
            self.disk, durability=self.durability, segment_bytes=SEGMENT_BYTES
        )
        found = self.journal[:]
        matching = [
            count
            for count, stage in enumerate(stages)
            if found == stage[len(stage) - len(found) :]
            and (found == stage or (found and found[0][1] <= self.first_kept))
        ]
        assert matching, (found, stages)
        if self.begins_anew and matching[-1] > 0:
            self.first_kept = found[0][1]
        self.adopt(stages[matching[-1]], found)

    def adopt(self, stored: list[Entry], found: list[Entry]) -> None:
        self.stored = stored
        self.history.append(stored)
        self.memory = found.copy()
        self.unflushed = 0
        self.begins_anew = False
        self.durable_index = found[-1][1] if found else 0

    # --- use ---------------------------------------------------------------------------------
    @rule(commands=COMMANDS)
    def add(self, commands: list[bytes]) -> None:
        self.append(commands)

    @rule()
    def flush(self) -> None:
        self.journal.flush()
        self.settle(self.unflushed)

    @precondition(lambda self: len(self.memory) > 1)
    @rule(data=st.data(), commands=st.just([]) | COMMANDS)
    def replace(self, data: st.DataObject, commands: list[bytes]) -> None:
        at = data.draw(st.integers(1, len(self.memory) - 1))
        self.unflushed = max(0, self.unflushed - len(self.memory[at:]))
        self.durable_index = min(self.durable_index, self.memory[at][1] - 1)
        del self.memory[at:]
        self.journal.deleteEntriesFrom(at)
        self.term += 1
        self.append(commands)

    @precondition(lambda self: len(self.memory) > 1)
    @rule(data=st.data())
    def trim(self, data: st.DataObject) -> None:
        at = data.draw(st.integers(0, len(self.memory) - 1))
        # What is trimmed must have been stored, as what a snapshot has committed is.
        assume(len(self.memory) - at > self.unflushed)
        del self.memory[:at]
        self.journal.deleteEntriesTo(at)
        if self.begins_anew:
            self.first_kept_anew = self.memory[0][1]
        else:
            self.first_kept = self.memory[0][1]

    @rule(data=st.data())
    def restart(self, data: st.DataObject) -> None:
        last = self.memory[-1][1] if self.memory else 0
        index = data.draw(st.integers(1, last + 20))
        self.term += 1
        self.memory = [(NO_OP, index, self.term)]
        self.journal.restart(index, self.term)
        self.unflushed = 1
        self.begins_anew = True
        self.durable_index = 0
        self.first_kept_anew = index

    # --- trouble -----------------------------------------------------------------------------
    @rule(room_bytes=st.integers(0, 2 * SEGMENT_BYTES))
    def flush_on_a_full_disk(self, room_bytes: int) -> None:
        self.disk.capacity_bytes = self.disk.used_bytes + room_bytes
        try:
            self.journal.flush()
        except JournalFullError:
            added = self.memory[len(self.memory) - self.unflushed :]
            stored = sum(index <= self.journal.durable_index for _, index, _ in added)
            assert stored < self.unflushed
            self.settle(stored)
        else:
            self.settle(self.unflushed)
        self.disk.capacity_bytes = None

    @rule()
    def die(self) -> None:
        self.disk.kill()
        self.reopen([self.stored])

    @rule()
    def lose_power(self) -> None:
        self.disk.power_cut()
        self.reopen_after_power_cut([self.stored])

    @rule(operation_number=st.integers(1, 12), end=st.sampled_from(["kill", "power cut"]))
    def die_while_flushing(self, operation_number: int, end: str) -> None:
        self.stop_at(operation_number)
        with contextlib.suppress(DeadError):
            self.journal.flush()
        self.end(end)

    @rule(good_syncs=st.integers(0, 3), end=st.sampled_from(["kill", "power cut"]))
    def fail_to_sync(self, good_syncs: int, end: str) -> None:
        syncs = self.disk.syncs

        def fail_later(operation: str, name: str) -> None:
            if self.disk.syncs > syncs + good_syncs:
                self.disk.fail_syncs = 1

        self.disk.before = fail_later
        with contextlib.suppress(OSError):
            self.journal.flush()
        self.end(end)

    @rule(operation_number=st.integers(1, 8), end=st.sampled_from(["kill", "power cut"]))
    def die_while_opening(self, operation_number: int, end: str) -> None:
        self.disk.kill()
        self.unflushed = 0
        self.stop_at(operation_number)
        with contextlib.suppress(DeadError):
            Journal.open(self.disk)
        self.end(end)

    def stop_at(self, operation_number: int) -> None:
        stopped_at = self.disk.operations + operation_number

        def stop(operation: str, name: str) -> None:
            if self.disk.operations >= stopped_at:
                raise DeadError

        self.disk.before = stop

    def end(self, how: str) -> None:
        self.disk.before = None
        self.disk.fail_syncs = None
        stages = self.stages()
        if how == "kill":
            self.disk.kill()
            self.reopen(stages)
        else:
            self.disk.power_cut()
            self.reopen_after_power_cut(stages)

    def reopen_after_power_cut(self, stages: list[list[Entry]]) -> None:
        if self.durability is Durability.FSYNC:
            self.reopen(stages)
            return
        # Nothing was promised but that it is something that the log once was, less its beginning.
        self.journal = Journal.open(
            self.disk, durability=self.durability, segment_bytes=SEGMENT_BYTES
        )
        found = self.journal[:]
        known = self.history + stages
        assert any(found == stage[len(stage) - len(found) :] for stage in known), found
        self.adopt(found, found)
        self.first_kept = found[0][1] if found else 0

    # --- what always holds -------------------------------------------------------------------
    @invariant()
    def memory_is_as_expected(self) -> None:
        journal = self.journal
        assert journal[:] == self.memory
        assert journal.size_bytes == sum(len(command) for command, _, _ in self.memory)
        assert journal.has_unflushed == (self.unflushed > 0)
        assert journal.durable_index == self.durable_index


TestJournal = JournalMachine.TestCase
TestJournal.settings = settings(bounded(60), stateful_step_count=40)
