"""The layers of a profiled network against what the core can do at best."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from tvm_mobilenet.reporting import words
from tvm_mobilenet.reporting.charts.style import (
    INK,
    MARKERS,
    SERIES,
    Chart,
    drawing,
    logarithmic,
)
from tvm_mobilenet.results.profiles import LayerProfile, Profiled

NAMED = 5  # the slowest layers carry their number


def roofline(profile: Profiled) -> Chart | None:
    """GFLOP/s over FLOP a byte, both logarithmic; colour and marker tell the kernel's kind.

    A roof for each kind of arithmetic. None where no layer's peak is known.
    """
    layers = [one for one in profile.layers if one.flops and one.nbytes and profile.peak(one)]
    if not layers:
        return None
    kinds_of_peaks = dict.fromkeys(one.arithmetic for one in layers)
    peaks = {
        kind: (profile.core.peak(kind) or 0) * profile.threads / 1e9 for kind in kinds_of_peaks
    }
    peak, unit = max(peaks.values()), words.speed_heading(peaks)
    bandwidth = profile.core.bytes_per_s * profile.threads / 1e9
    with drawing(f"roofline {profile.title}", 3.9) as chart:
        axes = chart.axes
        x = np.array([one.intensity for one in layers])
        y = np.array([one.gflops for one in layers])
        corners = [one / bandwidth for one in peaks.values()]
        edges = np.array([x.min() / 1.6, *corners, x.max() * 1.6])
        edges.sort()
        roof = np.minimum(peak, bandwidth * edges)
        logarithmic(axes, "x", [float(edges[0]), float(edges[-1])])
        logarithmic(axes, "y", [float(y.min()), float(peak)])
        axes.set_ylim(min(y.min(), roof[0]) / 1.3, 1.5 * max(y.max(), peak))
        for arithmetic, one in peaks.items():
            axes.plot(edges, np.minimum(one, bandwidth * edges), color=INK, linewidth=1.4)
            axes.annotate(
                words.peak(arithmetic, one * 1e9),
                (one / bandwidth, one),
                xytext=(-4, 3),
                textcoords="offset points",
                ha="right",
                fontsize=8.5,
            )
        axes.annotate(
            f"{bandwidth:.0f} GB/s",
            (edges[0], roof[0]),
            xytext=(18, 2),
            textcoords="offset points",
            ha="left",
            va="bottom",
            fontsize=8.5,
        )
        kinds = list(dict.fromkeys(one.kind for one in layers))
        for place, kind in enumerate(kinds):
            members = [one for one in layers if one.kind == kind]
            axes.plot(
                [one.intensity for one in members],
                [one.gflops for one in members],
                MARKERS[place % len(MARKERS)],
                color=SERIES[place % len(SERIES)],
                markersize=5.5,
                label=kind.replace("_", " "),
            )
        _number(axes, [one for one in slowest(profile) if one in layers])
        axes.set_xlabel(f"{unit[1:-2]} per byte moved")
        axes.set_ylabel(unit)
        axes.grid()
        chart.figure.legend(loc="outside lower center", ncols=2)
        named = ", ".join(f"{one.name} ({one.workload})" for one in slowest(profile))
        return chart.finish(
            "Roofline",
            profile.title,
            f"{len(layers)} layers under a roof of "
            f"{', '.join(words.peak(kind, one * 1e9) for kind, one in peaks.items())} and "
            f"{bandwidth:.0f} GB/s. "
            f"The layers that take longest, numbered: {named}.",
        )


def _number(axes: Axes, layers: list[LayerProfile]) -> None:
    """A layer's number below its point, with a line to it: the slowest are close to each other."""
    for place, one in enumerate(sorted(layers, key=lambda layer: layer.intensity)):
        axes.annotate(
            one.name,
            (one.intensity, one.gflops),
            xytext=(0.97 - 0.075 * (len(layers) - 1 - place), 0.42),
            textcoords="axes fraction",
            ha="center",
            fontsize=9,
            fontweight="bold",
            arrowprops={"arrowstyle": "-", "color": INK, "linewidth": 0.6, "shrinkB": 3},
        )


def slowest(profile: Profiled) -> list[LayerProfile]:
    """The layers that take longest, longest first."""
    return sorted(profile.layers, key=lambda one: -one.ms)[:NAMED]
