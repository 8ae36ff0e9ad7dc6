"""Queues served in turn, against the plainest there is."""

from hypothesis import given
from hypothesis import strategies as st

from agentkeeper.server.lines import Lines


class Naive:
    """A list; whoever was served longest ago, or came first, is next."""

    def __init__(self) -> None:
        self.items: list[tuple[str, int]] = []
        self.turns: list[str] = []

    def put(self, owner: str, item: int) -> None:
        self.items.append((owner, item))
        if owner not in self.turns:
            self.turns.append(owner)

    def take(self) -> int:
        owner = self.turns.pop(0)
        found = next(i for i, (of, _) in enumerate(self.items) if of == owner)
        _, item = self.items.pop(found)
        if any(of == owner for of, _ in self.items):
            self.turns.append(owner)
        return item


@given(st.lists(st.sampled_from(["a", "b", "c", None])))
def test_as_the_plain_one(steps: list[str | None]) -> None:
    lines: Lines[str, int] = Lines()
    naive = Naive()
    for number, owner in enumerate(steps):
        if owner is not None:
            lines.put(owner, number)
            naive.put(owner, number)
        elif naive.items:
            assert lines.take() == naive.take()
        assert len(lines) == len(naive.items)
        assert [of in lines for of in "abc"] == [of in naive.turns for of in "abc"]


def test_many_of_one_do_not_stand_before_those_of_others() -> None:
    lines: Lines[str, str] = Lines()
    for number in range(1_000):
        lines.put("many", f"many {number}")
    lines.put("few", "few 0")
    assert [lines.take() for _ in range(3)] == ["many 0", "few 0", "many 1"]
