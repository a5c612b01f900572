"""The family in two pictures: accuracy against latency, and latency against multiply-adds.

They are the paper's Figures 4 and 5 with measured latency. Accuracy is the paper's where nothing
was measured here; the two have markers of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from matplotlib.axes import Axes

from tvm_mobilenet.reporting.charts.labels import name_points
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
from tvm_mobilenet.reporting.family import Member

HEIGHT_IN = 3.5


def accuracy_against_latency(members: Sequence[Member], threads: str, where: str) -> Chart | None:
    """Top-1 over ours' latency; None where fewer than two networks have an accuracy."""
    known = [(one, top1) for one in members if (top1 := one.top1) is not None]
    if len(known) < 2:
        return None
    with drawing(f"accuracy {threads} {where}", HEIGHT_IN) as chart:
        axes = chart.axes
        logarithmic(axes, "x", [t for one, _ in known for t in (one.ours_ms, one.peer_ms) if t])
        for one, top1 in known:
            if one.peer_ms is not None:
                axes.plot([one.ours_ms, one.peer_ms], [top1, top1], color=PEER, linewidth=0.8)
                axes.plot(one.peer_ms, top1, "o", color=PEER, markersize=4, markerfacecolor="none")
            marker = "*" if one.measured else "o"
            axes.plot(one.ours_ms, top1, marker, color=OURS, markersize=6 + 3 * one.measured)
        _key(axes, [("ours", OURS, "o", "full"), ("fastest peer", PEER, "o", "none")])
        if any(one.measured for one, _ in known):
            _key(axes, [("measured here", OURS, "*", "full")])
        chart.figure.legend(loc="outside lower center", ncols=3)
        axes.margins(0.12, 0.1)
        axes.set_xlabel("ms per inference")
        axes.set_ylabel("top-1 in %, as published")
        axes.grid()
        name_points(chart, [(one.short_name, one.ours_ms, top1) for one, top1 in known])
        best = max(known, key=lambda pair: pair[1])
        return chart.finish(
            f"Accuracy against latency, {threads}",
            where,
            f"{len(known)} networks; the most accurate, {best[0].name} at {best[1]:.1f} %, takes "
            f"{best[0].ours_ms:.3g} ms. Accuracy is the papers' unless marked as measured here.",
        )


def latency_against_work(members: Sequence[Member], threads: str, where: str) -> Chart | None:
    """Latency over multiply-adds; a family of widths is a line each. None of fewer than two."""
    known = [(one, work) for one in members if (work := one.mega_multiply_adds) is not None]
    if len(known) < 2:
        return None
    with drawing(f"work {threads} {where}", HEIGHT_IN) as chart:
        axes = chart.axes
        logarithmic(axes, "x", [work for _, work in known])
        logarithmic(axes, "y", [t for one, _ in known for t in (one.ours_ms, one.peer_ms) if t])
        widths = sum(one.alpha is not None and one.alpha < 1 for one, _ in known) > 1
        (_lines if widths else _points)(axes, known)
        chart.figure.legend(loc="outside lower center", ncols=3)
        axes.margins(0.12, 0.1)
        axes.set_xlabel("millions of multiply-adds")
        axes.set_ylabel("ms per inference")
        axes.grid()
        if not widths:
            name_points(chart, [(one.short_name, work, one.ours_ms) for one, work in known])
        rates = [work / one.ours_ms for one, work in known]
        return chart.finish(
            f"Latency against multiply-adds, {threads}",
            where,
            f"{len(known)} networks; ours computes {min(rates) / 1e3:.3g} to {max(rates) / 1e3:.3g}"
            " thousand million multiply-adds a second.",
        )


def _lines(axes: Axes, known: Sequence[tuple[Member, float]]) -> None:
    """A line for every width, from the least to the most work."""
    by_width = sorted(known, key=lambda pair: (-(pair[0].alpha or 1), pair[1]))
    for place, (alpha, group) in enumerate(groupby(by_width, lambda pair: pair[0].alpha)):
        color, marker = SERIES[place % len(SERIES)], MARKERS[place % len(MARKERS)]
        members = list(group)
        work = [one for _, one in members]
        axes.plot(
            work,
            [one.ours_ms for one, _ in members],
            marker + "-",
            color=color,
            markersize=5,
            label=f"ours, α {alpha:g}",  # noqa: RUF001
        )
        peers = [(amount, one.peer_ms) for one, amount in members if one.peer_ms is not None]
        if peers:
            axes.plot(*zip(*peers, strict=True), ":", color=color, linewidth=1.2)
    _key(axes, [("fastest peer", INK, "", "none")])


def _points(axes: Axes, known: Sequence[tuple[Member, float]]) -> None:
    for one, work in known:
        if one.peer_ms is not None:
            axes.plot([work, work], [one.ours_ms, one.peer_ms], color=PEER, linewidth=0.8)
            axes.plot(work, one.peer_ms, "o", color=PEER, markersize=4, markerfacecolor="none")
        axes.plot(work, one.ours_ms, "o", color=OURS, markersize=6)
    _key(axes, [("ours", OURS, "o", "full"), ("fastest peer", PEER, "o", "none")])


def _key(axes: Axes, entries: Sequence[tuple[str, str, str, str]]) -> None:
    """Entries of the legend: label, colour, marker (none: a dotted line) and its filling."""
    for label, color, marker, filling in entries:
        axes.plot(
            [],
            [],
            linestyle="" if marker else ":",
            marker=marker or None,
            color=color,
            fillstyle="none" if filling == "none" else "full",
            markersize=5,
            label=label,
        )
