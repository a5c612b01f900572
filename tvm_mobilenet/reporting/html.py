"""Results files as one HTML page that needs nothing beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

import jinja2
from markupsafe import Markup

from tvm_mobilenet.reporting import plots, words
from tvm_mobilenet.reporting.markdown import READING
from tvm_mobilenet.results.counts import CountTable, count_tables
from tvm_mobilenet.results.schema import Results
from tvm_mobilenet.results.tables import Comparison, Summary, comparisons, noise, summaries

TEMPLATE = "report.html.jinja"


@dataclass(frozen=True)
class _Table:
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class _Section:
    """A heading with its tables, plots and closing sentences."""

    title: str
    tables: Sequence[_Table]
    plots: Sequence[Markup]
    sentences: Sequence[str]


def render(files: Sequence[tuple[str, Results]]) -> str:
    """One page for these (file name, results); whatever they hold is escaped."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = resources.files("tvm_mobilenet.reporting").joinpath(TEMPLATE).read_text("utf-8")
    template = environment.from_string(source)
    return template.render(reading=READING, files=[_file(*file) for file in files])


def _file(source: str, results: Results) -> dict[str, object]:
    tables = comparisons(results)
    totals = summaries(tables)
    return {
        "facts": words.provenance(results, source),
        "ratios": _drawn(plots.ratios(totals)) if totals else [],
        "sections": [
            *map(_summary, totals),
            *map(_comparison, tables),
            *map(_counts, count_tables(results)),
        ],
        "notes": noise(results.machine, tables),
    }


def _summary(summary: Summary) -> _Section:
    table = _Table(words.SUMMARY_HEADER, words.summary_cells(summary))
    title = f"Summary, {words.threads_phrase(summary.threads)}"
    return _Section(title, [table], [], [words.summary_sentence(summary)])


def _comparison(table: Comparison) -> _Section:
    latencies = [words.latency_cells(table, line) for line in table.lines]
    costs = [words.cost_cells(line) for line in table.lines if line.row.status == "ok"]
    tables = [_Table(words.latency_header(table), latencies)]
    if costs:
        tables.append(_Table(words.COST_HEADER, costs))
    drawn = [*_drawn(plots.latencies(table)), *_drawn(plots.distributions(table))]
    reference = f"Reference for the outputs: {table.lines[0].row.reference}."
    return _Section(table.title, tables, drawn, [*words.remarks(table), reference])


def _counts(table: CountTable) -> _Section:
    cells = _Table(words.count_header(table), words.count_cells(table))
    return _Section(table.title, [cells], [], words.count_sentences(table))


def _drawn(svg: str | None) -> list[Markup]:
    # Markup: matplotlib has escaped every text in it.
    return [] if svg is None else [Markup(svg)]
