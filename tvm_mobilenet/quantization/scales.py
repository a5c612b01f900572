"""The arithmetic of int8: scales, zero points, and what a number becomes in 8 bits.

Activations are uint8 with one scale and zero point a tensor, weights int8 with one scale a channel
and the zero point 0. Zero is exact in both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEVELS = 255  # steps of uint8
MOST_WEIGHT = 127  # -128 is left out: weights are symmetric
MOST_OF_REDUCED = 63  # of 7 bits
# Of a bias in its own quanta, which are the products' quanta: with that it is as exact as float32,
# and sums of products still fit 24 bits wherever the weights' own sums do.
MOST_BIAS = 2.0**21
SMALLEST_SCALE = 2.0**-100


@dataclass(frozen=True)
class Scale:
    """A tensor's values are ``step`` times its uint8 numbers less ``zero``."""

    step: float
    zero: int

    @property
    def low(self) -> float:
        """The smallest value that there is a number for."""
        return self.step * (0 - self.zero)

    @property
    def high(self) -> float:
        return self.step * (LEVELS - self.zero)


def scale_of(low: float, high: float) -> Scale:
    """Of a range of values, widened where 0 is not in it. The step is one that float32 holds."""
    low, high = min(low, 0.0), max(high, 0.0)
    step = float(np.float32((high - low) / LEVELS))
    if step < SMALLEST_SCALE:  # zeros alone
        return Scale(1.0, 0)
    return Scale(step, int(np.clip(np.round(-low / step), 0, LEVELS)))


def rounded(values: NDArray[Any], scale: Scale) -> NDArray[np.float64]:
    """The values as uint8 would hold them, in float64; halves to even, as QuantizeLinear."""
    numbers = np.clip(np.round(values / scale.step) + scale.zero, 0, LEVELS)
    found: NDArray[np.float64] = (numbers - scale.zero) * scale.step
    return found


@dataclass(frozen=True)
class Weights:
    """A layer's int8 ``values``, and the ``steps`` of its output channels, along ``axis``."""

    values: NDArray[np.int8]
    steps: NDArray[np.float32]
    axis: int

    def floats(self) -> NDArray[np.float64]:
        """What the int8 numbers stand for."""
        shape = [1] * self.values.ndim
        shape[self.axis] = -1
        return self.values.astype(np.float64) * self.steps.astype(np.float64).reshape(shape)


def quantize_weights(
    weight: NDArray[Any],
    axis: int,
    bias: NDArray[Any] | None = None,
    input_step: float = 1.0,
    *,
    most: int = MOST_WEIGHT,
) -> Weights:
    """Symmetric, each output channel by its largest weight, which becomes ``most``.

    A channel whose weights are next to nothing beside its bias gets larger steps: those of the bias
    follow from them and from the input's, and its number has to fit.
    """
    channels = np.moveaxis(weight.astype(np.float64), axis, 0)
    flat = channels.reshape(len(channels), -1)
    steps = np.abs(flat).max(axis=1) / most
    if bias is not None:
        steps = np.maximum(steps, np.abs(bias.astype(np.float64)) / (input_step * MOST_BIAS))
    steps = np.where(steps < SMALLEST_SCALE, 1.0, steps).astype(np.float32)
    numbers = np.round(flat / steps[:, None].astype(np.float64))
    values = np.clip(numbers, -most, most).astype(np.int8)
    return Weights(np.moveaxis(values.reshape(channels.shape), 0, axis), steps, axis)


def bias_steps(input_step: float, weights: Weights) -> NDArray[np.float32]:
    """Of a bias: those of its layer's products."""
    return (np.float32(input_step) * weights.steps).astype(np.float32)


def quantize_bias(bias: NDArray[Any], steps: NDArray[np.float32]) -> NDArray[np.int32]:
    """To int32."""
    most = 2.0**31 - 1
    numbers = np.clip(np.round(bias.astype(np.float64) / steps.astype(np.float64)), -most, most)
    return numbers.astype(np.int32)
