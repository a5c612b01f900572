"""What tuning found by when, and what it bought."""

from __future__ import annotations

from tvm_mobilenet.reporting import words
from tvm_mobilenet.reporting.charts import tuning
from tvm_mobilenet.reporting.groups import MachineGroup
from tvm_mobilenet.reporting.page import Section, Table
from tvm_mobilenet.results.tables import Comparison, Line, is_ours
from tvm_mobilenet.results.tuning_runs import TuningRuns


def bought_section(group: MachineGroup, anchor: str) -> Section | None:
    """Default schedules beside tuned ones of the same run; None where no run had both."""
    pairs = [pair for run in group.runs for table in run.tables for pair in _pairs(table)]
    if not pairs:
        return None
    header = ["network", "tuned ms", "default schedules ms", "default ÷ tuned [95 %]", "tuned is"]
    rows = [
        [
            table.title,
            words.milliseconds(None if not (b := table.baseline) else _p50(Line(b, None))),
            words.milliseconds(_p50(line)),
            words.ratio(line.ratio),
            words.NONE if line.ratio is None else line.ratio.verdict,
        ]
        for table, line in pairs
    ]
    return Section("What tuning bought", anchor, tables=[Table("Tuned and default", header, rows)])


def _pairs(table: Comparison) -> list[tuple[Comparison, Line]]:
    if table.baseline is None or not table.baseline.tuned:
        return []
    return [
        (table, line)
        for line in table.lines
        if is_ours(line.row) and not line.row.tuned and line.ratio is not None
    ]


def _p50(line: Line) -> float | None:
    return None if line.row.latency_ms is None else line.row.latency_ms.p50


def log_section(source: str, log: TuningRuns) -> Section:
    """The runs of one tuning log."""
    chart = tuning.curve(log.runs, log.target)
    header = ["run ended", "of", "seconds", "trials", "records", "failures", "first ms", "last ms"]
    rows = [
        [
            run.date,
            run.of or words.NONE,
            f"{run.seconds:.0f}",
            str(run.trials),
            str(run.records),
            str(sum(run.failures.values())),
            f"{run.curve[0][1] / 1e3:.3f}" if run.curve else words.NONE,
            f"{run.curve[-1][1] / 1e3:.3f}" if run.curve else words.NONE,
        ]
        for run in log.runs
    ]
    facts = [
        ("Target", f"{log.target}, {log.device}"),
        ("CPU", log.cpu),
        ("TVM", log.tvm_version or "not recorded"),
        ("Records", source),
        ("Updated", log.updated),
    ]
    sentence = (
        "The sum of the best time of every kernel, each timed alone with a cold cache, against the "
        "time since the search began. A network runs its kernels faster than that, one after the "
        "other in a warm cache."
    )
    return Section(
        f"Tuning, {log.target}",
        f"tuning-{log.target}",
        [sentence],
        [] if chart is None else [chart],
        [Table(f"Runs of tune, {log.target}", header, rows, words=(0, 1))],
        facts,
    )
