"""How a sum of products of bytes becomes a real number in units of the result: two ways.

``FloatBias`` is what the layer says: a float of the sum, times the channel's scale, plus its bias.

``SumBits`` spares the conversion to float, and the one back to an integer. Sums start at the bits
of a float near 1.5·2²³, so that their bits are that float plus the sum. Times the scale, plus a
whole number of the channel's, it is 1.5·2²³ plus the result in units. The one rounding of a fused
multiply-add makes that a whole number, ties to even: the result is in the low bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import tvm_ffi
from numpy.typing import NDArray
from tvm import s_tir, tirx
from tvm.ir import Expr
from tvm.script import tirx as T

from tvm_mobilenet.kernels.cpu.layout import DTYPE
from tvm_mobilenet.kernels.cpu.nests import Sums

SUMS = "int32"
SUMS_IN_BITS = "sums_in_bits"  # an attribute of kernels: the places of their bias and of its scale
MAGIC, MAGIC_BITS = 1.5 * 2**23, 0x4B400000
LEAST, MOST = 2**23, 2**24  # floats between these are whole numbers, one after the other
LARGEST = 2**15 - 1  # results that 16 bits hold
STRIDES = (512, 1024)  # so many integers, and as many so far apart: those that sums may start at
NEAR = 2.0**-10  # how far from the exact result what is rounded may lie, in units of it

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
class SumBits:
    """The bias is, of each channel, what its sums start at and the bits of what is added."""

    dtype: str = SUMS

    def shape(self, blocks: int, v: int) -> tuple[int, ...]:
        return blocks, 2, v

    def sums(self, scale: tirx.Buffer, bias: tirx.Buffer) -> Sums:
        def real(total: Expr, block: Expr, lane: Expr) -> Expr:
            product = T.reinterpret(total, dtype=DTYPE) * scale[block, lane]
            return product + T.reinterpret(bias[block, 1, lane], dtype=DTYPE) - T.float32(MAGIC)

        return Sums(SUMS, lambda block, lane: bias[block, 0, lane], real)


Requantization: TypeAlias = FloatBias | SumBits
FLOAT_BIAS, SUM_BITS = FloatBias(), SumBits()


def summed(func: tirx.PrimFunc) -> tirx.PrimFunc:
    """``func``, whose sums do not say that they read what they start at.

    What makes an intrinsic of a step takes the block of the whole sum for it, which reads more.
    An attribute says which parameter that is, and which one is its scale.
    """
    *_, scale, bias, _ = func.params
    if bias.dtype != SUMS:
        return func

    def stripped(block: s_tir.SBlock) -> s_tir.SBlock:
        kept = [one for one in block.reads if not one.source.same_as(bias)]
        if block.init is None or len(kept) == len(block.reads):
            return block
        return s_tir.SBlock(
            block.iter_vars,
            kept,
            block.writes,
            block.name_hint,
            block.body,
            block.init,
            annotations=block.annotations,
        )

    places = [len(func.params) - 2, len(func.params) - 3]
    assert func.params[places[1]].same_as(scale)
    body = tvm_ffi.structural_map(func.body, (s_tir.SBlock, stripped))
    return func.with_body(body).with_attr(SUMS_IN_BITS, places)


def sum_bits(weight: NDArray[np.int8], scale: Array, bias: Array) -> NDArray[np.int32] | None:
    """(channels, 2) for ``SumBits``, of a layer of int8 that ends in units of its result.

    ``weight`` is by output channels. None where sums or results could be too large, or where no
    start brings one of the channels NEAR its exact results.
    """
    integers = weight.reshape(len(weight), -1).astype(np.int64)
    positive, negative = integers.clip(min=0).sum(1), -integers.clip(max=0).sum(1)
    low, high = -(128 * positive + 127 * negative), 127 * positive + 128 * negative
    factor, shift = scale.astype(np.float64), bias.astype(np.float64)
    ends = np.abs(np.stack([low * factor + shift, high * factor + shift]))
    first, last = LEAST - low, MOST - 1 - high
    if ends.max() >= LARGEST or (last - first).min() < max(STRIDES) ** 2 or scale.max() >= 1:
        return None
    return bits_from((first + last) // 2, factor, shift)


def bits_from(
    middles: NDArray[np.integer[Any]], factors: NDArray[np.float64], shifts: NDArray[np.float64]
) -> NDArray[np.int32] | None:
    """(channels, 2) for ``SumBits``: sums that start near ``middles``, times factors, plus shifts.

    None where one of them has no start NEAR enough.
    """
    found = [
        nearest(int(middle), *channel)
        for middle, *channel in zip(middles, factors, shifts, strict=True)
    ]
    if any(one is None for one in found):
        return None
    starts, added = np.array(found, np.float64).T
    # of a float from 2²³ on, the bits of the next are the next integer
    start = starts.astype(np.int64) - int(MAGIC) + MAGIC_BITS
    whole = added.astype(np.float32).view(np.int32)
    return np.stack([start.astype(np.int32), whole], axis=1)


def nearest(middle: int, factor: float, shift: float) -> tuple[int, float] | None:
    """A float near ``middle`` for sums to start at, and the whole number that is added after it.

    Sums are multiplied by ``factor``, and ``shift`` is added to them.
    """
    for stride in STRIDES:
        near, far = np.arange(stride), np.arange(stride) * stride + middle - stride**2 // 2
        # what a near one adds to the distance from a whole number, which makes up for a far one's
        parts = -near * factor % 1
        order = parts.argsort()
        sorted_parts = parts[order]
        missing = -(MAGIC + shift - far * factor) % 1
        place = np.searchsorted(sorted_parts, missing)
        beside = np.stack([place - 1, place]) % stride
        away = np.abs((sorted_parts[beside] - missing + 0.5) % 1 - 0.5)
        side, best = np.unravel_index(away.argmin(), away.shape)
        if away[side, best] <= NEAR:
            start = int(far[best] + near[order[beside[side, best]]])
            return start, float(np.rint(MAGIC + shift - start * factor))
    return None
