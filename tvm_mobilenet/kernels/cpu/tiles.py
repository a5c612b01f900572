"""Dense convolutions over bytes or bfloat16 by products of matrices: for the tiles of AMX.

The image goes by tiles of up to 16 pixels (schedules/x86/pixel_tiles.py). Their channels are copied
first, those of a step side by side: what a product reads lies together then, and in the first-level
cache, whatever the filter, its stride, and the image's halo. Channels that fill up a step are zero
there, and so are their weights.

Data is blocked in vectors of 16. Weights are (out.blocks / panel, steps, rows, panel, 16, 4 or 2):
``steps`` are those of all taps, and a row is what lies together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from tvm import tirx
from tvm.ir import Expr
from tvm.script import tirx as T

from schedules.filter_window import Window
from schedules.x86.pixel_tiles import Depth, PixelTiles, depth_of, pixel_tiles
from schedules.x86.tile_products import BYTES, LANES, PAIRS, Operands
from tvm_mobilenet.kernels.cpu.conv2d import Activation
from tvm_mobilenet.kernels.cpu.dot_nests import operations_of
from tvm_mobilenet.kernels.cpu.layout import Blocked
from tvm_mobilenet.kernels.cpu.nests import tap_of
from tvm_mobilenet.kernels.cpu.requantization import FLOAT_BIAS
from tvm_mobilenet.kernels.cpu.signatures import Tensor, with_bias, with_scale
from tvm_mobilenet.kernels.cpu.weights import pack_quantized_conv2d
from tvm_mobilenet.kernels.parsing import parsed_once

Weights = TypeVar("Weights", NDArray[np.float32], NDArray[np.int8])


@parsed_once
def byte_tiles_conv2d(
    x: Blocked, out: Blocked, window: Window, activation: Activation, panel: int = 1
) -> tirx.PrimFunc:
    """Dense convolution of uint8, 1x1 included."""
    convolve = tile_convolution(x, out, window, activation, panel, BYTES)
    weights = Tensor(weight_shape(x, out, window, panel, BYTES), BYTES.weights)
    operations = operations_of(out, window, x.channels)
    return with_scale(x, weights, out, convolve, operations, FLOAT_BIAS)


@parsed_once
def bf16_tiles_conv2d(
    x: Blocked, out: Blocked, window: Window, activation: Activation, panel: int = 1
) -> tirx.PrimFunc:
    """Dense convolution of bfloat16, 1x1 included."""
    convolve = tile_convolution(x, out, window, activation, panel, PAIRS)
    weights = Tensor(weight_shape(x, out, window, panel, PAIRS), PAIRS.weights)
    operations = operations_of(out, window, x.channels)
    return with_bias(x, weights, out, convolve, sums=PAIRS.sums, operations=operations)


def tile_convolution(
    x: Blocked,
    out: Blocked,
    window: Window,
    activation: Activation,
    panel: int,
    operands: Operands,
) -> Callable[..., None]:
    """Emits the copy of the pixels, the products, and what writes their sums into the image."""
    depth = depth_of(x.channels, operands.bytes)
    steps, channels, together = steps_of(window, depth), depth.channels, operands.together
    tiles = pixel_tiles(out.height, out.width, steps)
    rule = f"tiles_conv2d_{operands.pixels}"
    copied = (out.batch, *tiles.counts, steps, tiles.pixels, channels)
    summed = (out.batch, *tiles.counts, out.blocks, tiles.pixels, LANES)
    top, left = out.halo.top, out.halo.left
    tap, columns_of_filter = tap_of(x, window), window.kernel[1]
    whole = depth.steps * channels == x.channels

    def from_image(
        data: tirx.Buffer, n: Expr, th: Expr, tw: Expr, step: Expr, p: Expr, k: Expr
    ) -> Expr:
        of_filter, channel = step // depth.steps, step % depth.steps * channels + k
        block, lane = x.channel(channel)
        if not whole:
            block = T.min(block, x.blocks - 1)
        kh, kw = of_filter // columns_of_filter, of_filter % columns_of_filter
        h, w = row(tiles, th, p), column(tiles, tw, p)
        value = data[tap(n, (block, lane), h, w, kh, kw)]
        return value if whole else or_zero(channel < x.channels, value)

    @T.inline
    def emit(data, weight, sums, result):
        pixels = T.sblock_alloc_buffer(copied, operands.pixels)
        acc = T.sblock_alloc_buffer(summed, sums.dtype)
        for n, th, tw, s, p, k in T.grid(*copied):
            with T.sblock("copy"):
                vn, vth, vtw, vs, vp, vk = T.axis.remap("SSSSSS", [n, th, tw, s, p, k])
                pixels[vn, vth, vtw, vs, vp, vk] = from_image(data, vn, vth, vtw, vs, vp, vk)
        for n, th, tw, o, p, c, s, k, i in T.grid(*summed, steps, channels // together, together):
            with T.sblock("conv"):
                vn, vth, vtw, vo, vp, vc, vs, vk, vi = T.axis.remap(
                    "SSSSSSRRR", [n, th, tw, o, p, c, s, k, i]
                )
                T.sblock_attr({"schedule_rule": rule})
                with T.init():
                    acc[vn, vth, vtw, vo, vp, vc] = sums.start(vo, vc)
                acc[vn, vth, vtw, vo, vp, vc] = acc[vn, vth, vtw, vo, vp, vc] + T.cast(
                    pixels[vn, vth, vtw, vs, vp, vk * together + vi], sums.dtype
                ) * T.cast(weight[vo // panel, vs, vk, vo % panel, vc, vi], sums.dtype)
        for n, th, tw, o, p, c in T.grid(*summed):
            with T.sblock("epilogue"):
                vn, vth, vtw, vo, vp, vc = T.axis.remap("SSSSSS", [n, th, tw, o, p, c])
                result[
                    out.at(vn, vo, row(tiles, vth, vp) + top, column(tiles, vtw, vp) + left, vc)
                ] = T.cast(
                    activation(sums.real(acc[vn, vth, vtw, vo, vp, vc], vo, vc)), result.dtype
                )

    return emit


def or_zero(condition: Expr, value: Expr) -> Expr:
    """``value`` where the condition holds, else zero: all its bits, which a bfloat16 has too."""
    dtype = str(value.ty.dtype)
    if dtype != PAIRS.pixels:
        return tirx.Select(condition, value, tirx.const(0, dtype))
    bits = tirx.Select(condition, T.reinterpret(value, dtype="uint16"), T.uint16(0))
    return T.reinterpret(bits, dtype=dtype)


def row(tiles: PixelTiles, tile: Expr, pixel: Expr) -> Expr:
    """Where in the image a tile's pixel lies."""
    return first(tile, tiles.image[0], tiles.rows) + pixel // tiles.columns


