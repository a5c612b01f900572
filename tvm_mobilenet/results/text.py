"""The words and figures that a terminal, a Markdown and an HTML table share."""

from __future__ import annotations

import math

from tvm_mobilenet.results.schema import Machine, Results
from tvm_mobilenet.results.statistics import Ratio
from tvm_mobilenet.results.tables import Comparison, Line, Summary, is_ours

NONE = "–"  # noqa: RUF001  (a dash stands in a cell that has no figure)


def milliseconds(value: float | None) -> str:
    """A time with three or four significant digits, as a reader of latencies wants them."""
    if value is None:
        return NONE
    digits = 3 if value < 1 else 2 if value < 100 else 0
    return f"{value:.{digits}f}"


def megabytes(value: float | None) -> str:
    return NONE if value is None else f"{value:.1f}"


def difference(value: float | None) -> str:
    return NONE if value is None else f"{value:.1e}"


def ratio(value: Ratio | None) -> str:
    """The ratio with its interval, as in ``1.22 [1.20, 1.24]``."""
    if value is None:
        return NONE
    if math.isinf(value.high):
        return f"{value.value:.2f} (too few runs)"
    return f"{value.value:.2f} [{value.low:.2f}, {value.high:.2f}]"


def reference_name(table: Comparison) -> str:
    """What the ratios of a comparison refer to."""
    if table.baseline is None or is_ours(table.baseline):
        return "ours"
    return table.baseline.engine


def latency_header(table: Comparison) -> list[str]:
    name = reference_name(table)
    return ["engine", "p50 ms", "p90 ms", "min ms", "runs", f"÷ {name} [95 %]", f"{name} is"]


def latency_cells(table: Comparison, line: Line) -> list[str]:
    """The cells under ``latency_header``."""
    latency = line.row.latency_ms
    if latency is None:
        return [line.label, NONE, NONE, NONE, NONE, NONE, line.row.status]
    verdict = NONE if line.ratio is None else line.ratio.verdict
    shown = "1" if line.row is table.baseline else ratio(line.ratio)
    times = [milliseconds(time) for time in (latency.p50, latency.p90, latency.min)]
    return [line.label, *times, str(latency.n), shown, verdict]


def reasons(table: Comparison) -> list[str]:
    """Why rows were not run, one sentence for each."""
    return [
        f"{line.label} was not run: {line.row.reason}"
        for line in table.lines
        if line.row.status == "not run"
    ]


COST_HEADER = [
    "engine",
    "load ms",
    "first run ms",
    "peak RSS MB",
    "artifact MB",
    "max abs diff",
    "version",
]


def cost_cells(line: Line) -> list[str]:
    """The cells under ``COST_HEADER``: what else an engine costs, and how far its output is."""
    row = line.row
    return [
        line.label,
        milliseconds(row.load_ms),
        milliseconds(row.first_run_ms),
        megabytes(row.peak_rss_mb),
        megabytes(row.artifact_mb),
        difference(row.max_abs_diff),
        row.engine_version or NONE,
    ]


SUMMARY_HEADER = [
    "network",
    "ours ms",
    "fastest peer",
    "its ms",
    "fastest peer ÷ ours [95 %]",
    "ours is",
]


def summary_cells(summary: Summary) -> list[list[str]]:
    """The rows under ``SUMMARY_HEADER``."""
    return [
        [
            variant.name,
            milliseconds(variant.ours.p50),
            variant.peer,
            milliseconds(variant.peer_latency.p50),
            ratio(variant.ratio),
            variant.ratio.verdict,
        ]
        for variant in summary.variants
    ]


def threads_phrase(threads: int) -> str:
    return "1 thread" if threads == 1 else f"{threads} threads"


def summary_sentence(summary: Summary) -> str:
    """The whole summary in one sentence."""
    verdicts = summary.verdicts
    return (
        f"{len(summary.variants)} networks, {threads_phrase(summary.threads)}: "
        f"geometric mean of fastest peer ÷ ours {summary.geometric_mean:.3f}, "
        f"worst {summary.worst.ratio.value:.3f} ({summary.worst.name}); "
        f"faster on {verdicts['faster']}, slower on {verdicts['slower']}, "
        f"no difference on {verdicts['no difference']}."
    )


def machine_line(machine: Machine) -> str:
    load = " ".join(f"{value:.2f}" for value in machine.load_average)
    governor = f"governor {machine.governor}" if machine.governor else "governor unknown"
    return (
        f"{machine.cpu}, {machine.cores} cores, {governor}, load average {load}; "
        f"{machine.os}; Python {machine.python}"
    )


def versions_line(machine: Machine) -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted(machine.versions.items()))


def provenance(results: Results, source: str) -> list[tuple[str, str]]:
    """What a table has to state about itself: machine, versions, command, date, file."""
    return [
        ("Machine", machine_line(results.machine)),
        ("Versions", versions_line(results.machine)),
        ("Command", results.command or "not recorded"),
        ("Date", results.created or "not recorded"),
        ("Results", source),
    ]
