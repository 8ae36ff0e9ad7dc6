"""The deterministic state machine: what every replica computes from the same log.

What it is for: `apply(state, batch) -> (results, events)`, total and pure. Time and ids come in
as data; a refusal is a value; nothing here reads a clock, draws a number, logs or raises.
What it is not: it knows no gRPC, no Raft, no thread, and validates no raw user input beyond what
depends on the state (the services do the rest, with the same `limits`).
"""
