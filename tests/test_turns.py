"""Cases that take turns: every one is in one of so many runs, and tests of few cases have all."""

from __future__ import annotations

from typing import Any

import pytest
from support import turns


class Item:
    """A case of a test, as pytest has it."""

    def __init__(self, test: str, case: int, shares: int | None, **named: str) -> None:
        self.nodeid = f"{test}[{case}]"
        self._marker = None if shares is None else pytest.mark.in_turns(shares, **named).mark

    def get_closest_marker(self, name: str) -> pytest.Mark | None:
        return self._marker if name == turns.MARKER else None


def runs(items: list[Any], shares: int) -> list[set[str]]:
    """What is run with each of so many seeds that follow each other."""
    everything = {item.nodeid for item in items}
    return [
        everything - {item.nodeid for item in turns.others(items, seed)}
        for seed in range(100, 100 + shares)
    ]


def test_each_case_is_in_one_of_so_many_runs() -> None:
    first = [Item("a", case, 3) for case in range(7)]
    second = [Item("b", case, 3) for case in range(3)]
    of_each = runs([*first, *second], 3)
    assert sorted(len(one) for one in of_each) == [3, 3, 4]
    assert set.union(*of_each) == {item.nodeid for item in (*first, *second)}
    assert sum(map(len, of_each)) == 10


def test_what_takes_no_turns_is_in_every_run() -> None:
    unmarked, asked_for = Item("a", 0, None), Item("b", 5, 2)
    assert runs([unmarked, asked_for], 2) == [{"a[0]", "b[5]"}] * 2


def test_tests_of_a_file_take_turns_among_each_other() -> None:
    ones = [Item(f"file::{test}", 0, 2, among="networks") for test in "abc"]
    others = [Item("file::d", 0, 2), Item("another::a", 0, 2, among="networks")]
    of_each = runs([*ones, *others], 2)
    # of what has one case, every run has that
    assert set.intersection(*of_each) == {item.nodeid for item in others}
    assert sorted(map(len, of_each)) == [3, 4]
    assert set.union(*of_each) == {item.nodeid for item in (*ones, *others)}
