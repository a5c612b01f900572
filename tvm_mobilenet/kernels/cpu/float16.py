"""Convolutions and the classifier in float16: many products, summed in parts.

A sum of float16 loses up to 2^-11 of itself with every product that is added. So a long one is made
of parts of at most MOST_PRODUCTS products, each summed in float16, which a sum in float32 adds up.
Of N products, whatever their signs, a part is off by at most

    N * 2^-11 / (1 - N * 2^-11) * (the sum of the products' sizes),

1/15 of that for 128 of them, and by about sqrt(N / 6) * 2^-12 of the sum itself, 1/900, where signs
are random. The parts of a sum being off independently, the whole is off by no larger a share.

What has few products is conv2d.py's, in float16.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx
from tvm.ir import Expr
from tvm.script import tirx as T

from schedules.filter_window import Window
from tvm_mobilenet.kernels.cpu.conv2d import (
    Activation,
    conv2d,
    dense_shape,
    depthwise_convolution,
    depthwise_shape,
    halo_writer,
    origin,
    separable_conv2d,
)
from tvm_mobilenet.kernels.cpu.layout import DTYPE, FP16, Blocked
from tvm_mobilenet.kernels.parsing import parsed_once

MOST_PRODUCTS = 128  # that are summed in float16
STEP = 8  # products of one vector of inputs
UNEVEN = 2  # times as many parts as are least, for parts of whole steps


@dataclass(frozen=True)
class Parts:
    """Of a sum over a window and ``chunks`` times ``channels`` input channels.

    Part i has ``channels`` channels of one of the window's ``rows``, or of all of its one row.
    """

    rows: int
    chunks: int
    channels: int

    @property
    def count(self) -> int:
        return self.rows * self.chunks


def parts_of(kernel: tuple[int, int], channels: int) -> Parts:
    """The fewest parts that are short enough; one, if the sum is.

    Up to twice as many where they are whole steps.
    """
    rows, columns = kernel
    if rows * columns * channels <= MOST_PRODUCTS:
        return Parts(1, 1, channels)
    short = [
        d for d in range(1, channels + 1) if channels % d == 0 and d * columns <= MOST_PRODUCTS
    ]
    most = max(short, default=1)
    whole = [d for d in short if d % STEP == 0 and d * UNEVEN >= most]
    best = max(whole, default=most)
    return Parts(rows, channels // best, best)


@parsed_once
def half_conv2d(
    x: Blocked,
    out: Blocked,
    window: Window,
    activation: Activation,
    panel: int = 1,
    groups: int = 1,
) -> tirx.PrimFunc:
    """As ``conv2d``, of any number of products."""
    if parts_of(window.kernel, x.channels // groups).count == 1:
        return conv2d(x, out, window, activation, panel, groups)
    pointwise = window.kernel == window.stride == (1, 1)
    rule = "pointwise_conv2d" if pointwise else "conv2d"
    write_halo = halo_writer(out)
    convolve = convolution_in_parts(x, out, window, activation, panel, rule, groups=groups)

    @T.prim_func(s_tir=True)
    def main(
        data: T.Buffer(x.shape, x.dtype),
        weight: T.Buffer(dense_shape(x, out, window, panel, groups), x.dtype),
        bias: T.Buffer((out.blocks, out.vector), DTYPE),
        result: T.Buffer(out.shape, out.dtype),
    ) -> None:
        T.func_attr({"tirx.noalias": True})
        write_halo(result)
        convolve(data, weight, bias, result)

    return main


@parsed_once
def half_separable_conv2d(
    x: Blocked,
    middle: Blocked,
    out: Blocked,
    window: Window,
    activation: Activation,
    pointwise_activation: Activation,
    panel: int = 1,
) -> tirx.PrimFunc:
    """As ``separable_conv2d``, of any number of products."""
    pointwise = Window()
    if parts_of(pointwise.kernel, middle.channels).count == 1:
        return separable_conv2d(x, middle, out, window, activation, pointwise_activation, panel)
    write_halo = halo_writer(out)
    filter_channels = depthwise_convolution(x, middle, window, activation, None, "filter")
    convolve = convolution_in_parts(
        middle, out, pointwise, pointwise_activation, panel, "separable_conv2d"
    )

    @T.prim_func(s_tir=True)
    def main(
        data: T.Buffer(x.shape, x.dtype),
        filter: T.Buffer(depthwise_shape(middle, window), x.dtype),
        filter_bias: T.Buffer((middle.blocks, middle.vector), DTYPE),
        weight: T.Buffer(dense_shape(middle, out, pointwise, panel), middle.dtype),
        bias: T.Buffer((out.blocks, out.vector), DTYPE),
        result: T.Buffer(out.shape, out.dtype),
    ) -> None:
        T.func_attr({"tirx.noalias": True})
        filtered = T.sblock_alloc_buffer(middle.shape, middle.dtype)
        write_halo(result)
        filter_channels(data, filter, filter_bias, filtered)
        convolve(filtered, weight, bias, result)

    return main


def convolution_in_parts(
    x: Blocked,
    out: Blocked,
    window: Window,
    activation: Activation,
    panel: int,
    rule: str,
    *,
    groups: int = 1,
) -> Callable[..., None]:
    """As ``conv2d.dense_convolution``: a block sums each part, another the parts."""
    kernel_w, (stride_h, stride_w) = window.kernel[1], window.stride
    apart_h, apart_w = window.dilation
    origin_h, origin_w = origin(x, window)
    channels_in, lanes_in, v = x.channels // groups, x.vector, out.vector
    parts = parts_of(window.kernel, channels_in)
    chunks, channels = parts.chunks, parts.channels
    group_blocks = out.blocks // groups
    tile = (out.batch, out.blocks, out.height, out.width, v)
    top, left = out.halo.top, out.halo.left
    zero = tirx.const(0, x.dtype)

    def source(block: Expr, part: Expr, k: Expr) -> Expr:
        """The input channel that is the k-th of a part of a block's group."""
        first = 0 if groups == 1 else block // group_blocks * channels_in
        return first + part % chunks * channels + k

    @T.inline
    def emit(data, weight, bias, result):
        acc = T.sblock_alloc_buffer((*tile, parts.count), x.dtype)
        total = T.sblock_alloc_buffer(tile, DTYPE)
        for n, o, h, w, c, p, kw, k in T.grid(*tile, parts.count, kernel_w, channels):
            with T.sblock("conv"):
                vn, vo, vh, vw, vc, vp, vkw, vk = T.axis.remap(
                    "SSSSSSRR", [n, o, h, w, c, p, kw, k]
                )
                T.sblock_attr({"schedule_rule": rule})
                with T.init():
                    acc[vn, vo, vh, vw, vc, vp] = zero
                acc[vn, vo, vh, vw, vc, vp] = (
                    acc[vn, vo, vh, vw, vc, vp]
                    + data[
                        x.at(
                            vn,
                            source(vo, vp, vk) // lanes_in,
                            vh * stride_h + vp // chunks * apart_h + origin_h,
                            vw * stride_w + vkw * apart_w + origin_w,
                            source(vo, vp, vk) % lanes_in,
                        )
                    ]
                    * weight[
                        vo // panel,
                        vp // chunks,
                        vkw,
                        vp % chunks * channels + vk,
                        vo % panel,
                        vc,
                    ]
                )
        for n, o, h, w, c, p in T.grid(*tile, parts.count):
            with T.sblock("total"):
                vn, vo, vh, vw, vc, vp = T.axis.remap("SSSSSR", [n, o, h, w, c, p])
                with T.init():
                    total[vn, vo, vh, vw, vc] = T.float32(0)
                total[vn, vo, vh, vw, vc] = total[vn, vo, vh, vw, vc] + T.cast(
                    acc[vn, vo, vh, vw, vc, vp], DTYPE
                )
        for n, o, h, w, c in T.grid(*tile):
            with T.sblock("epilogue"):
                vn, vo, vh, vw, vc = T.axis.remap("SSSSS", [n, o, h, w, c])
                result[out.at(vn, vo, vh + top, vw + left, vc)] = T.cast(
                    activation(total[vn, vo, vh, vw, vc] + bias[vo, vc]), out.dtype
                )

    return emit


