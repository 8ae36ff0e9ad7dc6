"""Whether what clients did and saw is what AgentKeeper promises. Pure: histories in, verdicts out.

The models are written from the promises, not from the daemon's code. Searches for an order of
overlapping calls are backed by checks of single promises that need no search.
"""

from __future__ import annotations

from chaos.checkers.events import check_events
from chaos.checkers.finding import check_finding
from chaos.checkers.holders import check_holders
from chaos.checkers.linearizability import BUDGET
from chaos.checkers.lives import Lives
from chaos.checkers.models import check_models
from chaos.checkers.presence import check_presence
from chaos.checkers.tokens import check_terms, check_tokens
from chaos.checkers.verdict import Verdict
from chaos.checkers.work import check_work
from chaos.history import History

__all__ = ["Verdict", "check_all"]


def check_all(history: History, *, budget: int = BUDGET) -> list[Verdict]:
    """Check all that was promised. `budget` bounds the search, in configurations per key."""
    lives = Lives(history)
    return [
        *check_models(history, lives, budget),
        check_tokens(history),
        check_terms(history),
        *check_holders(history, lives),
        check_work(history),
        *check_events(history),
        check_finding(history, lives),
        *check_presence(history, lives),
    ]
