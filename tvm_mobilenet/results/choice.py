"""What a user chooses by: the fastest way to run a network that costs no more than 1 % accuracy.

The one table in which precisions stand beside each other: each engine at the precision in which it
is fastest, of those that were measured to be right as often as fp32, but for so much.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tvm_mobilenet.results.schema import ResultRow, Results
from tvm_mobilenet.results.tables import is_ours, variant_name

MOST_LOSS = 1.0  # of a hundred images
EXACT = "fp32"


@dataclass(frozen=True)
class Choice:
    """An engine's fastest row, and its latency over that of the fastest of ours.

    That is a ratio of medians of runs of their own: no interval is known.
    """

    row: ResultRow
    ratio: float

    @property
    def median_ms(self) -> float:
        assert self.row.latency_ms is not None
        return self.row.latency_ms.p50


@dataclass(frozen=True)
class ChoiceTable:
    """Of one network on so many threads, the fastest first; ``exact_percent`` is fp32's."""

    network: str
    threads: int
    exact_percent: float
    choices: Sequence[Choice]


def choices(results: Results) -> Iterator[ChoiceTable]:
    """A table for each network that was measured in several precisions, fp32 among them.

    Rows whose accuracy nobody measured are in none.
    """
    groups: dict[tuple[str, int, int, str], list[ResultRow]] = {}
    for row in results.results:
        if row.latency_ms is not None and row.accuracy is not None:
            key = (variant_name(row), row.batch, row.threads, row.circumstances)
            groups.setdefault(key, []).append(row)
    for (network, _, threads, _), rows in groups.items():
        exact = [_percent(row) for row in rows if row.precision == EXACT]
        if not exact or len({row.precision for row in rows}) == 1:
            continue
        least = max(exact) - MOST_LOSS
        best = _best_of_each([row for row in rows if _percent(row) >= least])
        ours = next((one for name, one in best.items() if is_ours(one)), None)
        if ours is None:
            continue
        table = [Choice(row, _p50(row) / _p50(ours)) for row in best.values()]
        yield ChoiceTable(network, threads, max(exact), sorted(table, key=lambda one: one.ratio))


def _best_of_each(rows: Sequence[ResultRow]) -> dict[str, ResultRow]:
    """By engine; all bundles are one."""
    best: dict[str, ResultRow] = {}
    for row in sorted(rows, key=_p50):
        best.setdefault(row.engine.partition(":")[0], row)
    return best


def _p50(row: ResultRow) -> float:
    assert row.latency_ms is not None
    return row.latency_ms.p50


def _percent(row: ResultRow) -> float:
    assert row.accuracy is not None
    return row.accuracy.percent
