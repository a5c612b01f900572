"""As nests.py, of sums by dot products: each lane's step sums several products at once.

How many depends on what is multiplied: four bytes (quantized.py), or two numbers in bfloat16
(bfloat16.py). They are ``values`` channels of a pixel, or, in a depthwise convolution, neighbouring
pixels of a channel, of which the filter's taps meet some.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import tvm_ffi
from tvm import s_tir, tirx
from tvm.ir import Expr, Range
from tvm.script import tirx as T

from schedules.filter_window import Window
from tvm_mobilenet.kernels.cpu.layout import Blocked
from tvm_mobilenet.kernels.cpu.nests import (
    Activated,
    first_channel,
    image_writer,
    origin,
    row_writer,
    tap_of,
)


def operations_of(out: Blocked, window: Window, channels: int) -> int:
    """Of a convolution's sums, each over ``channels``: none for what fills up a step."""
    kernel_h, kernel_w = window.kernel
    results = out.batch * out.channels * out.height * out.width
    return 2 * results * kernel_h * kernel_w * channels


def dot_steps(channels: int, values: int) -> int:
    """Steps of so many ``values`` that sum ``channels``."""
    return -(-channels // values)


# Dense convolutions


def dot_shape(
    x: Blocked, out: Blocked, window: Window, panel: int, groups: int, values: int
) -> tuple[int, ...]:
    """Of a dense convolution's packed weights."""
    steps = dot_steps(x.channels // groups, values)
    return (out.blocks // panel, *window.kernel, steps, panel, out.vector, values)


def dot_convolution(
    x: Blocked,
    out: Blocked,
    window: Window,
    activation: Activated,
    rule: str,
    values: int,
    *,
    panel: int,
    groups: int,
    columns: int,
) -> Callable[..., None]:
    """Emits the blocks that write a dense convolution's image.

    There are sums of so many ``columns``, which may be more than the image has.
    """
    tap, first = tap_of(x, window), first_channel(x, out, groups)
    write_image = image_writer(out, activation)
    steps = dot_steps(x.channels // groups, values)
    summed = (out.batch, out.blocks, out.height, columns, out.vector)
    # vectors of several groups: where a step begins in one TVM does not see by itself
    shared = groups > 1 and x.channels // groups % x.vector != 0

    def source(block: Expr, k: Expr, i: Expr) -> tuple[Expr, Expr]:
        """The i-th input channel of a block's k-th step."""
        start = first(block) + k * values
        if not shared:
            return x.channel(start + i)
        vector, lane = x.channel(start)
        return vector, lane + i

    @T.inline
    def emit(data, weight, sums, result):
        acc = T.sblock_alloc_buffer(summed, sums.dtype)
        for n, o, h, w, c, kh, kw, k, i in T.grid(*summed, *window.kernel, steps, values):
            with T.sblock("conv"):
                vn, vo, vh, vw, vc, vkh, vkw, vk, vi = T.axis.remap(
                    "SSSSSRRRR", [n, o, h, w, c, kh, kw, k, i]
                )
                T.sblock_attr({"schedule_rule": rule})
                with T.init():
                    acc[vn, vo, vh, vw, vc] = sums.start(vo, vc)
                acc[vn, vo, vh, vw, vc] = acc[vn, vo, vh, vw, vc] + T.cast(
                    data[tap(vn, source(vo, vk, vi), vh, vw, vkh, vkw)], sums.dtype
                ) * T.cast(weight[vo // panel, vkh, vkw, vk, vo % panel, vc, vi], sums.dtype)
        write_image(acc, sums, result)

    return emit


def read_in_pairs(func: tirx.PrimFunc, acc_place: int) -> tirx.PrimFunc:
    """``func``, whose epilogue says that it reads the columns of its sums two by two.

    So the schedule sums both of the last pair. ``acc_place`` is that of the column.
    """

    def paired(block: s_tir.SBlock) -> s_tir.SBlock:
        if block.name_hint != "epilogue":
            return block
        sums, *others = block.reads
        region = list(sums.region)
        first = region[acc_place].min // 2 * 2
        region[acc_place] = Range.from_min_extent(first, 2)
        return s_tir.SBlock(
            block.iter_vars,
            [tirx.BufferRegion(sums.source, region), *others],
            block.writes,
            block.name_hint,
            block.body,
            annotations=block.annotations,
        )

    return func.with_body(tvm_ffi.structural_map(func.body, (s_tir.SBlock, paired)))


# Depthwise convolutions


@dataclass(frozen=True)
class TapDwords:
    """How a row of a depthwise filter's taps goes into dot products over pixels of a channel.

    ``outputs`` neighbours read the same ``dwords``, each with the taps at its own place in them.
    """

    outputs: int
    dwords: int


def tap_dwords(width: int, taps: int, stride: int, values: int) -> TapDwords:
    """For results of ``width`` columns: the most neighbours that divide them.

    A dot product sums so many ``values``.
    """
    dwords = -(-taps // values)
    fitting = (values * dwords - taps) // stride + 1
    return TapDwords(max(n for n in range(1, fitting + 1) if width % n == 0), dwords)


def columns_read(width: int, taps: int, stride: int, values: int) -> int:
    """From its first tap on, how many padded columns a row of a depthwise result reads."""
    dots = tap_dwords(width, taps, stride, values)
    return (width - dots.outputs) * stride + values * dots.dwords


def dot_depthwise_shape(out: Blocked, window: Window, values: int) -> tuple[int, ...]:
    """Of a depthwise convolution's packed weights."""
    (kernel_h, kernel_w), (_, stride_w) = window.kernel, window.stride
    taps = tap_dwords(out.width, kernel_w, stride_w, values)
    return (out.blocks, kernel_h, taps.outputs, taps.dwords, out.vector, values)


def dot_depthwise_convolution(
    x: Blocked, out: Blocked, window: Window, activation: Activated, rule: str, values: int
) -> Callable[..., None]:
    """Emits the blocks that write a depthwise convolution's image, taps side by side.

    Past its last tap a row's last dot product reads pixels that its weights make nothing of: the
    halo of ``x`` has them (``columns_read``).
    """
    (kernel_h, kernel_w), (stride_h, stride_w) = window.kernel, window.stride
    origin_h, origin_w = origin(x, window)
    taps = tap_dwords(out.width, kernel_w, stride_w, values)
    outputs = taps.outputs
    tile = (out.batch, out.blocks, out.height, out.width // outputs, outputs, out.vector)
    top, left = out.halo.top, out.halo.left

    @T.inline
    def emit(data, weight, sums, result):
        acc = T.sblock_alloc_buffer(tile, sums.dtype)
        for n, o, h, w, p, c, kh, k, i in T.grid(*tile, kernel_h, taps.dwords, values):
            with T.sblock("conv"):
                vn, vo, vh, vw, vp, vc, vkh, vk, vi = T.axis.remap(
                    "SSSSSSRRR", [n, o, h, w, p, c, kh, k, i]
                )
                T.sblock_attr({"schedule_rule": rule})
                with T.init():
                    acc[vn, vo, vh, vw, vp, vc] = sums.start(vo, vc)
                acc[vn, vo, vh, vw, vp, vc] = acc[vn, vo, vh, vw, vp, vc] + T.cast(
                    data[
                        x.at(
                            vn,
                            vo,
                            vh * stride_h + vkh + origin_h,
                            vw * (outputs * stride_w) + vk * values + vi + origin_w,
                            vc,
                        )
                    ],
                    sums.dtype,
                ) * T.cast(weight[vo, vkh, vp, vk, vc, vi], sums.dtype)
        for n, o, h, w, p, c in T.grid(*tile):
            with T.sblock("epilogue"):
                vn, vo, vh, vw, vp, vc = T.axis.remap("SSSSSS", [n, o, h, w, p, c])
                result[out.at(vn, vo, vh + top, vw * outputs + vp + left, vc)] = activation(
                    sums.real(acc[vn, vo, vh, vw, vp, vc], vo, vc)
                )

    return emit


# Classifiers


def dot_dense(
    features: tuple[int, int],
    tile: tuple[int, int, int],
    panel: int,
    activation: Activated,
    rule: str,
    values: int,
) -> Callable[..., None]:
    """Emits the blocks of a fully connected layer of ``features`` (C_in, C_out).

    ``tile`` is (rows, blocks, v). What the last blocks hold past C_out is not written.
    """
    rows, _, v = tile
    write_rows = row_writer(rows, features[1], v, activation)

    @T.inline
    def emit(data, weight, sums, result):
        acc = T.sblock_alloc_buffer(tile, sums.dtype)
        for n, o, c, k, i in T.grid(*tile, dot_steps(features[0], values), values):
            with T.sblock("dense"):
                vn, vo, vc, vk, vi = T.axis.remap("SSSRR", [n, o, c, k, i])
                T.sblock_attr({"schedule_rule": rule})
                with T.init():
                    acc[vn, vo, vc] = sums.start(vo, vc)
                acc[vn, vo, vc] = acc[vn, vo, vc] + T.cast(
                    data[vn, vk * values + vi], sums.dtype
                ) * T.cast(weight[vo // panel, vk, vo % panel, vc, vi], sums.dtype)
        write_rows(acc, sums, result)

    return emit
