"""How far the quantized network's outputs are from the float one's, over samples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Outputs = Sequence[NDArray[Any]]


@dataclass(frozen=True)
class Agreement:
    """``top1`` is the share of samples with the same best class, None for outputs of no classes.

    ``cosine`` is of the angle between the outputs as vectors, ``error`` ‖a - b‖ / ‖b‖ over all
    samples: each of the worst output where there are several.
    """

    samples: int
    top1: float | None
    cosine: float
    error: float

    @property
    def loss(self) -> float:
        """What ``--max-loss`` bounds: samples of another class, else the outputs' error."""
        return self.error if self.top1 is None else 1 - self.top1

    def __str__(self) -> str:
        top1 = "" if self.top1 is None else f"top-1 {self.top1:.2%}, "
        return f"{top1}cosine {self.cosine:.5f}, relative error {self.error:.1e}"


def agreement_of(
    found: Iterable[Outputs], right: Sequence[Outputs], samples: int, classes: int | None
) -> Agreement:
    """Of batches of outputs. ``classes`` is the number of the output that has scores of classes."""
    totals: list[NDArray[np.float64]] = []
    same = 0
    left = samples
    for outputs, expected in zip(found, right, strict=True):
        totals = totals or [np.zeros(4) for _ in outputs]
        for total, one, other in zip(totals, outputs, expected, strict=True):
            a, b = one.astype(np.float64).reshape(-1), other.astype(np.float64).reshape(-1)
            total += (a @ b, a @ a, b @ b, np.square(a - b).sum())
        if classes is not None:
            equal = outputs[classes].argmax(axis=-1) == expected[classes].argmax(axis=-1)
            same += int(
                equal[:left].sum()
            )  # a last batch that was filled up counts no sample twice
            left -= len(equal)
    return Agreement(
        samples,
        None if classes is None else same / samples,
        min(_ratio(ab, np.sqrt(aa * bb)) for ab, aa, bb, _ in totals),
        max(_ratio(np.sqrt(distance), np.sqrt(bb)) for _, _, bb, distance in totals),
    )


def _ratio(value: float, by: float) -> float:
    """Of two zeros 1 and 0 would both be right; a network that gives only those is no use."""
    return float(value / by) if by else float("inf") if value else 0.0
