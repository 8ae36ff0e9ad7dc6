"""Search: which agents fit a query best.

What it is for: indexes derived from the registry, held in memory by each replica for itself and
rebuilt from the registry whenever a replica starts. Ranking by words (`lexical`) is all a daemon
needs; where there is a model (`model`), a process of its own (`worker`) turns agents and queries
into vectors, and `agents` ranks by meaning.

What it is not: no part of the replicated state, never in the log, never in a snapshot. It decides
nothing that another replica has to agree on, and has no clock: whether an agent is alive this very
moment its caller knows.
"""
