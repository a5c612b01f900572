"""A series of runs as tables: on a terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from tvm_mobilenet.reporting import markdown, terminal, words
from tvm_mobilenet.results.history import Series

TABLE_WIDTH = 112  # a cut-off file name says nothing
HEADER = ("date", "network", "ours ms", "fastest peer ÷ ours [95 %]", "file")
READING = (
    "Each point is one run. The machine is not equally fast on all days: the fastest peer ÷ ours "
    "comes from turns in one run and is the steadier of the two. Means are over the networks that "
    "every run has."
)


def title(one: Series) -> str:
    return f"{one.precision}, {words.threads_phrase(one.threads)}, {one.machine}"


def cells(one: Series) -> list[list[str]]:
    return [
        [
            point.created,
            point.network,
            words.milliseconds(point.ours_ms),
            words.ratio(point.ratio),
            point.source,
        ]
        for point in one.points
    ]


def as_markdown(found: Sequence[Series]) -> str:
    parts = ["# Latency over time", READING]
    for one in found:
        parts += [f"## {markdown.escape(title(one))}", markdown.render_table(HEADER, cells(one))]
    return "\n\n".join(parts) + "\n"


def print_series(console: Console, found: Sequence[Series]) -> None:
    console.width = max(console.width, TABLE_WIDTH)
    for one in found:
        terminal.print_table(console, title(one), HEADER, cells(one))
