"""Consensus: one replicated log of opaque payloads, behind a small port.

What it is for: putting payloads into one order on all replicas, telling who leads, confirming
leadership for reads, storing log and snapshots. What it is not: it knows no command, no clock of
the state machine, no client.
"""
