"""The blocked activation layout, and the kernels that enter and leave it.

One pixel's ``v`` channels are one vector (one cache line at v = 16). Where vectors are wide, as on
x86, the shape is (N, top + H + bottom, C/v, left + W + right, v): threads share an image by its
rows, and all that one of them writes lies together, so that two cores meet in a single place. Where
they are narrow, as on ARM, it is (N, C/v, top + H + bottom, left + W + right, v): rows of all
channels can lie a multiple of the L1 cache's size apart, and its few ways would not hold a window.
The halo around the image holds the zeros that the consumer's padding asks for; the producer writes
it, so that no convolution has a branch or a padding copy in its loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.ir import Expr
from tvm.script import tirx as T

from tvm_mobilenet.kernels.parsing import parsed_once

DTYPE = "float32"
BF16 = "bfloat16"
FP16 = "float16"
HALVES = (BF16, FP16)  # for tensors between kernels of ours, of float32 numbers
MIN_VECTOR, WIDE_VECTOR = 4, 8  # floats: one SSE or NEON register, one of AVX


@dataclass(frozen=True)
class Halo:
    """Rows and columns of zeros around an image, in pixels."""

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0

    def union(self, other: Halo) -> Halo:
        """The smallest halo that serves both."""
        return Halo(
            max(self.top, other.top),
            max(self.bottom, other.bottom),
            max(self.left, other.left),
            max(self.right, other.right),
        )


NO_HALO = Halo()


@dataclass(frozen=True)
class Blocked:
    """The shape of a blocked tensor: the image (N, C, H, W), its halo and the channels a vector.

    A tensor of ``dtype`` uint8 has ``fill``, its zero point, in its halo.
    """

    batch: int
    channels: int
    height: int
    width: int
    vector: int
    halo: Halo = NO_HALO
    dtype: str = DTYPE
    fill: int = 0

    @property
    def blocks(self) -> int:
        """Channel blocks; the last one is filled up with zero channels."""
        return -(-self.channels // self.vector)

    @property
    def padded_height(self) -> int:
        return self.halo.top + self.height + self.halo.bottom

    @property
    def padded_width(self) -> int:
        return self.halo.left + self.width + self.halo.right

    @property
    def extents(self) -> tuple[int, int, int, int, int]:
        """Of the image alone: images, channel blocks, rows, columns and lanes."""
        return (self.batch, self.blocks, self.height, self.width, self.vector)

    @property
    def zero(self) -> Expr:
        """What stands for zero, in the halo and in filled-up channels."""
        return tirx.const(self.fill, self.dtype)

    @property
    def rows_outermost(self) -> bool:
        """Whether a row of all channels lies together, else a channel block of all rows."""
        return self.vector >= WIDE_VECTOR

    def at(self, n: Any, o: Any, h: Any, w: Any, c: Any) -> tuple[Any, Any, Any, Any, Any]:
        """Image, channel block, row, column and lane in the order of the buffer's dimensions."""
        return (n, h, o, w, c) if self.rows_outermost else (n, o, h, w, c)

    def channel(self, k: Any) -> tuple[Any, Any]:
        """The block and the lane of a channel."""
        return k // self.vector, k % self.vector

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        return self.at(self.batch, self.blocks, self.padded_height, self.padded_width, self.vector)


@parsed_once
def pack(x: Blocked) -> tirx.PrimFunc:
    """(N, C, H, W) → blocked, halo and filled-up channels zero."""
    channels, height, width, halo, v = x.channels, x.height, x.width, x.halo, x.vector
    dtype = plain_dtype(x)
    zero = tirx.const(x.fill, dtype)

    @T.prim_func(s_tir=True)
    def main(
        source: T.Buffer((x.batch, channels, height, width), dtype),
        out: T.Buffer(x.shape, x.dtype),
    ) -> None:
        T.func_attr({"tirx.noalias": True})
        for n, o, h, w, c in T.grid(x.batch, x.blocks, x.padded_height, x.padded_width, v):
            with T.sblock("pack"):
                vn, vo, vh, vw, vc = T.axis.remap("SSSSS", [n, o, h, w, c])
                T.sblock_attr({"schedule_rule": "layout"})
                out[x.at(vn, vo, vh, vw, vc)] = T.cast(
                    T.if_then_else(
                        vo * v + vc < channels
                        and halo.top <= vh
                        and vh < halo.top + height
                        and halo.left <= vw
                        and vw < halo.left + width,
                        source[vn, vo * v + vc, vh - halo.top, vw - halo.left],
                        zero,
                    ),
                    x.dtype,
                )

    return main


def plain_dtype(x: Blocked) -> str:
    """Of the plain tensor: halves are for tensors between kernels of ours."""
    return DTYPE if x.dtype in HALVES else x.dtype


@parsed_once
def unpack(x: Blocked) -> tirx.PrimFunc:
    """Blocked → (N, C, H, W), without halo and filled-up channels."""
    halo, v, dtype = x.halo, x.vector, plain_dtype(x)

    @T.prim_func(s_tir=True)
    def main(
        source: T.Buffer(x.shape, x.dtype),
        out: T.Buffer((x.batch, x.channels, x.height, x.width), dtype),
    ) -> None:
        T.func_attr({"tirx.noalias": True})
        for n, c, h, w in T.grid(x.batch, x.channels, x.height, x.width):
            with T.sblock("unpack"):
                vn, vc, vh, vw = T.axis.remap("SSSS", [n, c, h, w])
                T.sblock_attr({"schedule_rule": "layout"})
                out[vn, vc, vh, vw] = T.cast(
                    source[x.at(vn, vc // v, vh + halo.top, vw + halo.left, vc % v)], dtype
                )

    return main
