"""Results files as Markdown: every row, losses and failures included."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tvm_mobilenet.reporting import words as text
from tvm_mobilenet.results.core_use import core_use_tables
from tvm_mobilenet.results.counts import CountTable, count_tables
from tvm_mobilenet.results.schema import Results
from tvm_mobilenet.results.slowdowns import slowdown_tables
from tvm_mobilenet.results.tables import Comparison, comparisons, noise, summaries

READING = (
    "p50 is the median latency of one inference. A ratio is an engine's latency ÷ ours, the median "
    "over paired rounds with its bootstrap 95 % interval: above 1 ours is faster. The verdict asks "
    "that the interval clears 1 by 1 %; otherwise there is no difference. Every latency belongs to "
    "an output that agreed with the reference."
)


def render(files: Sequence[tuple[str, Results]]) -> str:
    """One document for these (file name, results)."""
    parts = ["# Latency", READING]
    for source, results in files:
        parts += _file(source, results)
    return "\n\n".join(parts) + "\n"


def _file(source: str, results: Results) -> list[str]:
    facts = text.provenance(results, source)
    parts = ["\n".join(f"- **{name}:** {_fact(name, value)}" for name, value in facts)]
    tables = comparisons(results)
    for summary in summaries(tables):
        parts.append(f"## Summary, {text.summary_title(summary)}")
        parts.append(render_table(text.SUMMARY_HEADER, text.summary_cells(summary)))
        parts.append(escape(text.summary_sentence(summary)))
    for table in tables:
        parts += _comparison(table)
    for slowdown in slowdown_tables(results):
        parts.append(f"## {escape(text.slowdown_title(slowdown).capitalize())}")
        cells = text.slowdown_cells(slowdown)
        parts.append(render_table(text.slowdown_header(slowdown), cells))
    for used in core_use_tables(results):
        parts.append(f"## {escape(text.core_use_title(used).capitalize())}")
        parts.append(render_table(text.CORE_USE_HEADER, text.core_use_cells(used)))
    for counted in count_tables(results):
        parts += _counts(counted)
    notes = noise(results.machine, tables)
    if notes:
        parts.append("## Noise")
        parts.append("\n".join(f"- {escape(note)}" for note in notes))
    return parts


def _comparison(table: Comparison) -> list[str]:
    latencies = [text.latency_cells(table, line) for line in table.lines]
    ran = [line for line in table.lines if line.row.status == "ok"]
    parts = [f"## {escape(table.title)}", render_table(text.latency_header(table), latencies)]
    parts += [f"- {escape(sentence)}" for sentence in text.remarks(table)]
    if ran:
        parts.append(render_table(text.COST_HEADER, [text.cost_cells(line) for line in ran]))
    parts.append(f"Reference for the outputs: {escape(table.lines[0].row.reference)}.")
    return parts


def _counts(table: CountTable) -> list[str]:
    cells = render_table(text.count_header(table), text.count_cells(table))
    sentences = "\n".join(f"- {escape(sentence)}" for sentence in text.count_sentences(table))
    return [f"## {escape(table.title)}", cells, sentences]


def _fact(name: str, value: str) -> str:
    return f"`{value.replace('`', '')}`" if name == "Command" else escape(value)


def render_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Figures right-aligned; the first and the last column hold words."""
    last = len(header) - 1
    rule = [":--" if i in (0, last) else "--:" for i in range(len(header))]
    lines = [header, rule, *([escape(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def escape(words: str) -> str:
    """Text from a results file as text: no markup, and on one line."""
    return re.sub(r"([\\`*_<>|\[\]])", r"\\\1", " ".join(words.split()))
