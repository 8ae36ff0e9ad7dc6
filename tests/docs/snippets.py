"""The Python snippets of README and docs, as they stand there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(
    r"^(?:<!-- snippet: (?P<name>[\w-]+) -->\n)?```python\n(?P<code>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Snippet:
    """One block of Python. `name` stands in a comment above it, if what it needs is provided."""

    page: str
    line: int
    name: str
    code: str

    @property
    def id(self) -> str:
        """Where to find it."""
        return f"{self.page}:{self.line}" + (f" {self.name}" if self.name else "")

    def compiled(self):
        """The code, with the line numbers of its page."""
        return compile("\n" * self.line + self.code, str(ROOT / self.page), "exec")


def snippets_of(path: Path) -> list[Snippet]:
    """All snippets of a page, in order."""
    text = path.read_text()
    return [
        Snippet(
            path.relative_to(ROOT).as_posix(),
            text.count("\n", 0, found.start("code")),
            found["name"] or "",
            found["code"],
        )
        for found in FENCE.finditer(text)
    ]


ALL = [snippet for path in PAGES for snippet in snippets_of(path)]
