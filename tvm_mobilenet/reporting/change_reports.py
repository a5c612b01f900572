"""Changes on a terminal, as a Markdown comment, and as a page."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from tvm_mobilenet.reporting import change_words as text
from tvm_mobilenet.reporting import markdown, terminal
from tvm_mobilenet.results.changes import Change

TABLE_WIDTH = 112


def print_changes(console: Console, changes: Sequence[Change]) -> None:
    console.width = max(console.width, TABLE_WIDTH)  # a cut-off verdict says nothing
    for machine, rows in text.by_machine(changes).items():
        terminal.print_table(console, machine, *text.table(rows))
    for reason in text.reasons(changes):
        console.print(f"not comparable: {reason}", markup=False, highlight=False, soft_wrap=True)
    console.print(text.conclusion(changes), markup=False, highlight=False, soft_wrap=True)


def as_markdown(changes: Sequence[Change], old: str, new: str) -> str:
    """What a bot may post: the conclusion first, then the rows."""
    parts = [
        f"## Latency: {markdown.escape(new)} against {markdown.escape(old)}",
        f"**{markdown.escape(text.conclusion(changes))}**",
    ]
    machines = text.by_machine(changes)
    if len(machines) > 1:
        parts.append(markdown.render_table(*text.side_by_side(changes)))
    for machine, rows in machines.items():
        parts.append(f"### {markdown.escape(machine)}")
        parts.append(markdown.render_table(*text.table(rows)))
    reasons = text.reasons(changes)
    if reasons:
        parts.append("\n".join(f"- not comparable: {markdown.escape(one)}" for one in reasons))
    parts.append(f"<sub>{markdown.escape(text.reading(changes))}</sub>")
    return "\n\n".join(parts) + "\n"
