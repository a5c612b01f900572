"""Ours over time: the latency, and the fastest peer beside it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from tvm_mobilenet.reporting.charts.style import OURS, PEER, Chart, drawing
from tvm_mobilenet.reporting.words import threads_phrase
from tvm_mobilenet.results.history import Series

HEIGHT_IN = 2.6


def latency_over_time(one: Series) -> Chart | None:
    points = [(when, ours) for when, ours, _ in one.means()]
    return _draw(one, points, "Ours over time", "ms per inference", OURS)


def ratio_over_time(one: Series) -> Chart | None:
    points = [(when, ratio) for when, _, ratio in one.means() if ratio is not None]
    return _draw(one, points, "Fastest peer ÷ ours over time", "fastest peer ÷ ours", PEER)


def _draw(
    one: Series, points: list[tuple[str, float]], caption: str, label: str, color: str
) -> Chart | None:
    """None of fewer than two points: that is no series."""
    if len(points) < 2:
        return None
    where = f"{one.precision}, {threads_phrase(one.threads)}, {one.machine}"
    days: Any = [datetime.fromisoformat(when) for when, _ in points]
    values = [value for _, value in points]
    count = len(one.in_every_run)
    with drawing(f"{caption} {where}", HEIGHT_IN) as chart:
        axes = chart.axes
        axes.plot(days, values, "o-", color=color, markersize=5)
        axes.set_ylim(0, 1.15 * max(values))
        axes.set_ylabel(label)
        axes.grid()
        over = f"geometric mean of {count} networks" if count > 1 else one.in_every_run[0]
        return chart.finish(
            f"{caption}, {threads_phrase(one.threads)}",
            where,
            f"{over}: from {values[0]:.3g} on {points[0][0]} to {values[-1]:.3g} on "
            f"{points[-1][0]}, {len(points)} runs.",
        )
