"""Many results files of the same networks as a series in time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.results.changes import machine_name
from tvm_mobilenet.results.schema import Results
from tvm_mobilenet.results.statistics import Ratio, geometric_mean
from tvm_mobilenet.results.tables import comparisons, variant_name


@dataclass(frozen=True)
class Point:
    """Ours on one network in one run; ``ratio`` is the fastest peer ÷ ours, where one took part."""

    created: str
    source: str
    network: str
    ours_ms: float
    ratio: Ratio | None


@dataclass(frozen=True)
class Series:
    """What was measured in one way on one machine, oldest first."""

    machine: str
    precision: str
    threads: int
    points: tuple[Point, ...]

    @property
    def networks(self) -> list[str]:
        return list(dict.fromkeys(point.network for point in self.points))

    @property
    def runs(self) -> list[tuple[str, str]]:
        """When, and from which file."""
        return list(dict.fromkeys((point.created, point.source) for point in self.points))

    @property
    def in_every_run(self) -> list[str]:
        """The networks that all runs have; the others are in no mean."""
        return [
            name
            for name in self.networks
            if {(p.created, p.source) for p in self.points if p.network == name} == set(self.runs)
        ]

    def means(self) -> list[tuple[str, float, float | None]]:
        """Of each run: when, the geometric means of ours in ms, and of the ratios if all have one.

        Over the networks that every run has; empty where there are none.
        """
        names = set(self.in_every_run)
        found = []
        for run in self.runs if names else []:
            points = [
                point
                for point in self.points
                if (point.created, point.source) == run and point.network in names
            ]
            ratios = [point.ratio.value for point in points if point.ratio is not None]
            ours = geometric_mean([point.ours_ms for point in points])
            mean = geometric_mean(ratios) if len(ratios) == len(points) else None
            found.append((run[0], ours, mean))
        return found


def series(files: Sequence[tuple[str, Results]]) -> list[Series]:
    """The series of all machines, precisions and thread counts. A run without a date is refused."""
    found: dict[tuple[str, str, int], list[Point]] = {}
    for source, results in files:
        if results.created is None:
            raise BadInput(f"{source}: created: missing, and a series needs to know when")
        for table in comparisons(results):
            ours, peer = table.fastest_ours(), table.fastest_peer()
            if ours is None or ours.latency_ms is None:
                continue
            key = (machine_name(results.machine), ours.precision, ours.threads)
            network = (
                variant_name(ours) if ours.batch == 1 else f"{variant_name(ours)} x{ours.batch}"
            )
            ratio = None if peer is None else peer.ratio
            point = Point(results.created, source, network, ours.latency_ms.p50, ratio)
            found.setdefault(key, []).append(point)
    return [
        Series(*key, tuple(sorted(points, key=lambda point: (point.created, point.source))))
        for key, points in found.items()
    ]
