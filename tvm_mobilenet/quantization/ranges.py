"""From samples of a tensor's values to the range that its 256 numbers are spread over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from tvm_mobilenet.quantization.scales import SMALLEST_SCALE, Scale, rounded, scale_of

Method = Literal["minmax", "percentile", "mse"]
METHODS: tuple[str, ...] = get_args(Method)

BINS = 2048
PERCENTILE = 99.99  # of the values; the rest lie outside the range, half of them at each side
SHARES = np.linspace(0.3, 1.0, 71)  # of the full range that ``mse`` tries, at either end


@dataclass
class Extent:
    """The smallest and largest value of a tensor over all samples, and of each of its channels."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]

    def add(self, values: NDArray[Any]) -> None:
        low, high = extent_of(values)
        np.minimum(self.low, low, out=self.low)
        np.maximum(self.high, high, out=self.high)


def extent_of(values: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The smallest and largest value of each channel: the second dimension, else all as one."""
    if values.ndim < 2:
        flat = values.reshape(1, -1)
        return flat.min(axis=1).astype(np.float64), flat.max(axis=1).astype(np.float64)
    axes = (0, *range(2, values.ndim))
    return values.min(axis=axes).astype(np.float64), values.max(axis=axes).astype(np.float64)


@dataclass
class Histogram:
    """How many values of a tensor lie in each of ``BINS`` equal parts of a range known before."""

    low: float
    high: float
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))

    def add(self, values: NDArray[Any]) -> None:
        width = max(self.high - self.low, SMALLEST_SCALE)
        places = ((values.reshape(-1) - self.low) * (BINS / width)).astype(np.int32)
        np.clip(places, 0, BINS - 1, out=places)
        self.counts += np.bincount(places, minlength=BINS)

    @property
    def middles(self) -> NDArray[np.float64]:
        """Of the bins."""
        width = (self.high - self.low) / BINS
        return self.low + width * (np.arange(BINS, dtype=np.float64) + 0.5)


def choose_range(histogram: Histogram, method: Method) -> Scale:
    """The scale for a tensor of these values."""
    return {"minmax": _minmax, "percentile": _percentile, "mse": _mse}[method](histogram)


def clipped_share(histogram: Histogram, scale: Scale) -> float:
    """The share of the values that lie outside the range of a scale, by half a step or more."""
    middles, half = histogram.middles, scale.step / 2
    outside = (middles < scale.low - half) | (middles > scale.high + half)
    return float(histogram.counts[outside].sum() / max(histogram.counts.sum(), 1))


def scales_of(histograms: Mapping[str, Histogram], method: Method) -> dict[str, Scale]:
    return {name: choose_range(one, method) for name, one in histograms.items()}


def _minmax(histogram: Histogram) -> Scale:
    return scale_of(histogram.low, histogram.high)


def _percentile(histogram: Histogram) -> Scale:
    total = np.cumsum(histogram.counts)
    outside = (100 - PERCENTILE) / 200 * total[-1]
    edges = np.linspace(histogram.low, histogram.high, BINS + 1)
    low = edges[np.searchsorted(total, outside, side="right")]
    high = edges[min(np.searchsorted(total, total[-1] - outside, side="left") + 1, BINS)]
    return scale_of(float(low), float(high))


def _mse(histogram: Histogram) -> Scale:
    """The range of the least mean squared error: its upper end is chosen first, then its lower."""
    low, high = histogram.low, histogram.high
    used = histogram.counts > 0
    middles, counts = histogram.middles[used], histogram.counts[used]

    def error(scale: Scale) -> float:
        return float(counts @ np.square(rounded(middles, scale) - middles))

    def best(ends: list[tuple[float, float]]) -> tuple[float, float]:
        return min(ends, key=lambda one: error(scale_of(*one)))

    low, high = best([(low, high * share) for share in SHARES])
    low, high = best([(low * share, high) for share in SHARES])
    return scale_of(low, high)
