"""What to do about a replica whose stored data is damaged."""

from __future__ import annotations

from typing import Final

REJOIN: Final = (
    "stop this replica, remove (or move away) the whole data folder and start it again: it then "
    "rejoins empty and gets everything from the others, as long as a majority of them is intact "
    "(one that has no others needs its folder back from a backup)"
)
"""Never a backup of one folder of several: it has forgotten votes and entries it vouched for."""
