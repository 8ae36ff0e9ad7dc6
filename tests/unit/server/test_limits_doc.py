"""docs/limits.md tells every bound as it is, and every bound is kept somewhere."""

import re
from pathlib import Path

from agentkeeper.core import limits

ROOT = Path(__file__).parents[3]
ROW = re.compile(r"^\| `([A-Z_]+)` \| ([\d,]+) \| (\S.*) \| (\S.*) \|$", re.MULTILINE)
BOUNDS = {name: value for name, value in vars(limits).items() if name.isupper()}


def rows() -> list[tuple[str, ...]]:
    return ROW.findall((ROOT / "docs" / "limits.md").read_text())


def test_every_bound_is_documented_with_its_value() -> None:
    assert {name: int(value.replace(",", "")) for name, value, *_ in rows()} == BOUNDS


def test_in_the_order_of_the_file_and_once() -> None:
    assert [name for name, *_ in rows()] == list(BOUNDS)


def test_every_row_of_the_tables_is_understood() -> None:
    text = (ROOT / "docs" / "limits.md").read_text()
    assert len(rows()) == sum(line.startswith("| `") for line in text.splitlines())


def test_every_bound_is_kept_by_the_code() -> None:
    sources = (ROOT / "agentkeeper").rglob("*.py")
    code = "\n".join(p.read_text() for p in sources if p.name != "limits.py")
    unused = [name for name in BOUNDS if not re.search(rf"\blimits\.{name}\b", code)]
    assert not unused
