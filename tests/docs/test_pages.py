"""The pages hold together: links lead somewhere, and the reference is what the code says."""

from __future__ import annotations

import importlib.util
import re

import pytest

import agentkeeper

from .snippets import PAGES, ROOT

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.DOTALL | re.MULTILINE)

specification = importlib.util.spec_from_file_location("reference", ROOT / "tools/reference.py")
reference = importlib.util.module_from_spec(specification)
specification.loader.exec_module(reference)


def anchors(path):
    text = CODE.sub(lambda code: "" if "\n" in code[0] else code[0], path.read_text())
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {reference.anchor(heading) for heading in headings}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path):
    for target in LINK.findall(CODE.sub("", path.read_text())):
        if "://" in target:
            continue
        file, _, fragment = target.partition("#")
        page = (path.parent / file).resolve() if file else path
        assert page.exists(), target
        if fragment:
            assert fragment in anchors(page), target


def test_every_page_can_be_reached():
    linked = set()
    for path in PAGES:
        for target in LINK.findall(path.read_text()):
            file = target.partition("#")[0]
            if file and "://" not in file:
                linked.add((path.parent / file).resolve())
    docs = {path for path in PAGES if path.is_relative_to(ROOT / "docs")}
    assert docs - linked <= {ROOT / "docs/README.md"}


def test_the_reference_is_up_to_date():
    stale = reference.out_of_date(reference.pages(), reference.PAGES)
    assert not stale, "run python tools/reference.py"


def test_the_reference_has_every_public_name():
    headings = set()
    for text in reference.pages().values():
        for heading in re.findall(r"^## (.*)$", text, re.MULTILINE):
            headings.update(heading.split(" / "))
    assert set(agentkeeper.__all__) <= headings


def test_the_reference_says_what_to_await_and_what_may_be_entered():
    methods = re.split(r"^### ", reference.pages()["client.md"], flags=re.MULTILINE)
    ends = {text.split("\n", 1)[0]: text.rstrip().rsplit("\n", 1)[-1] for text in methods}
    assert ends["find"] == "*await* in the async face."
    for name in ("register", "acquire_lease", "lead", "embedded"):
        assert ends[name] == "*await* or *enter* in the async face.", name


def test_a_page_that_differs_is_missing_or_too_many_is_out_of_date(tmp_path):
    made = {"a.md": "a", "b.md": "b", "c.md": "c"}
    (tmp_path / "a.md").write_text("a")
    (tmp_path / "b.md").write_text("different")
    (tmp_path / "d.md").write_text("no longer made")
    assert reference.out_of_date(made, tmp_path) == ["b.md", "c.md", "d.md"]
