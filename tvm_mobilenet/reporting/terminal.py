"""Comparisons as tables on a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tvm_mobilenet.reporting import words as text
from tvm_mobilenet.results.choice import ChoiceTable, choices
from tvm_mobilenet.results.core_use import core_use_tables
from tvm_mobilenet.results.counts import CountTable, count_tables
from tvm_mobilenet.results.schema import Results
from tvm_mobilenet.results.slowdowns import slowdown_tables
from tvm_mobilenet.results.tables import Comparison, Summary, comparisons, noise, summaries

_VERDICT_STYLES = {"faster": "green", "slower": "red", "no difference": "dim"}


def print_tables(console: Console, results: Results) -> None:
    """Every comparison, then the conclusions."""
    print_comparisons(console, results)
    print_conclusions(console, results)


def print_comparisons(console: Console, results: Results) -> None:
    for comparison in comparisons(results):
        print_comparison(console, comparison)


def print_conclusions(console: Console, results: Results) -> None:
    """What was counted, the summary of several networks, and what disturbed the measurement."""
    for counted in count_tables(results):
        print_counts(console, counted)
    tables = comparisons(results)
    for summary in summaries(tables):
        print_summary(console, summary)
    for slowdown in slowdown_tables(results):
        print_table(
            console,
            text.slowdown_title(slowdown),
            text.slowdown_header(slowdown),
            text.slowdown_cells(slowdown),
        )
    for used in core_use_tables(results):
        print_table(
            console, text.core_use_title(used), text.CORE_USE_HEADER, text.core_use_cells(used)
        )
    for choice in choices(results):
        print_choice(console, choice)
    print_notes(console, noise(results.machine, tables))


def print_comparison(console: Console, comparison: Comparison) -> None:
    rows = [text.latency_cells(comparison, line) for line in comparison.lines]
    print_table(console, comparison.title, text.latency_header(comparison), rows)
    for remark in text.remarks(comparison):
        console.print(remark, markup=False, highlight=False, soft_wrap=True)


def print_counts(console: Console, table: CountTable) -> None:
    print_table(console, table.title, text.count_header(table), text.count_cells(table))
    for sentence in text.count_sentences(table):
        console.print(sentence, markup=False, highlight=False, soft_wrap=True)


def print_summary(console: Console, summary: Summary) -> None:
    title = f"fastest peer ÷ ours, {text.summary_title(summary)}"
    print_table(console, title, text.SUMMARY_HEADER, text.summary_cells(summary))
    console.print(text.summary_sentence(summary), markup=False, highlight=False, soft_wrap=True)


def print_choice(console: Console, table: ChoiceTable) -> None:
    print_table(console, text.choice_title(table), text.CHOICE_HEADER, text.choice_cells(table))


def print_notes(console: Console, notes: Iterable[str]) -> None:
    for note in notes:
        console.print(
            f"note: {note}", style="yellow", markup=False, highlight=False, soft_wrap=True
        )


def print_table(
    console: Console, title: str, header: Sequence[str], rows: Sequence[Sequence[str]]
) -> None:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for i, name in enumerate(header):
        words = i == 0 or i == len(header) - 1
        table.add_column(Text(name), justify="left" if words else "right", no_wrap=not words)
    for row in rows:
        # Text, not str: brackets in a reason are no markup.
        table.add_row(*map(Text, row), style=_VERDICT_STYLES.get(row[-1], ""))
    console.print(table)
