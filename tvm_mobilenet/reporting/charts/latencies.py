"""The engines of one comparison, ranked; and how their runs spread."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from tvm_mobilenet.reporting.charts.style import (
    INK,
    MARKERS,
    OURS,
    PEER,
    SERIES,
    Chart,
    drawing,
)
from tvm_mobilenet.reporting.words import milliseconds, name_of_row, short_networks
from tvm_mobilenet.results.schema import Latency, ResultRow
from tvm_mobilenet.results.statistics import P90_RUNS
from tvm_mobilenet.results.tables import Comparison, Line, is_ours, variant_name

ROW_IN = 0.34


def ranked(table: Comparison) -> Chart | None:
    """Fastest first: a bar to the median, a line from minimum to p90. None without latencies."""
    rows = _by_latency(table)
    if not rows:
        return None
    with drawing(f"ranked {table.title}", 0.75 + ROW_IN * len(rows)) as chart:
        axes = chart.axes
        for place, (line, latency) in enumerate(rows):
            _bar(axes, place, line.row, latency)
        axes.set_yticks(range(len(rows)), [name_of_row(line.row) for line, _ in rows])
        axes.tick_params(axis="y", length=0)
        axes.invert_yaxis()
        axes.set_xlim(0, 1.16 * max(latency.p90 for _, latency in rows))
        chart.label_x("ms per inference: median (bar), minimum to p90 (line)")
        axes.grid(axis="x")
        axes.spines["left"].set_visible(False)
        line, latency = rows[0]
        return chart.finish(
            "Engines by latency",
            table.title,
            f"Bars, fastest first: {line.label} at {milliseconds(latency.p50)} ms, "
            f"{len(rows)} engines in all. The table beside it has every figure.",
        )


def _by_latency(table: Comparison) -> list[tuple[Line, Latency]]:
    found = [(line, line.row.latency_ms) for line in table.lines]
    known = [(line, latency) for line, latency in found if latency is not None]
    return sorted(known, key=lambda pair: pair[1].p50)


def _bar(axes: Axes, place: int, row: ResultRow, latency: Latency) -> None:
    color = OURS if is_ours(row) else PEER
    axes.barh(place, latency.p50, height=0.62, color=color)
    last = latency.p90 if latency.n >= P90_RUNS else latency.p50
    axes.plot([latency.min, last], [place, place], color=INK, linewidth=1.1)
    axes.annotate(
        milliseconds(latency.p50),
        (max(latency.p50, latency.p90), place),
        xytext=(5, 0),
        textcoords="offset points",
        va="center",
        fontweight="bold" if is_ours(row) else "normal",
    )


def spreads(tables: Sequence[Comparison], threads: str, where: str) -> Chart | None:
    """Each network's runs around their own median: 5 to 95 % of them, and the middle half.

    Ours and the fastest peer; None where fewer than two networks have ours.
    """
    shown = [table for table in tables if table.fastest_ours() is not None]
    if len(shown) < 2:
        return None
    with drawing(f"spreads {threads} {where}", 0.95 + 0.24 * len(shown)) as chart:
        axes = chart.axes
        for place, table in enumerate(shown):
            peer = table.fastest_peer()
            for row, offset, color in (
                (table.fastest_ours(), -0.16, OURS),
                (None if peer is None else peer.row, 0.16, PEER),
            ):
                if row is not None:
                    _spread(axes, place + offset, row, color)
        for label, color in (("ours", OURS), ("fastest peer", PEER)):
            axes.plot([], [], color=color, linewidth=4, label=label)
        names = short_networks([variant_name(table.lines[0].row) for table in shown])
        axes.set_yticks(range(len(names)), names)
        axes.tick_params(axis="y", length=0)
        axes.invert_yaxis()
        axes.axvline(0, color=INK, linewidth=0.8)
        chart.label_x("% from the median: 5 to 95 % of runs, middle half thick")
        axes.grid()
        axes.spines["left"].set_visible(False)
        chart.figure.legend(loc="outside upper center", ncols=2)
        return chart.finish(
            f"Spread of the runs, {threads}",
            where,
            f"How far runs lie from their median, {len(names)} networks, ours and fastest peer.",
        )


def _spread(axes: Axes, height: float, row: ResultRow, color: str) -> None:
    low, quarter, middle, three_quarters, high = np.percentile(row.samples_ms, [5, 25, 50, 75, 95])
    for begin, end, width in ((low, high, 1.2), (quarter, three_quarters, 4)):
        ends = [100 * (begin / middle - 1), 100 * (end / middle - 1)]
        axes.plot(ends, [height, height], color=color, linewidth=width, solid_capstyle="butt")


def distribution(table: Comparison) -> Chart | None:
    """The share of runs that ended within a time, a curve an engine; None without latencies."""
    rows = [line for line, _ in _by_latency(table)]
    if not rows:
        return None
    with drawing(f"distribution {table.title}", 2.5 + 0.2 * ((len(rows) + 1) // 2)) as chart:
        axes = chart.axes
        percent = np.linspace(0, 99, 100)
        for place, line in enumerate(rows):
            times = np.percentile(line.row.samples_ms, percent)
            ours = is_ours(line.row)
            axes.plot(
                times,
                percent,
                label=name_of_row(line.row),
                color=OURS if ours else SERIES[place % len(SERIES)],
                linewidth=2.2 if ours else 1.3,
                linestyle="-" if ours else ("--", "-.", ":")[place % 3],
                marker=MARKERS[place % len(MARKERS)],
                markevery=(5 * place % 25, 25),
                markersize=4,
            )
        axes.set_xlabel("ms per inference")
        axes.set_ylabel("% of runs within it")
        axes.set_xlim(left=0)
        axes.grid()
        chart.figure.legend(loc="outside lower center", ncols=2)
        spans = ", ".join(
            f"{line.label} {milliseconds(float(np.percentile(line.row.samples_ms, 5)))} to "
            f"{milliseconds(float(np.percentile(line.row.samples_ms, 95)))}"
            for line in rows
        )
        return chart.finish(
            "Spread of the runs",
            table.title,
            f"Share of runs within a time, a curve an engine. 5 to 95 % of runs, in ms: {spans}.",
        )
