"""Changes as a page."""

from __future__ import annotations

from collections.abc import Sequence

from tvm_mobilenet.reporting import change_words as text
from tvm_mobilenet.reporting.page import Headline, Page, Section, Table
from tvm_mobilenet.results.changes import Change


def build(changes: Sequence[Change], old: str, new: str) -> Page:
    machines = text.by_machine(changes)
    sections = [
        Section(
            machine,
            f"machine-{number}",
            tables=[_table(rows)],
            notes=text.reasons(rows),
        )
        for number, (machine, rows) in enumerate(machines.items(), 1)
    ]
    if len(machines) > 1:
        header, rows = text.side_by_side(changes)
        words = [place for place in range(len(header)) if place != 3]
        table = Table("New ÷ old on every machine", header, rows, words)
        sections.insert(0, Section("Machines side by side", "machines", tables=[table]))
    verdicts = {change.verdict for change in changes}
    verdict = next((one for one in ("slower", "faster") if one in verdicts), "no difference")
    headline = Headline(f"{new} against {old}", text.conclusion(changes), verdict)
    return Page([headline], sections, text.reading(changes))


def _table(changes: Sequence[Change]) -> Table:
    header, rows = text.table(changes)
    words = [0, 1, 2, -1]
    if text.CORE in header:
        words.append(header.index(text.CORE))
    return Table("New against old", header, rows, words)
