"""A 1x1 convolution and the depthwise convolution after it, in one kernel.

The depthwise result is cut into tiles. A block computes the 1x1 convolution of the pixels that its
tile meets, those around it too, into shared memory, for some of the channels, and filters them from
there: what lies between the two layers reaches no other memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.script import tirx as T

from schedules.cuda.tiles import Tile
from schedules.filter_window import Window
from tvm_mobilenet.kernels.cpu.conv2d import Activation
from tvm_mobilenet.kernels.gpu.conv2d import (
    gathered_rows,
    product,
    weight_shape,
    weighted_sum,
)
from tvm_mobilenet.kernels.gpu.image import TILE, Image
from tvm_mobilenet.kernels.parsing import parsed_once

POINTWISE = Window()


@dataclass(frozen=True)
class TiledImage:
    """The image between the layers: for each tile the pixels that it meets, filled up."""

    image: Image
    out: Image
    window: Window
    tile: Tile

    @property
    def count(self) -> int:
        return self.out.pixels // self.tile.pixels

    @property
    def held(self) -> int:
        """Rows of a tile."""
        return self.tile.rows(TILE)

    @property
    def rows(self) -> int:
        return self.count * self.held

    @property
    def stored(self) -> int:
        return self.image.stored

    @property
    def dtype(self) -> str:
        return self.image.dtype

    @property
    def shape(self) -> tuple[int, int]:
        return (self.rows, self.stored)

    def corner(self, tile: Any) -> tuple[Any, Any, Any]:
        """The image of the batch that a tile lies in, and its first result's row and column."""
        (height, width), out = self.tile.result, self.out
        down, across = out.height // height, out.width // width
        return tile // (down * across), tile // across % down * height, tile % across * width

    def origin(self, tile: Any) -> tuple[Any, Any]:
        """The first row and column of the pixels that a tile meets; all of them are inside."""
        _, *corner = self.corner(tile)
        sizes = (self.image.height, self.image.width)
        row, column = (
            tirx.max(tirx.min(first * stride - before, size - inputs), 0)
            for first, stride, before, size, inputs in zip(
                corner,
                self.window.stride,
                self.window.padding,
                sizes,
                self.tile.inputs,
                strict=True,
            )
        )
        return row, column

    def pixel(self, m: Any, _tap: Any) -> tuple[Any, Any]:
        """Whether row m is more than filling, and its pixel in the image."""
        tile, local = m // self.held, m % self.held
        height, width = self.tile.inputs
        image, *_ = self.corner(tile)
        row, column = self.origin(tile)
        row, column = row + local // width, column + local % width
        return local < height * width, (image * self.image.height + row) * self.image.width + column

    def meeting(self, tile: Any, output: Any, tap: int) -> tuple[Any, Any]:
        """Whether a tile's output meets a pixel at that tap, and the row of that."""
        (_, kernel_w), (stride_h, stride_w) = self.window.kernel, self.window.stride
        top, left = self.window.padding
        _, first_row, first_column = self.corner(tile)
        row = (first_row + output // self.tile.result[1]) * stride_h + tap // kernel_w - top
        column = (first_column + output % self.tile.result[1]) * stride_w + tap % kernel_w - left
        inside = tirx.all(row >= 0, row < self.image.height, column >= 0, column < self.image.width)
        origin_row, origin_column = self.origin(tile)
        local = (row - origin_row) * self.tile.inputs[1] + column - origin_column
        return inside, tile * self.held + local

    def result(self, tile: Any, output: Any) -> Any:
        """The pixel of the result that a tile's output is."""
        image, row, column = self.corner(tile)
        row, column = row + output // self.tile.result[1], column + output % self.tile.result[1]
        return (image * self.out.height + row) * self.out.width + column


@parsed_once
def pointwise_depthwise_conv2d(
    x: Image,
    middle: Image,
    out: Image,
    window: Window,
    tile: Tile,
    activation: Activation,
    depthwise_activation: Activation,
    *,
    tf32: bool = False,
) -> tirx.PrimFunc:
    """The kernel for tiles of so many outputs, which divide the depthwise result evenly.

    Buffers: x; 1x1 weights as ``weight_shape`` says and bias float32 (middle.stored,); depthwise
    weights (taps, middle.stored) and bias float32 (middle.stored,); out.
    """
    tiled = TiledImage(middle, out, window, tile)
    dtype, channels = x.dtype, middle.stored
    held, count = tiled.held, window.taps
    fill = gathered_rows(x, tiled.rows, POINTWISE.taps, tiled.pixel)
    multiply = product(x, tiled, POINTWISE, activation, "pointwise_depthwise_conv2d", tf32=tf32)
    rows_shape = (tiled.rows, x.stored)
    packed = weight_shape(x, middle, POINTWISE, tf32=tf32)
    outputs = (tiled.count, tile.pixels, channels)

    @T.prim_func(s_tir=True)
    def main(
        data: T.Buffer(x.shape, dtype),
        weight: T.Buffer(packed, dtype),
        bias: T.Buffer((channels,), "float32"),
        filter: T.Buffer((count, channels), dtype),
        filter_bias: T.Buffer((channels,), "float32"),
        result: T.Buffer(out.shape, dtype),
    ) -> None:
        T.func_attr({"tirx.noalias": True})
        rows = T.sblock_alloc_buffer(rows_shape, dtype)
        between = T.sblock_alloc_buffer(tiled.shape, dtype)
        taps = T.sblock_alloc_buffer((tiled.count * count, *outputs[1:]), dtype)
        filtered = T.sblock_alloc_buffer(outputs, dtype)
        fill(data, rows)
        multiply(rows, weight, bias, between)
        for t, p, o, c in T.grid(tiled.count, count, *outputs[1:]):
            with T.sblock("taps"):
                vt, vp, vo, vc = T.axis.remap("SSSS", [t, p, o, c])
                # of a tile's own rows, which is more than TVM finds out by itself
                T.reads(between[vt * held : vt * held + held, vc])
                T.writes(taps[vt * count + vp, vo, vc])
                T.sblock_attr({"explicit_read_region": [0]})
                taps[vt * count + vp, vo, vc] = T.if_then_else(
                    tiled.meeting(vt, vo, vp)[0],
                    between[tiled.meeting(vt, vo, vp)[1], vc],
                    T.cast(0, dtype),
                )
        for t, o, c in T.grid(*outputs):
            with T.sblock("depthwise"):
                vt, vo, vc = T.axis.remap("SSS", [t, o, c])
                filtered[vt, vo, vc] = T.cast(
                    depthwise_activation(
                        weighted_sum(window, taps, filter, vt * count, vo, vc) + filter_bias[vc]
                    ),
                    dtype,
                )
        for t, o, c in T.grid(*outputs):
            with T.sblock("store"):
                vt, vo, vc = T.axis.remap("SSS", [t, o, c])
                result[tiled.result(vt, vo), vc] = filtered[vt, vo, vc]

    return main
