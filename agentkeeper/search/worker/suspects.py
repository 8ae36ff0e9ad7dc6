"""Texts that a worker has died of, so that one text does not end one worker after the other."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Final

DEADLY: Final = 2
"""A text in hand at so many deaths is given up."""
FORGIVEN_S: Final = 600.0
"""For so long: memory may have been short, and the text not to blame."""
MAX_SUSPECTS: Final = 256
"""Texts remembered, the last ones."""


class Suspects:
    """Counts, for each text, the deaths it was in hand at. Times are seconds of any one clock."""

    def __init__(self) -> None:
        self._deaths: OrderedDict[bytes, tuple[int, float]] = OrderedDict()

    def blame(self, text: bytes, now_s: float) -> None:
        """Count a death."""
        key = hashlib.sha256(text).digest()
        self._deaths[key] = (self._counted(key, now_s) + 1, now_s)
        self._deaths.move_to_end(key)
        if len(self._deaths) > MAX_SUSPECTS:
            self._deaths.popitem(last=False)

    def clear(self, text: bytes) -> None:
        """Forget a text that has been done without harm."""
        if self._deaths:
            self._deaths.pop(hashlib.sha256(text).digest(), None)

    def deadly(self, text: bytes, now_s: float) -> bool:
        """Whether a text is given up."""
        if not self._deaths:
            return False
        return self._counted(hashlib.sha256(text).digest(), now_s) >= DEADLY

    def _counted(self, key: bytes, now_s: float) -> int:
        deaths, last_s = self._deaths.get(key, (0, now_s))
        return deaths if now_s - last_s < FORGIVEN_S else 0
