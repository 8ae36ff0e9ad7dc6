"""Hurts clusters on a schedule while clients work, and checks that every promise held.

What it is for: our own proof, and a tool for those who run AgentKeeper to try it on a deployment of
theirs. `python -m chaos run` does it all; docs/chaos.md says what each check proves and what it
can't. What it is not: a benchmark.
"""
