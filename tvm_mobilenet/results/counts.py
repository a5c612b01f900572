"""Rows of counted instructions → one table for each thread count: networks down, engines across."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tvm_mobilenet.results.schema import ResultRow, Results
from tvm_mobilenet.results.statistics import geometric_mean
from tvm_mobilenet.results.tables import is_counted, is_ours, same_network, variant_name


@dataclass(frozen=True)
class Counted:
    """One network's rows. ``ours`` is our first bundle that has a count."""

    name: str
    rows: tuple[ResultRow, ...]

    @property
    def ours(self) -> ResultRow | None:
        return next((row for row in self.rows if is_ours(row) and row.instructions), None)

    @property
    def fewest_peer(self) -> ResultRow | None:
        """The peer with the fewest instructions."""
        peers = [(row.instructions, i) for i, row in enumerate(self.rows) if not is_ours(row)]
        counted = [(count, i) for count, i in peers if count is not None]
        return self.rows[min(counted)[1]] if counted else None

    @property
    def ratio(self) -> float | None:
        """The fewest of a peer ÷ ours: above 1 ours takes fewer."""
        ours, peer = self.ours, self.fewest_peer
        if ours is None or peer is None or not ours.instructions or not peer.instructions:
            return None
        return peer.instructions / ours.instructions


@dataclass(frozen=True)
class CountTable:
    """The networks counted with one thread count; ``engines`` are its columns."""

    threads: int
    engines: tuple[str, ...]
    networks: tuple[Counted, ...]

    @property
    def title(self) -> str:
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return f"Million instructions per inference, {threads}, emulated"

    @property
    def compared(self) -> list[tuple[str, float]]:
        """Each network that has a ratio, and that."""
        ratios = [(network.name, network.ratio) for network in self.networks]
        return [(name, ratio) for name, ratio in ratios if ratio is not None]

    @property
    def geometric_mean(self) -> float:
        return geometric_mean([ratio for _, ratio in self.compared])


def count_tables(results: Results) -> list[CountTable]:
    """The tables of one file, in the order of their first rows."""
    by_threads: dict[int, list[Counted]] = {}
    for rows in same_network(results.results):
        if is_counted(rows):
            counted = Counted(_name(rows[0]), tuple(rows))
            by_threads.setdefault(rows[0].threads, []).append(counted)
    return [
        CountTable(threads, tuple(_engines(networks)), tuple(networks))
        for threads, networks in by_threads.items()
    ]


def _engines(networks: Iterable[Counted]) -> Sequence[str]:
    """Every engine once, ours first."""
    names = dict.fromkeys(row.engine for network in networks for row in network.rows)
    ours = {row.engine for network in networks for row in network.rows if is_ours(row)}
    return sorted(names, key=lambda name: name not in ours)


def _name(row: ResultRow) -> str:
    batch = "" if row.batch == 1 else f", batch {row.batch}"
    return f"{variant_name(row)}{batch}, {row.precision}"
