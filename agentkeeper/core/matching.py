"""Patterns in which `*` stands for any characters, none included."""

from __future__ import annotations


def matches(pattern: str, text: str) -> bool:
    """Whether the whole of `text` fits `pattern`.

    Each literal piece is looked for once, leftmost first, behind the piece before it. Taking the
    leftmost place never spoils a match, so there is no backtracking and the time is linear in the
    lengths of pattern and text, however many `*` there are.
    """
    first, star, rest = pattern.partition("*")
    if not star:
        return pattern == text
    middle, _, last = rest.rpartition("*")
    if len(text) < len(first) + len(last):
        return False
    if not (text.startswith(first) and text.endswith(last)):
        return False
    position, end = len(first), len(text) - len(last)
    for piece in middle.split("*"):
        position = text.find(piece, position, end)
        if position < 0:
            return False
        position += len(piece)
    return True
