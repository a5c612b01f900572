"""Fastest peer ÷ ours for every network, with its interval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from tvm_mobilenet.reporting import words
from tvm_mobilenet.reporting.charts.style import (
    INK,
    MARKERS,
    OURS,
    PEER,
    SERIES,
    Chart,
    drawing,
    logarithmic,
)
from tvm_mobilenet.results.tables import Summary

_COLORS = (OURS, PEER, *SERIES)
WIDE = 3  # beyond that ratios are drawn on a log axis
BETWEEN_ROWS = 0.32  # of a row, between the first and the last thread count's points


def ratios(summaries: Sequence[Summary]) -> Chart:
    """A row a network, a colour a thread count; ``summaries`` are of the same networks."""
    names = list(dict.fromkeys(v.name for summary in summaries for v in summary.variants))
    with drawing(f"ratios {' '.join(names)}", 0.95 + 0.24 * len(names)) as chart:
        axes = chart.axes
        for place, summary in enumerate(summaries):
            offset = BETWEEN_ROWS * (place / max(1, len(summaries) - 1) - 0.5)
            _points(axes, summary, names, offset if len(summaries) > 1 else 0.0, place)
        axes.axvline(1, color=INK, linewidth=1)
        axes.set_yticks(range(len(names)), words.short_networks(names))
        axes.tick_params(axis="y", length=0)
        axes.invert_yaxis()
        chart.label_x("fastest peer ÷ ours; right of the line ours is faster")
        values = [1.0, *(v.ratio.value for summary in summaries for v in summary.variants)]
        if max(values) / min(values) > WIDE:
            logarithmic(axes, "x", values)
        axes.grid()
        axes.spines["left"].set_visible(False)
        chart.figure.legend(loc="outside upper center", ncols=4)
        means = "; ".join(words.summary_sentence(summary) for summary in summaries)
        return chart.finish("Fastest peer ÷ ours, every network", "", means)


def _points(axes: Axes, summary: Summary, names: Sequence[str], offset: float, place: int) -> None:
    heights = [names.index(variant.name) + offset for variant in summary.variants]
    values = np.array([variant.ratio.value for variant in summary.variants])
    low = np.array([variant.ratio.low for variant in summary.variants])
    high = np.array([variant.ratio.high for variant in summary.variants])
    # Too few runs give an infinite interval, which no chart can show.
    known = np.isfinite(high)
    spread = [np.where(known, values - low, 0), np.where(known, high - values, 0)]
    axes.errorbar(
        values,
        heights,
        xerr=np.maximum(spread, 0),
        fmt=MARKERS[place % len(MARKERS)],
        color=_COLORS[place % len(_COLORS)],
        markersize=4.5,
        label=words.threads_phrase(summary.threads),
    )
