"""How a sum of products of bytes becomes a real number in units of the result: two ways.

``FloatBias`` is what the layer says: a float of the sum, times the channel's scale, plus its bias.

``FixedPoint`` spares the conversion to float, and the one back to an integer. The scale is a number
of 31 bits behind the point, sums start at the bias in their own units, and what is left of it is
one integer of the whole layer, the zero point: NEON multiplies, rounds and drops those bits in one
instruction (``sqrdmulh``), which rounds ties up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from tvm import tirx
from tvm.ir import Expr
from tvm.script import tirx as T

from tvm_mobilenet.kernels.cpu.attributes import IN_FIXED_POINT
from tvm_mobilenet.kernels.cpu.layout import DTYPE
from tvm_mobilenet.kernels.cpu.nests import Sums, started

SUMS = "int32"
POINT = 31  # bits behind the point
LEAST = -128  # the zero point after ReLU
OFFSETS = range(LEAST, 128)  # zero points
LARGEST = 2**15 - 1 + LEAST  # results that 16 bits hold with the zero point
LARGEST_START = 2**31 - 2**24  # what a sum of bytes adds to it is less than 2²⁴
NEAR = 2.0**-10  # how far from the exact result what is rounded may lie, in units of it
# results at least as far from a byte are limited, wherever they are exactly
BYTES = 256
EMPTY = 2.0**-12  # the scale of a channel whose sums are all zero

Array = NDArray[np.float32]


@dataclass(frozen=True)
class FloatBias:
    """The bias is added to the real number, of a block and lane or of a channel."""

    dtype: str = DTYPE

    def shape(self, blocks: int, v: int) -> tuple[int, ...]:
        return blocks, v

    def sums(self, scale: tirx.Buffer, bias: tirx.Buffer) -> Sums:
        return Sums(
            SUMS,
            lambda *channel: T.int32(0),
            lambda total, *channel: T.cast(total, DTYPE) * scale[channel] + bias[channel],
        )


@dataclass(frozen=True)
class FixedPoint:
    """The bias is, of each channel, what its sums start at and its scale in fixed point.

    ``offset`` is added to each result. How NEON computes it: compiler/cpu/neon_bytes.py.
    """

    offset: int = LEAST
    dtype: str = SUMS

    def shape(self, blocks: int, v: int) -> tuple[int, ...]:
        return blocks, 2, v

    def sums(self, scale: tirx.Buffer, bias: tirx.Buffer) -> Sums:
        def real(total: Expr, block: Expr, lane: Expr) -> Expr:
            factor = T.cast(bias[block, 1, lane], DTYPE) * T.float32(2.0**-POINT)
            return T.cast(total, DTYPE) * factor + T.float32(self.offset)

        return Sums(SUMS, lambda block, lane: bias[block, 0, lane], real)


Requantization: TypeAlias = FloatBias | FixedPoint
FLOAT_BIAS = FloatBias()


def summed(func: tirx.PrimFunc) -> tirx.PrimFunc:
    """``func``, whose sums do not say that they read what they start at, where that is an integer.

    An attribute says which parameter that is, and which one is its scale.
    """
    *_, scale, bias, _ = func.params
    if bias.dtype != SUMS:
        return func
    places = [len(func.params) - 2, len(func.params) - 3]
    assert func.params[places[1]].same_as(scale)
    return started(func).with_attr(IN_FIXED_POINT, places)


def fixed_point(
    weight: NDArray[np.int8], scale: Array, bias: Array
) -> tuple[FixedPoint, NDArray[np.int32]] | None:
    """What a layer of int8 that ends in units of its result starts from, and (channels, 2) for it.

    ``weight`` is by output channels. None where results could be too large, or where one of the
    channels would not be NEAR its exact results.
    """
    integers = weight.reshape(len(weight), -1).astype(np.int64)
    positive, negative = integers.clip(min=0).sum(1), -integers.clip(max=0).sum(1)
    low, high = -(128 * positive + 127 * negative), 127 * positive + 128 * negative
    factor = np.where(low == high, EMPTY, scale.astype(np.float64))
    if factor.min() <= 0 or factor.max() >= 1:
        return None
    multiplier = np.rint(factor * 2**POINT)
    shift = bias.astype(np.float64) - np.array(OFFSETS)[:, None]
    start = np.rint(shift / factor)
    farthest = np.maximum(np.abs(low * factor + shift), np.abs(high * factor + shift))
    used = multiplier / 2**POINT
    away = np.abs(start * used - shift)
    away += np.minimum(farthest, BYTES) * np.abs(used / factor - 1)
    possible = (farthest <= LARGEST) & (np.abs(start) <= LARGEST_START) & (away <= NEAR)
    if not possible.all(1).any():
        return None
    allowed = [offset for offset, fits in zip(OFFSETS, possible.all(1), strict=True) if fits]
    # by instructions: none, one for all of a register of bytes, one for half of it
    nearest = OFFSETS[int(np.where(possible, away, np.inf).max(1).argmin())]
    best = OFFSETS.index(next((one for one in (0, LEAST) if one in allowed), nearest))
    bits = np.stack([start[best], multiplier], axis=1).astype(np.int32)
    return FixedPoint(OFFSETS[best]), bits
