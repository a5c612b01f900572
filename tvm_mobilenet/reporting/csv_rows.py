"""Results files as CSV: a line a row, with its ratio and verdict, for spreadsheets and scripts."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from tvm_mobilenet.results.changes import machine_name
from tvm_mobilenet.results.schema import Results
from tvm_mobilenet.results.tables import Line, compare_rows, is_counted, same_network

HEADER = (
    *("file", "machine", "model", "alpha", "resolution", "batch", "precision", "threads", "how"),
    *("engine", "engine_version", "target", "tuned", "status", "p50_ms", "p90_ms", "p99_ms"),
    *("min_ms", "mean_ms", "std_ms", "runs", "over_ours", "low", "high", "ours_is"),
    *("instructions", "load_ms", "first_run_ms", "peak_rss_mb", "artifact_mb", "max_abs_diff"),
    *("accuracy_percent", "reason", "core_states", "alone_share", "alone_p50_ms"),
    *("shared_share", "shared_p50_ms"),
)


def render(files: Sequence[tuple[str, Results]]) -> str:
    """Every row of these (file name, results); what is not known is empty."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(HEADER)
    for source, results in files:
        for rows in same_network(results.results):
            lines = (
                [Line(row, None) for row in rows] if is_counted(rows) else compare_rows(rows).lines
            )
            for line in lines:
                writer.writerow([_safe(cell) for cell in _cells(source, results, line)])
    return buffer.getvalue()


def _cells(source: str, results: Results, line: Line) -> Iterator[object]:
    row, latency, ratio = line.row, line.row.latency_ms, line.ratio
    yield from (source, machine_name(results.machine), row.model, row.alpha, row.resolution)
    yield from (row.batch, row.precision, row.threads, row.circumstances)
    yield from (row.engine, row.engine_version)
    yield from (row.target, row.tuned, row.status)
    names = ("p50", "p90", "p99", "min", "mean", "std", "n")
    yield from (None if latency is None else getattr(latency, name) for name in names)
    yield from (
        (None, None, None, None)
        if ratio is None
        else (
            ratio.value,
            ratio.low,
            ratio.high,
            ratio.verdict,
        )
    )
    yield from (row.instructions, row.load_ms, row.first_run_ms, row.peak_rss_mb)
    yield from (row.artifact_mb, row.max_abs_diff)
    yield from (None if row.accuracy is None else row.accuracy.percent, row.reason)
    yield None if row.core is None else row.core.states
    for state in (None, None) if row.core is None else (row.core.alone, row.core.shared):
        yield from (None, None) if state is None else (state.share, state.p50)


def _safe(cell: object) -> object:
    """Text that a spreadsheet would take for a formula begins with an apostrophe."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@")) else cell
