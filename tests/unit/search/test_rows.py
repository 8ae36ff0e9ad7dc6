from collections.abc import Sequence

import pytest

from agentkeeper.search import rows as rows_module
from agentkeeper.search.rows import AgentRows


class Follower:
    def __init__(self) -> None:
        self.heard: list[object] = []

    def dropped(self, row: int) -> None:
        self.heard.append(row)

    def moved(self, before: Sequence[int], after: Sequence[int]) -> None:
        self.heard.append((list(before), list(after)))

    def cut(self, end: int) -> None:
        self.heard.append(f"cut {end}")


def compact(rows: AgentRows) -> None:
    while rows.compact():
        pass


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
    rows.put("d", ("ocr",), alive=False)
    rows.drop("a")
    rows.drop("b")
    compact(rows)
    assert rows.row("d") == 3  # half of the rows are gone, not more
    rows.put("e", ("ocr",), alive=True)
    rows.drop("e")
    compact(rows)
    assert follower.heard == [0, 1, 4, ([2, 3], [0, 1]), "cut 2"]
    assert (rows.row("c"), rows.row("d"), len(rows)) == (0, 1, 2)
    assert named(rows, ["ocr"]) == ["c"]
    rows.set_alive("d", True)
    rows.put("f", ("ocr",), alive=True)
    assert named(rows, ["ocr"]) == ["c", "d", "f"]
    assert rows.row("f") == 2


def test_compaction_goes_on_step_by_step_while_agents_come_and_go(
    rows: AgentRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_module, "MIN_GONE", 2)
    monkeypatch.setattr(rows_module, "STEP_ROWS", 2)
    for agent_id in "defgh":
        rows.put(agent_id, ("ocr",), alive=True)
    for agent_id in "abdeg":
        rows.drop(agent_id)
    follower = Follower()
    rows.follow(follower)
    assert rows.compact()  # looks at a and b
    assert rows.compact()  # moves c
    assert named(rows) == ["c", "f", "h"]
    rows.drop("c")
    rows.put("i", ("ocr",), alive=True)
    compact(rows)
    assert named(rows, ["ocr"]) == ["f", "h", "i"]
    assert [rows.row(agent_id) for agent_id in "fhi"] == [1, 2, 3]
    assert follower.heard == [([2], [0]), 0, ([5], [1]), ([7], [2]), ([8], [3]), "cut 4"]


def test_rows_that_come_to_mean_others_are_told_apart(
    rows: AgentRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_module, "MIN_GONE", 1)
    monkeypatch.setattr(rows_module, "STEP_ROWS", 1)
    monkeypatch.setattr(rows_module, "KEPT_MOVES", 3)
    rows = AgentRows()
    for agent_id in "abcdef":
        rows.put(agent_id, (), alive=True)
    all_rows, began = rows.fitting(), rows.moves
    for agent_id in "bcef":
        rows.drop(agent_id)
    assert rows.unmoved(all_rows, began) == all_rows
    compact(rows)  # d to row 1, nobody from row 2 on
    assert list(rows.unmoved(all_rows, began)) == [0]
    for agent_id in "ghij":
        rows.put(agent_id, (), alive=True)
    for agent_id in "adgh":
        rows.drop(agent_id)
    compact(rows)
    assert list(rows.unmoved(all_rows, began)) == [], "too long ago to tell"


def test_few_gaps_are_not_worth_compacting(rows: AgentRows) -> None:
    for agent_id in "ab":
        rows.drop(agent_id)
    assert not rows.compact()
    assert rows.row("c") == 2


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
    compact(rows)
    assert (list(rows.named("x")), list(rows.named("y"))) == ([1], [0])
    assert list(rows.named("z")) == []