@parsed_once
def half_dense(
    rows: int,
    features: tuple[int, int],
    blocks: int,
    panel: int,
    v: int,
    activation: Activation,
) -> tirx.PrimFunc:
    """Fully connected layer of (N, C_in) float32, rounded here; ``features`` are (C_in, C_out).

    Buffers: data; weights (blocks / panel, C_in, panel, v) float16; bias (C_out,) and result
    (N, C_out) float32. What the last blocks hold past C_out is not written.
    """
    features_in, features_out = features
    parts = parts_of((1, 1), features_in)
    channels = parts.channels

    @T.prim_func(s_tir=True)
    def main(
        data: T.Buffer((rows, features_in), DTYPE),
        weight: T.Buffer((blocks // panel, features_in, panel, v), FP16),
        bias: T.Buffer((features_out,), DTYPE),
        result: T.Buffer((rows, features_out), DTYPE),
    ) -> None:
        T.func_attr({"tirx.noalias": True})
        rounded = T.sblock_alloc_buffer((rows, features_in), FP16)
        acc = T.sblock_alloc_buffer((rows, blocks, v, parts.count), FP16)
        total = T.sblock_alloc_buffer((rows, blocks, v), DTYPE)
        for n, k in T.grid(rows, features_in):
            with T.sblock("round"):
                vn, vk = T.axis.remap("SS", [n, k])
                rounded[vn, vk] = T.cast(data[vn, vk], FP16)
        for n, o, c, p, k in T.grid(rows, blocks, v, parts.count, channels):
            with T.sblock("dense"):
                vn, vo, vc, vp, vk = T.axis.remap("SSSSR", [n, o, c, p, k])
                T.sblock_attr({"schedule_rule": "half_dense"})
                with T.init():
                    acc[vn, vo, vc, vp] = T.float16(0)
                acc[vn, vo, vc, vp] = (
                    acc[vn, vo, vc, vp]
                    + rounded[vn, vp * channels + vk]
                    * weight[vo // panel, vp * channels + vk, vo % panel, vc]
                )
        for n, o, c, p in T.grid(rows, blocks, v, parts.count):
            with T.sblock("total"):
                vn, vo, vc, vp = T.axis.remap("SSSR", [n, o, c, p])
                with T.init():
                    total[vn, vo, vc] = T.float32(0)
                total[vn, vo, vc] = total[vn, vo, vc] + T.cast(acc[vn, vo, vc, vp], DTYPE)
        for n, o in T.grid(rows, features_out):
            with T.sblock("epilogue"):
                vn, vo = T.axis.remap("SS", [n, o])
                result[vn, vo] = activation(total[vn, vo // v, vo % v] + bias[vo])

    return main
