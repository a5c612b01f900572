"""What a shared core costs: an engine's latency while a neighbour used its core, over that without.

The neighbour is another program or guest on the core's other hardware thread, which came and went
(``benchmark.core_states``); nobody put it there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm_mobilenet.results.schema import CoreUse, ResultRow, Results
from tvm_mobilenet.results.tables import Comparison, comparisons


@dataclass(frozen=True)
class UsedCore:
    """One engine's row, of which the core had two states."""

    row: ResultRow
    use: CoreUse

    @property
    def slowdown(self) -> float | None:
        """Shared over alone; None where all was taken in one of them. No interval is known."""
        if self.use.alone is None or self.use.shared is None:
            return None
        return self.use.shared.p50 / self.use.alone.p50


@dataclass(frozen=True)
class CoreUseTable:
    """Of rows measured in turns: the engines of which the core had two states."""

    title: str
    engines: Sequence[UsedCore]


def core_use_tables(results: Results) -> list[CoreUseTable]:
    """A table for each comparison in which the core had two states; none where it had one."""
    tables = map(core_use_table, comparisons(results))
    return [table for table in tables if table.engines]


def core_use_table(table: Comparison) -> CoreUseTable:
    """Of one comparison; without engines where the core had one state."""
    used = [
        UsedCore(line.row, line.row.core)
        for line in table.lines
        if line.row.core is not None and line.row.core.states == 2
    ]
    return CoreUseTable(table.title, used)
