"""The dashboard's files: what they may contain, and that nothing they name is missing."""

import re
from importlib.resources import files

import pytest

STATIC = {
    file.name: file.read_text(encoding="utf-8")
    for file in (files("agentkeeper.server.http") / "static").iterdir()
}
NAMESPACE = "http://www.w3.org/2000/svg"


@pytest.mark.parametrize("name", sorted(STATIC))
def test_nothing_is_read_as_markup_or_code_and_nothing_comes_from_outside(name: str) -> None:
    text = STATIC[name].replace(NAMESPACE, "")
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert word not in text
    assert not re.search(r"new Function|https?://|\bon\w+=\"|style=\"", text)


@pytest.mark.parametrize("name", sorted(STATIC))
def test_every_file_that_is_named_is_there(name: str) -> None:
    named = re.findall(r"""from "\./([^"]+)"|/static/([^"]+)""", STATIC[name])
    missing = {one or other for one, other in named} - STATIC.keys()
    assert not missing


def test_every_file_is_used() -> None:
    all_text = "\n".join(STATIC.values())
    unused = [name for name in STATIC if f"/{name}" not in all_text and name != "index.html"]
    assert not unused
