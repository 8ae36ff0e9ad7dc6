"""The page for operators names every setting as it is."""

from __future__ import annotations

import re

from agentkeeper.cli.serve import serve

from .snippets import ROOT

ROW = re.compile(r"^\| `(--[a-z-]+)` \| `([A-Z_]+)` \|", re.MULTILINE)


def test_every_setting_is_named_with_its_variable():
    page = (ROOT / "docs/operations.md").read_text()
    options = {p.opts[0]: p.envvar for p in serve.params if p.opts[0].startswith("--")}
    assert dict(ROW.findall(page)) == options


def test_the_defaults_are_those_of_the_daemon():
    page = (ROOT / "docs/operations.md").read_text()
    rows = {
        line.split(" | ")[0][3:-1]: line.split(" | ")[2].strip("`")
        for line in page.splitlines()
        if line.startswith("| `--")
    }
    for option in serve.params:
        stated = re.search(r"\[default: (.*)\]", option.help or "")
        if stated:
            assert rows[option.opts[0]] == stated[1], option.name
