"""How figures are written, on terminals and on the page."""

from __future__ import annotations


def span(ms: float | None) -> str:
    """A duration in the unit that suits it."""
    if ms is None:
        return "-"
    if ms < 10:
        return f"{ms:.1f} ms"
    if ms < 1000:
        return f"{ms:.0f} ms"
    return f"{ms / 1000:.2f} s" if ms < 100_000 else clock(ms / 1000)


def clock(seconds: float) -> str:
    """A time since the start, as minutes and seconds."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02}"


def size(count: int) -> str:
    """Bytes in MiB."""
    return f"{count / 2**20:,.0f} MiB" if count else "-"
