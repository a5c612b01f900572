"""Names beside the points of a cloud, none upon another."""

from __future__ import annotations

from collections.abc import Sequence

from tvm_mobilenet.reporting.charts.style import PAPER, Drawing

FONT_PT = 7.5
_LETTER_PT = 0.56 * FONT_PT  # a letter's width, roughly
# where a name may stand, nearest first: offset in points, and which way it grows
_PLACES = (
    *((-4, 4, "right"), (4, -9, "left"), (-4, -9, "right"), (4, 4, "left")),
    *((-4, 12, "right"), (4, -17, "left"), (-4, -17, "right"), (4, 12, "left")),
)
_Box = tuple[float, float, float, float]


def name_points(drawing: Drawing, points: Sequence[tuple[str, float, float]]) -> None:
    """Name each point (name, x, y) where there is room; one without room stays unnamed.

    Call it last: it needs the final limits of the axes. The tables beside a chart name every point.
    """
    axes = drawing.axes
    drawing.figure.draw_without_rendering()
    to_points = 72 / drawing.figure.dpi
    edge = axes.bbox.x0 * to_points  # left of it stand the axis' own figures
    taken: list[_Box] = []
    for _, x, y in points:  # no name on a marker
        px, py = axes.transData.transform((x, y)) * to_points
        taken.append((px - 3, py - 3, px + 3, py + 3))
    for name, x, y in points:
        px, py = axes.transData.transform((x, y)) * to_points
        width = len(name) * _LETTER_PT
        for right, up, align in _PLACES:
            left = px + right - (width if align == "right" else 0)
            box = (left, py + up, left + width, py + up + FONT_PT)
            inside = edge <= box[0]
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                axes.annotate(
                    name,
                    (x, y),
                    xytext=(right, up),
                    textcoords="offset points",
                    ha=align,
                    fontsize=FONT_PT,
                    color=PAPER,
                )
                break


def _overlap(one: _Box, other: _Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
