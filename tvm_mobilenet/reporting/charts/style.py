"""How every chart looks, and how a figure becomes an element of the page.

A chart is drawn in token colours, which no chart uses for anything else; in the SVG they become
the page's CSS variables. So it reads on light, on dark and on paper.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

INK = "#010203"
OURS = "#010204"
PEER = "#010205"
PAPER = "#010206"
# what tells series apart that are neither ours nor a peer's, together with the shape of markers
SERIES = ("#010211", "#010212", "#010213", "#010214", "#010215", "#010216")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")  # one more than colours: pairs repeat late
_VARIABLES = {
    INK: "currentColor",
    OURS: "var(--ours)",
    PEER: "var(--peer)",
    PAPER: "var(--paper)",
    **{token: f"var(--series-{number})" for number, token in enumerate(SERIES, 1)},
}
CSS_PIXELS = 96  # of an inch
WIDTH_IN = 4.9  # a phone's screen shows it whole, a wide one two of them side by side
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",  # text stays text
    "date.converter": "concise",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": INK,
    "grid.alpha": 0.13,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "legend.handlelength": 1.4,
    "axes.axisbelow": True,
}


@dataclass(frozen=True)
class Chart:
    """One chart: its caption within a section, its full title, what it shows in words, its SVG."""

    caption: str
    title: str
    description: str
    svg: str


class Drawing:
    """A figure with one pair of axes, to be drawn on and then finished."""

    def __init__(self, figure: Figure, axes: Axes) -> None:
        self.figure, self.axes = figure, axes

    def label_x(self, text: str) -> None:
        """Below the middle of the whole figure: long names leave the axes little width."""
        self.figure.supxlabel(text, fontsize=10)

    def finish(self, caption: str, where: str, description: str) -> Chart:
        """The chart; ``where`` tells it from others of the same caption."""
        title = f"{caption}, {where}" if where else caption
        return Chart(caption, title, description, _svg(self.figure, title, description))


@contextmanager
def drawing(salt: str, height_in: float) -> Iterator[Drawing]:
    """A figure of the common width; ``salt`` keeps its ids apart from those of others."""
    settings: Any = {**_STYLE, "svg.hashsalt": salt}
    with mpl.rc_context(settings):
        figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
        yield Drawing(figure, figure.subplots())


# what the variables are where there is no page: on paper, whatever the reader's browser prefers
_ON_PAPER = {"ours": "#c4500d", "peer": "#4a6f91"}


def standalone(chart: Chart) -> str:
    """A chart of ours and peers as an SVG file: on white, in the colours of the light page."""
    size = f'width="{WIDTH_IN * CSS_PIXELS:.0f}" style="background: #fff; color: #1b2127"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size}'
    svg = re.sub(r'<svg\b((?: (?!xmlns=)[^ =]+="[^"]*")*) xmlns="[^"]*"', rf"{head}\1", chart.svg)
    for name, color in _ON_PAPER.items():
        svg = svg.replace(f"var(--{name})", color)
    font = "<style>text { font-family: system-ui, sans-serif; }</style>"
    return svg.replace("</desc>", f"</desc>{font}", 1)


def logarithmic(axes: Axes, which: str, values: Sequence[float]) -> None:
    """A log axis with plain numbers at 1, 2 and 5; at every digit where it spans little."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    low, high = min(values), max(values)
    steps = (1.0, 2.0, 5.0) if high / low > 6 else tuple(map(float, range(1, 10)))
    axis.set_major_locator(LogLocator(subs=steps))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _svg(figure: Figure, title: str, description: str) -> str:
    """The figure as an element to put into a page: named, without XML head, date or size."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg\b[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg\b[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    name = hashlib.sha256(f"{title}\n{description}".encode()).hexdigest()[:12]
    described = f'role="img" aria-labelledby="t{name} d{name}"'
    words = f'<title id="t{name}">{escape(title)}</title>'
    words += f'<desc id="d{name}">{escape(description)}</desc>'
    svg = re.sub(r"<svg\b([^>]*)>", rf"<svg {described}\1>\n{words}", svg, count=1)
    for token, variable in _VARIABLES.items():
        svg = svg.replace(token, variable)
    # a browser's own font, as the page has it
    return re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", svg)
