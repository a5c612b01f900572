"""A network's latency in each precision, beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tvm_mobilenet.reporting.charts.style import MARKERS, OURS, SERIES, Chart, drawing
from tvm_mobilenet.reporting.words import short_networks


def beside_each_other(
    latencies: Mapping[str, Mapping[str, float]],
    precisions: Sequence[str],
    threads: str,
    where: str,
) -> Chart:
    """``latencies``: by network, ours' median in ms by precision."""
    names = list(latencies)
    with drawing(f"precisions {threads} {where}", 0.95 + 0.24 * len(names)) as chart:
        axes = chart.axes
        for place, precision in enumerate(precisions):
            points = [
                (ms, row)
                for row, name in enumerate(names)
                if (ms := latencies[name].get(precision)) is not None
            ]
            color = OURS if place == 0 else SERIES[place - 1]
            x, y = zip(*points, strict=True)
            axes.plot(x, y, MARKERS[place], color=color, markersize=5, label=precision)
        axes.set_yticks(range(len(names)), short_networks(names))
        axes.tick_params(axis="y", length=0)
        axes.invert_yaxis()
        axes.set_xlim(left=0)
        axes.set_xlabel("ms per inference, ours")
        axes.grid()
        axes.spines["left"].set_visible(False)
        chart.figure.legend(loc="outside upper center", ncols=4)
        return chart.finish(
            f"{' and '.join(precisions)} beside each other, {threads}",
            where,
            f"Ours' median latency of {len(names)} networks in each precision; the table has them.",
        )
