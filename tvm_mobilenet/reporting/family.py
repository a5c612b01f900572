"""What is known of the networks measured beside their latency: multiply-adds and accuracy.

Multiply-adds of MobileNetV1's variants are computed from the layer table, those of others are their
papers'. Accuracy is the papers' too, unless a row says that it was measured here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tvm_mobilenet.models.published import PAPER_COST, PAPER_TOP1, PAPER_V1_COST
from tvm_mobilenet.models.stages import MobileNetConfig, layers
from tvm_mobilenet.reporting.words import short_networks
from tvm_mobilenet.results.schema import ResultRow
from tvm_mobilenet.results.tables import Comparison, variant_name

PLAIN_V1 = ("mobilenet_v1", "mobilenet_v1_tensorflow")  # they differ in padding and activation
PAPERS_PRECISIONS = ("fp32", "tf32")  # what another precision loses, no paper says
PUBLISHED_SIZE = 224  # of the networks in PAPER_COST but EfficientNet-Lite's larger ones


@dataclass(frozen=True)
class Member:
    """One network: ours beside the fastest peer, what it costs, and how often it is right.

    ``top1`` is in per cent; ``measured`` says that it was found here, and is not the paper's.
    """

    name: str
    short_name: str
    alpha: float | None
    ours_ms: float
    peer_ms: float | None
    mega_multiply_adds: float | None
    top1: float | None
    measured: bool


def members(tables: Iterable[Comparison]) -> list[Member]:
    """The networks that ours has a latency on, in the order of the comparisons."""
    found = []
    shown = [(one, table) for table in tables if (one := table.fastest_ours()) is not None]
    short_names = short_networks([variant_name(row) for row, _ in shown])
    for (ours, table), short_name in zip(shown, short_names, strict=True):
        assert ours.latency_ms is not None
        peer = table.fastest_peer()
        latency = None if peer is None else peer.row.latency_ms
        found.append(
            Member(
                variant_name(ours),
                short_name,
                ours.alpha,
                ours.latency_ms.p50,
                None if latency is None else latency.p50,
                _mega_multiply_adds(ours),
                _top1(ours),
                ours.accuracy is not None,
            )
        )
    return found


def _mega_multiply_adds(row: ResultRow) -> float | None:
    """In millions, for one image."""
    if row.model in PLAIN_V1 and row.alpha is not None:
        config = MobileNetConfig(alpha=row.alpha, resolution=row.resolution)
        return sum(layer.multiply_adds for layer in layers(config)) / 1e6
    v1 = PAPER_V1_COST.get((row.model, row.alpha or 1.0, row.resolution))
    of_size = PAPER_COST.get(row.model) if row.resolution == PUBLISHED_SIZE else None
    paper = v1 or (of_size if (row.alpha or 1.0) == 1.0 else None)
    return None if paper is None else paper.multiply_adds


def _top1(row: ResultRow) -> float | None:
    if row.accuracy is not None:
        return row.accuracy.percent
    if row.precision not in PAPERS_PRECISIONS:
        return None
    return PAPER_TOP1.get((row.model, row.alpha or 1.0, row.resolution))
