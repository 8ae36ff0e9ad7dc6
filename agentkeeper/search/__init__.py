"""Search: which agents fit a query best.

What it is for: indexes derived from the registry, held in memory by each replica for itself and
rebuilt from the registry whenever a replica starts or restores a snapshot. Lexical ranking
(`lexical`) is all a daemon needs; further rankings stand beside it.

What it is not: no part of the replicated state, never in the log, never in a snapshot. It decides
nothing that another replica has to agree on, knows no agent's status, and filters nobody out on
its own account: the caller says who may be found, and where agents that match nothing go.
"""
