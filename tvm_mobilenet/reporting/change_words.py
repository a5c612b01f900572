"""Changes between two sets of results as tables: one a machine, and the machines side by side."""

from __future__ import annotations

from collections.abc import Sequence

from tvm_mobilenet.reporting import words
from tvm_mobilenet.results.changes import Change

HEADER = ("network", "engine", "precision", "threads", "old", "new", "new ÷ old [95 %]", "it is")
READING = (
    "new ÷ old compares the medians of two runs; what made the machine itself faster or slower in "
    "between is divided out by the engines that are the same in both. Above 1 the new one takes "
    "longer. Runs at different times differ by more than turns in one run: a verdict asks that the "
    "interval clears 1 by 1.5 %, or by 3 % where no engine is the same in both."
)
CORE = "core"  # a column where one of the runs had two states of it
READING_OF_CORES = (
    "Where others used the core's second hardware thread at times, in both runs, what was taken in "
    "the same state of the core is compared: alone or shared, which share of the old run, and of "
    "the new. A run with one state does not tell which that was: it is compared as a whole."
)


def table(changes: Sequence[Change]) -> tuple[list[str], list[list[str]]]:
    """Header and rows, with a column about the core where there is anything to say of it."""
    header, rows = list(HEADER), [cells(change) for change in changes]
    if any(change.core for change in changes):
        header.insert(-1, CORE)
        for row, change in zip(rows, changes, strict=True):
            row.insert(-1, change.core or words.NONE)
    return header, rows


def reading(changes: Sequence[Change]) -> str:
    """What the columns mean."""
    cores = any(change.core for change in changes)
    return f"{READING} {READING_OF_CORES}" if cores else READING


def cells(change: Change) -> list[str]:
    """The cells under ``HEADER``."""
    return [
        change.network if change.how == "native" else f"{change.network}, {change.how}",
        change.engine,
        change.precision,
        str(change.threads),
        _figure(change, change.old),
        _figure(change, change.new),
        _ratio(change),
        change.verdict,
    ]


def _figure(change: Change, value: float | None) -> str:
    if value is not None and change.counted:
        return f"{value:.1f} M instr."
    return words.milliseconds(value)


def _ratio(change: Change) -> str:
    if change.ratio is not None and change.counted:
        return f"{change.ratio.value:.4f}"
    return words.ratio(change.ratio)


def by_machine(changes: Sequence[Change]) -> dict[str, list[Change]]:
    found: dict[str, list[Change]] = {}
    for change in changes:
        found.setdefault(change.machine, []).append(change)
    return found


def side_by_side(changes: Sequence[Change]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: a column a machine, each with the ratio and the verdict."""
    machines = list(by_machine(changes))
    rows: dict[tuple[str, str, str, int], dict[str, str]] = {}
    for change in changes:
        key = (change.network, change.engine, change.precision, change.threads)
        value = words.NONE if change.ratio is None else f"{change.ratio.value:.2f}"
        rows.setdefault(key, {})[change.machine] = f"{value}, {change.verdict}"
    header = ["network", "engine", "precision", "threads", *machines]
    return header, [
        [*map(str, key), *(found.get(one, words.NONE) for one in machines)]
        for key, found in rows.items()
    ]


def reasons(changes: Sequence[Change]) -> list[str]:
    """Why rows are not comparable, each reason once."""
    found: dict[str, list[str]] = {}
    for change in changes:
        if change.verdict == "not comparable":
            name = f"{change.network}, {change.engine}, {words.threads_phrase(change.threads)}"
            found.setdefault(change.reason, []).append(name)
    return [
        f"{names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}: {reason}."
        for reason, names in found.items()
    ]


def conclusion(changes: Sequence[Change]) -> str:
    """All of it in a sentence."""
    counts = {
        word: sum(change.verdict == word for change in changes)
        for word in ("slower", "faster", "no difference", "not comparable")
    }
    if not changes:
        return "There is nothing to compare."
    worst = max(changes, key=lambda change: change.slower_by)
    tail = ""
    if worst.slower_by:
        name = f"{worst.network}, {words.threads_phrase(worst.threads)}"
        tail = f" The largest loss is {worst.slower_by:.1%} ({name})."
    rows = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    return f"Of {len(changes)} row{'s' if len(changes) > 1 else ''}: {rows}.{tail}"


def beyond(changes: Sequence[Change], share: float) -> list[Change]:
    """What became slower by more than ``share``."""
    return [change for change in changes if change.slower_by > share]
