"""Writes a fixed log of random commands, applies it, and prints what a replica must agree on.

Run as a program by the determinism tests, so that each run has its own seed of string hashes.
"""

import hashlib
import random
import sys

from core_traffic import RandomDice, Traffic, small_limits

from agentkeeper.core.apply import apply
from agentkeeper.core.codec import ENCODING, pack, pack_batch, unpack_batch
from agentkeeper.core.state import State


def write_log(seed, batches):
    """A log of packed batches, written while a state follows along."""
    state, log = State(), []
    traffic = Traffic(RandomDice(random.Random(seed)), state)
    for _ in range(batches):
        data = pack_batch(traffic.batch(), ENCODING)
        log.append(data)
        apply(state, unpack_batch(data))
    return log


def replay(state, log):
    """Apply a log; what each entry answered and told, as bytes."""
    outcomes = []
    for data in log:
        results, events = apply(state, unpack_batch(data))
        outcomes.append(pack(([(type(result).__name__, result) for result in results], events)))
    return outcomes


def main(seed, batches):
    with small_limits():
        log = write_log(seed, batches)
        state = State()
        outcomes = replay(state, log)
    commands = sum(len(unpack_batch(data).commands) for data in log)
    told = hashlib.blake2b(b"".join(log + outcomes)).hexdigest()
    print(commands, state.digest(), told)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
