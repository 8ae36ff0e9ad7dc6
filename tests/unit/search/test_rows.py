from collections.abc import Sequence

import pytest

from agentkeeper.search import rows as rows_module
from agentkeeper.search.rows import AgentRows


class Follower:
    def __init__(self) -> None:
        self.heard: list[object] = []

    def dropped(self, row: int) -> None:
        self.heard.append(row)

    def moved(self, kept: Sequence[int]) -> None:
        self.heard.append(list(kept))


@pytest.fixture
def rows() -> AgentRows:
    rows = AgentRows()
    rows.put("a", ("ocr", "sql"), alive=True)
    rows.put("b", ("sql",), alive=True)
    rows.put("c", ("sql", "ocr", "git"), alive=True)
    return rows


def named(rows: AgentRows, tools: Sequence[str] = ()) -> list[str | None]:
    return [rows.agent(row) for row in rows.fitting(tools)]


def test_agents_fit_in_order_of_registration(rows: AgentRows) -> None:
    assert named(rows) == ["a", "b", "c"]
    assert named(rows, ["sql"]) == ["a", "b", "c"]
    assert named(rows, ["ocr", "sql"]) == ["a", "c"]
    assert named(rows, ["git", "ocr", "sql"]) == ["c"]


def test_a_tool_nobody_has_fits_nobody(rows: AgentRows) -> None:
    assert named(rows, ["ocr", "unheard-of"]) == []
    assert named(AgentRows()) == []


def test_only_the_alive_fit(rows: AgentRows) -> None:
    rows.set_alive("a", False)
    assert named(rows) == ["b", "c"]
    assert named(rows, ["ocr"]) == ["c"]
    rows.set_alive("a", True)
    assert named(rows, ["ocr"]) == ["a", "c"]
    rows.set_alive("unknown", True)
    assert named(rows) == ["a", "b", "c"]


def test_the_dropped_are_gone_and_come_back_in_a_new_row(rows: AgentRows) -> None:
    rows.drop("a")
    rows.drop("a")
    assert named(rows, ["ocr"]) == ["c"]
    assert rows.row("a") is None
    assert rows.agent(0) is None
    assert "a" not in rows
    assert len(rows) == 2
    rows.put("a", ("git",), alive=True)
    assert rows.row("a") == 3
    assert named(rows) == ["b", "c", "a"]


def test_another_card_keeps_the_row(rows: AgentRows) -> None:
    rows.put("a", ("git",), alive=False)
    assert rows.row("a") == 0
    assert named(rows, ["git"]) == ["c"]
    rows.set_alive("a", True)
    assert named(rows, ["git"]) == ["a", "c"]
    assert named(rows, ["ocr"]) == ["c"]


def test_a_tool_named_twice_does_no_harm(rows: AgentRows) -> None:
    rows.put("d", ("x", "x"), alive=True)
    assert named(rows, ["x", "x"]) == ["d"]
    rows.drop("d")
    assert named(rows, ["x"]) == []


def test_rows_never_given_have_no_agent(rows: AgentRows) -> None:
    assert rows.agent(3) is None
    assert rows.agent(-1) is None


@pytest.mark.parametrize("tools", [[], ["sql"], ["sql", "ocr"]])
def test_a_set_is_the_callers_own(rows: AgentRows, tools: list[str]) -> None:
    mine = rows.fitting(tools)
    before = list(mine)
    rows.put("d", ("sql", "ocr"), alive=True)
    rows.drop("a")
    assert list(mine) == before
    mine.clear()
    assert named(rows, tools)[-2:] == ["c", "d"]


def test_compacting_keeps_order_tools_and_who_is_alive(
    rows: AgentRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_module, "MIN_GONE", 2)
    follower = Follower()
    rows.follow(follower)
    former = rows.agents
    rows.put("d", ("ocr",), alive=False)
    assert not rows.compact()
    rows.drop("a")
    rows.drop("b")
    assert not rows.compact()  # half of the rows, not more
    rows.put("e", ("ocr",), alive=True)
    rows.drop("e")
    assert rows.compact()
    assert rows.generation == 1
    assert follower.heard == [0, 1, 4, [2, 3]]
    assert (rows.row("c"), rows.row("d"), len(rows)) == (0, 1, 2)
    assert named(rows, ["ocr"]) == ["c"]
    rows.set_alive("d", True)
    rows.put("f", ("ocr",), alive=True)
    assert named(rows, ["ocr"]) == ["c", "d", "f"]
    assert list(former) == [None, None, "c", "d", None]
    assert not rows.compact()


def test_few_gaps_are_not_worth_compacting(rows: AgentRows) -> None:
    for agent_id in "abc":
        rows.drop(agent_id)
    assert not rows.compact()
    assert rows.generation == 0


def test_names_tell_who_has_them_and_filter_nobody(
    rows: AgentRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_module, "MIN_GONE", 1)
    for agent_id in "def":
        rows.put(agent_id, ("ocr",), agent_id != "f", names=("x", "sql"))
    assert (list(rows.named("x")), list(rows.named("sql"))) == ([3, 4, 5], [3, 4, 5])
    assert named(rows, ["sql"]) == ["a", "b", "c"]
    rows.put("d", ("ocr",), True, names=("y",))
    for agent_id in "abce":
        rows.drop(agent_id)
    assert (list(rows.named("x")), list(rows.named("y"))) == ([5], [3])
    assert rows.compact()
    assert (list(rows.named("x")), list(rows.named("y"))) == ([1], [0])
    assert list(rows.named("z")) == []