def column(tiles: PixelTiles, tile: Expr, pixel: Expr) -> Expr:
    return first(tile, tiles.image[1], tiles.columns) + pixel % tiles.columns


def first(tile: Expr, length: int, size: int) -> Expr:
    """Of a tile's rows or columns; the last tile's lie where they still fit."""
    return tile * size if length % size == 0 else T.min(tile * size, length - size)


def steps_of(window: Window, depth: Depth) -> int:
    """Of all taps."""
    kernel_h, kernel_w = window.kernel
    return kernel_h * kernel_w * depth.steps


def weight_shape(
    x: Blocked, out: Blocked, window: Window, panel: int, operands: Operands
) -> tuple[int, ...]:
    """Of packed weights."""
    depth = depth_of(x.channels, operands.bytes)
    rows, together = depth.channels // operands.together, operands.together
    return (out.blocks // panel, steps_of(window, depth), rows, panel, LANES, together)


def pack_tiles(weight: Weights, panel: int, operands: Operands) -> Weights:
    """(O, I, kh, kw) → (O / 16 / panel, steps, rows, panel, 16, together), filled up with zeros."""
    depth = depth_of(weight.shape[1], operands.bytes)
    missing = depth.steps * depth.channels - weight.shape[1]
    filled = np.pad(weight, ((0, 0), (0, missing), (0, 0), (0, 0)))
    packed = pack_quantized_conv2d(filled, LANES, panel, operands.together)
    panels, *taps, rows, _, _, _ = packed.shape
    steps = taps[0] * taps[1] * depth.steps
    return packed.reshape(panels, steps, rows // depth.steps, *packed.shape[4:])
