"""int8 and others beside fp32 on one machine, with their accuracy, and without a ratio.

They were measured in runs of their own, so no ratio of theirs would be one of this report's.
"""

from __future__ import annotations

from collections.abc import Mapping

from tvm_mobilenet.reporting import words
from tvm_mobilenet.reporting.charts import precisions as chart
from tvm_mobilenet.reporting.groups import MachineGroup
from tvm_mobilenet.reporting.page import Section, Table
from tvm_mobilenet.results.schema import ResultRow
from tvm_mobilenet.results.tables import variant_name

Found = Mapping[str, Mapping[str, ResultRow]]  # by network and precision


def beside_each_other(group: MachineGroup, anchor: str) -> Section | None:
    """None where no network was measured in two precisions with the same threads."""
    tables, charts = [], []
    for threads in sorted({table.threads for run in group.runs for table in run.tables}):
        found = _networks(group, threads)
        if not found:
            continue
        known = [one for one in group.precisions if any(one in rows for rows in found.values())]
        title = words.threads_phrase(threads)
        latencies = {
            name: {one: row.latency_ms.p50 for one, row in rows.items() if row.latency_ms}
            for name, rows in found.items()
        }
        charts.append(chart.beside_each_other(latencies, known, title, group.title))
        header = ["network", *(f"{one} ms" for one in known), *(f"{one} top-1" for one in known)]
        cells = [
            [
                name,
                *(_latency(rows.get(one)) for one in known),
                *(_accuracy(rows.get(one)) for one in known),
            ]
            for name, rows in found.items()
        ]
        tables.append(Table(f"Ours in each precision, {title}", header, cells, words=(0,)))
    if not tables:
        return None
    sentence = (
        "Each precision was measured in a run of its own, so latencies stand beside each other and "
        "no ratio is made of them. Accuracy is what was measured here; where nobody measured it "
        "the cell is empty."
    )
    names = " and ".join(group.precisions)
    return Section(f"{names} beside each other", anchor, [sentence], charts, tables)


def _networks(group: MachineGroup, threads: int) -> Found:
    found: dict[str, dict[str, ResultRow]] = {}
    for run in group.runs:
        for table in run.tables:
            row = table.fastest_ours()
            if row is not None and table.threads == threads:
                found.setdefault(variant_name(row), {}).setdefault(run.precision, row)
    return {name: rows for name, rows in found.items() if len(rows) > 1}


def _latency(row: ResultRow | None) -> str:
    known = None if row is None else row.latency_ms
    return words.milliseconds(None if known is None else known.p50)


def _accuracy(row: ResultRow | None) -> str:
    if row is None or row.accuracy is None:
        return words.NONE
    return f"{row.accuracy.percent:.2f} %"
