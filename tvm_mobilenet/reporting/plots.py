"""Plots as SVG that takes its ink from the page, so that it reads on light and on dark."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tvm_mobilenet.reporting import words
from tvm_mobilenet.results.schema import ResultRow
from tvm_mobilenet.results.tables import Comparison, Summary, is_ours

# Middle tones that stand out on white as well as on near-black.
OURS_COLOR = "#e8743b"
PEER_COLOR = "#5b8db8"
_PEER_COLORS = (PEER_COLOR, "#5aa469", "#a678b4", "#b5975a", "#7f8c97")
_INK = "#010203"  # replaced by the page's own colour; no plot uses it for anything else
_WIDTH_IN = 7.6
_STYLE = {
    "svg.fonttype": "none",  # text stays text
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": _INK,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": _INK,
    "grid.alpha": 0.15,
}


def _style(salt: str) -> Any:
    """Settings for one figure; ``salt`` keeps its ids apart from those of others on the page."""
    return {**_STYLE, "svg.hashsalt": salt}


def latencies(table: Comparison) -> str | None:
    """SVG of one comparison: a bar to the median, a line from minimum to p90; None without rows."""
    rows = [(line.label, line.row) for line in table.lines if line.row.latency_ms is not None]
    if not rows:
        return None
    with mpl.rc_context(_style(table.title)):
        figure = Figure(figsize=(_WIDTH_IN, 0.55 + 0.38 * len(rows)), layout="constrained")
        axes = figure.subplots()
        for i, (_, row) in enumerate(rows):
            _bar(axes, i, row)
        axes.set_yticks(range(len(rows)), [label for label, _ in rows])
        axes.invert_yaxis()
        axes.margins(x=0.12)
        axes.set_xlim(left=0)
        axes.set_xlabel("latency in ms: median, and from minimum to p90")
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        return _svg(figure, f"Latency of each engine, {table.title}")


def _bar(axes: Axes, position: int, row: ResultRow) -> None:
    latency = row.latency_ms
    if latency is None:
        return
    axes.barh(position, latency.p50, height=0.62, color=_color(row))
    axes.plot([latency.min, latency.p90], [position, position], color=_INK, linewidth=1.2)
    axes.annotate(
        f"{latency.p50:.3g}",
        (max(latency.p50, latency.p90), position),
        xytext=(5, 0),
        textcoords="offset points",
        va="center",
    )


def distributions(table: Comparison) -> str | None:
    """SVG of the share of runs that ended within a time, one curve per engine."""
    rows = [(line.label, line.row) for line in table.lines if line.row.status == "ok"]
    if not rows:
        return None
    with mpl.rc_context(_style(f"distribution {table.title}")):
        figure = Figure(figsize=(_WIDTH_IN, 2.6), layout="constrained")
        axes = figure.subplots()
        peers = itertools.cycle(_PEER_COLORS)
        percent = np.linspace(0, 99, 100)
        for label, row in rows:
            color = OURS_COLOR if is_ours(row) else next(peers)
            width = 2.2 if is_ours(row) else 1.4
            times = np.percentile(row.samples_ms, percent)
            axes.plot(times, percent, label=label, color=color, linewidth=width)
        axes.set_xlabel("latency in ms")
        axes.set_ylabel("% of runs within it")
        axes.set_xlim(left=0)
        axes.grid()
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
        return _svg(figure, f"Distribution of the runs, {table.title}")


def ratios(summaries: Sequence[Summary]) -> str:
    """SVG of fastest peer ÷ ours for every network, with its interval; one colour per summary."""
    names = list(dict.fromkeys(v.name for summary in summaries for v in summary.variants))
    with mpl.rc_context(_style("ratios")):
        figure = Figure(figsize=(_WIDTH_IN, 0.9 + 0.27 * len(names)), layout="constrained")
        axes = figure.subplots()
        for i, summary in enumerate(summaries):
            offset = 0.14 * (i - (len(summaries) - 1) / 2)
            _ratio_points(axes, summary, names, offset, [OURS_COLOR, PEER_COLOR][i % 2])
        axes.axvline(1, color=_INK, linewidth=1)
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.set_xlabel("fastest peer ÷ ours: right of 1 ours is faster")
        axes.grid(axis="x")
        axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=4)
        return _svg(figure, "Latency of the fastest peer divided by ours, for every network")


def _ratio_points(
    axes: Axes, summary: Summary, names: Sequence[str], offset: float, color: str
) -> None:
    places = [names.index(variant.name) + offset for variant in summary.variants]
    values = np.array([variant.ratio.value for variant in summary.variants])
    low = np.array([variant.ratio.low for variant in summary.variants])
    high = np.array([variant.ratio.high for variant in summary.variants])
    # Too few runs give an infinite interval, which no plot can show.
    known = np.isfinite(high)
    spread = [np.where(known, values - low, 0), np.where(known, high - values, 0)]
    axes.errorbar(
        values,
        places,
        xerr=np.maximum(spread, 0),
        fmt="o",
        color=color,
        markersize=5,
        label=words.threads_phrase(summary.threads),
    )


def _color(row: ResultRow) -> str:
    return OURS_COLOR if is_ours(row) else PEER_COLOR


def _svg(figure: Figure, title: str) -> str:
    """The figure as an element to put into a page: no XML head, no date, its ink the page's."""
    buffer = io.StringIO()
    metadata = {"Date": None, "Creator": None, "Title": title}
    figure.savefig(buffer, format="svg", transparent=True, metadata=metadata)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg\b[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg\b[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    return svg.replace("<svg", '<svg role="img"', 1).replace(_INK, "currentColor")
