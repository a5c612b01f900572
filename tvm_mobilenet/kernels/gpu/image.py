"""The activation layout on GPUs, and the kernels that enter and leave it.

Channels last: a tensor is a matrix of pixels x channels, what a 1x1 convolution multiplies, and 16
bytes of neighbouring channels are one load. Both sides are filled up to whole tiles of 16, so that
no product needs a predicate; what the filled-up rows hold is never read into a result, and the
filled-up channels meet weights of zero. There is no halo: a load outside the image is predicated.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx
from tvm.script import tirx as T

from schedules.cuda import fragments
from tvm_mobilenet.kernels.parsing import parsed_once

TILE = fragments.TILE  # pixels and channels: one tensor-core tile


def round_up(number: int) -> int:
    """To whole tiles."""
    return -(-number // TILE) * TILE


@dataclass(frozen=True)
class Image:
    """The shape of a channels-last tensor: an image (N, C, H, W), filled up to whole tiles."""

    batch: int
    channels: int
    height: int
    width: int
    dtype: str = "float32"

    @property
    def pixels(self) -> int:
        return self.batch * self.height * self.width

    @property
    def rows(self) -> int:
        return round_up(self.pixels)

    @property
    def stored(self) -> int:
        return round_up(self.channels)

    @property
    def shape(self) -> tuple[int, int]:
        return (self.rows, self.stored)


@parsed_once
def pack(x: Image) -> tirx.PrimFunc:
    """float32 (N, C, H, W) → channels last, filled-up channels zero."""
    height, width, channels, dtype = x.height, x.width, x.channels, x.dtype

    @T.prim_func(s_tir=True)
    def main(
        source: T.Buffer((x.batch, channels, height, width), "float32"),
        out: T.Buffer(x.shape, dtype),
    ) -> None:
        T.func_attr({"tirx.noalias": True})
        for m, c in T.grid(*x.shape):
            with T.sblock("pack"):
                vm, vc = T.axis.remap("SS", [m, c])
                T.sblock_attr({"schedule_rule": "layout"})
                out[vm, vc] = T.if_then_else(
                    tirx.all(vm < x.pixels, vc < channels),
                    T.cast(
                        source[vm // (height * width), vc, vm // width % height, vm % width], dtype
                    ),
                    T.cast(0, dtype),
                )

    return main


@parsed_once
def unpack(x: Image) -> tirx.PrimFunc:
    """Channels last → float32 (N, C, H, W)."""
    height, width = x.height, x.width

    @T.prim_func(s_tir=True)
    def main(
        source: T.Buffer(x.shape, x.dtype),
        out: T.Buffer((x.batch, x.channels, height, width), "float32"),
    ) -> None:
        T.func_attr({"tirx.noalias": True})
        for n, c, h, w in T.grid(x.batch, x.channels, height, width):
            with T.sblock("unpack"):
                vn, vc, vh, vw = T.axis.remap("SSSS", [n, c, h, w])
                T.sblock_attr({"schedule_rule": "layout"})
                out[vn, vc, vh, vw] = T.cast(source[(vn * height + vh) * width + vw, vc], "float32")

    return main
