"""A series of runs as a page."""

from __future__ import annotations

from collections.abc import Sequence

from tvm_mobilenet.reporting.charts import history as charts
from tvm_mobilenet.reporting.history_tables import HEADER, READING, cells, title
from tvm_mobilenet.reporting.page import Headline, Page, Section, Table
from tvm_mobilenet.results.history import Series


def build(found: Sequence[Series]) -> Page:
    sections = []
    for number, one in enumerate(found, 1):
        drawn = [charts.latency_over_time(one), charts.ratio_over_time(one)]
        table = Table("Every run", HEADER, cells(one), words=(0, 1, -1))
        shown = [chart for chart in drawn if chart is not None]
        sections.append(Section(title(one), f"series-{number}", [], shown, [table]))
    return Page([_headline(one) for one in found if len(one.runs) > 1], sections, READING)


def _headline(one: Series) -> Headline:
    means = one.means()
    if not means:
        sentence = f"{len(one.runs)} runs have no network in common."
        return Headline(title(one), sentence, "no difference")
    (first, before, _), (last, after, _) = means[0], means[-1]
    sentence = (
        f"On {last.partition('T')[0]} ours takes {after / before:.2f} times as long as on "
        f"{first.partition('T')[0]}; {len(means)} runs."
    )
    return Headline(title(one), sentence, "no difference")
