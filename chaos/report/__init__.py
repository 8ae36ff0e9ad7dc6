"""The report of a run: what was done, what it cost, what was checked."""
