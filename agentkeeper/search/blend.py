"""One scale for scores of different kinds, from 0 to 1.

The numbers were chosen by what they do to the questions in `tests/retrieval`.
"""

import math

HINT_SHARE = 0.7
"""How far a query that has nothing but words of an agent's names lifts it from its cosine to 1."""
WORDS_SHARE = 0.7
"""What an agent without vector has that shares all words of a query: few cosines are higher."""


def by_meaning(cosine: float, hint: float) -> float:
    """The score of an agent with vector. `hint`: see `LexicalIndex.hinted`.

    A hint counts by its square, so that one ordinary word of a question says next to nothing.
    """
    near = min(max(cosine, 0.0), 1.0)
    return near + (1 - near) * HINT_SHARE * hint * hint


def by_words(share: float) -> float:
    """The score of an agent without vector, among others. `share`: see `LexicalIndex.rank`."""
    return WORDS_SHARE * math.sqrt(share)
