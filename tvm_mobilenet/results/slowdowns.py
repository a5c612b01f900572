"""What a busy neighbour costs: an engine's latency beside noise over its latency without."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tvm_mobilenet.results.schema import Neighbour, ResultRow, Results
from tvm_mobilenet.results.tables import variant_name


@dataclass(frozen=True)
class Slowdown:
    """One engine's row without noise, and its medians beside each kind of it, None where not run.

    What it loses is a ratio of medians of runs of their own: no interval is known.
    """

    quiet: ResultRow
    noisy_ms: Sequence[float | None]

    @property
    def quiet_ms(self) -> float:
        assert self.quiet.latency_ms is not None
        return self.quiet.latency_ms.p50

    @property
    def ratios(self) -> list[float | None]:
        return [None if noisy is None else noisy / self.quiet_ms for noisy in self.noisy_ms]


@dataclass(frozen=True)
class SlowdownTable:
    """Of one network on so many threads: its engines, in the order of their rows."""

    network: str
    precision: str
    threads: int
    kinds: Sequence[Neighbour]
    engines: Sequence[Slowdown]


def slowdown_tables(results: Results) -> Iterator[SlowdownTable]:
    """A table for each network that was measured without noise and beside some."""
    groups: dict[tuple[str, str, int, int], list[ResultRow]] = {}
    for row in results.results:
        if row.latency_ms is not None:
            key = (variant_name(row), row.precision, row.batch, row.threads)
            groups.setdefault(key, []).append(row)
    for (network, precision, _, threads), rows in groups.items():
        kinds = [kind for kind in dict.fromkeys(row.neighbour for row in rows) if kind is not None]
        medians = {
            (row.engine, row.tuned, row.neighbour): row.latency_ms.p50
            for row in rows
            if row.latency_ms is not None
        }
        engines = [
            Slowdown(row, [medians.get((row.engine, row.tuned, kind)) for kind in kinds])
            for row in rows
            if row.neighbour is None
        ]
        if kinds and engines:
            yield SlowdownTable(network, precision, threads, kinds, engines)
