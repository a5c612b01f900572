"""The line of an error that people are shown."""

from __future__ import annotations

import pytest

from tvm_mobilenet.errors import last_line


@pytest.mark.parametrize(
    ("told", "line"),
    [
        ("", ""),
        ("  \n\n", ""),
        ("one\n  two \n\n", "two"),
        ("why\n# Metadata omitted. Use show_meta=True in script() method to show it.\n", "why"),
        (RuntimeError("Traceback\n  ScheduleError: no such loop\n"), "ScheduleError: no such loop"),
        (RuntimeError(), "RuntimeError"),
        (ValueError("# Metadata omitted"), "ValueError"),
    ],
)
def test_the_last_line_that_says_something(told: BaseException | str, line: str) -> None:
    assert last_line(told) == line
