"""Convolutions over 8-bit integers, as quantized.py, for CPUs without dot products.

Two products are summed in 16 bits, which two of -128 would overflow: no weight is -128.
"""

from __future__ import annotations

from tvm import tirx
from tvm.ir import Expr
from tvm.script import tirx as T

from schedules.cpu import register_products
from schedules.cpu.register_products import PARTS, REGISTER
from schedules.filter_window import Window
from tvm_mobilenet.kernels.cpu.attributes import COUNTS, IN_WORDS, ORDERED, TAPS_IN_WORDS
from tvm_mobilenet.kernels.cpu.conv2d import Activation
from tvm_mobilenet.kernels.cpu.dot_nests import dot_shape, dot_steps, operations_of
from tvm_mobilenet.kernels.cpu.expressions import QuantizationParameters, saturate
from tvm_mobilenet.kernels.cpu.layout import DTYPE, Blocked
from tvm_mobilenet.kernels.cpu.nests import (
    depthwise_convolution,
    depthwise_shape,
    first_channel,
    image_writer,
    tap_of,
    without_reads_of,
)
from tvm_mobilenet.kernels.cpu.quantized import WEIGHTS
from tvm_mobilenet.kernels.cpu.requantization import FLOAT_BIAS, SUMS, Requantization, summed
from tvm_mobilenet.kernels.cpu.signatures import Tensor, with_scale
from tvm_mobilenet.kernels.cpu.stem_nests import Pixels, stem_convolution
from tvm_mobilenet.kernels.cpu.sum_order import TOGETHER
from tvm_mobilenet.kernels.parsing import parsed_once

TAPPED = 8  # channels of a register of products of a tap
WORDS = "int16"
TABLE_PLACE = 2  # among a kernel's parameters


@parsed_once
def partial_conv2d(
    x: Blocked,
    out: Blocked,
    window: Window,
    activation: Activation,
    groups: int = 1,
    requantization: Requantization = FLOAT_BIAS,
    *,
    together: int = 1,
    entries: int = 0,
) -> tirx.PrimFunc:
    """As quantized_conv2d: a step is REGISTER input channels of one output channel, whose products
    four sums share, and are added up at the end.

    Weights are (out.blocks, kh, kw, steps, 1, v, REGISTER). Those of so many steps ``together`` sum
    to 16 bits; where a 1x1 convolution's table has ``entries``, those that it says (sum_order.py).
    The table comes after the weights: (out.blocks, v / TOGETHER, entries + COUNTS).
    """
    tap, first = tap_of(x, window), first_channel(x, out, groups)
    steps = dot_steps(x.channels // groups, REGISTER)
    write_image = image_writer(out, activation)
    annotations: dict[str, object] = {"schedule_rule": "quantized_conv2d"}
    if together > 1:
        annotations[register_products.IN_WORDS] = together
    if entries > 1:
        annotations[register_products.IN_ORDER] = 1

    def source(
        table: tirx.Buffer | None, channel: tuple[Expr, Expr], k: Expr, i: Expr
    ) -> tuple[Expr, Expr]:
        """The i-th input channel of an output channel's k-th step."""
        block, lane = channel
        if table is None:
            return x.channel(first(block) + k * REGISTER + i)
        tile = lane // TOGETHER
        return (table[block, tile, 0] + k if entries == 1 else table[block, tile, k]), i

    @T.inline
    def convolve(data, weight, sums, result, table=None):
        acc = T.sblock_alloc_buffer((*out.extents, PARTS), sums.dtype)
        total = T.sblock_alloc_buffer(out.extents, sums.dtype)
        for n, o, h, w, c, kh, kw, k, q, i, j in T.grid(
            *out.extents, *window.kernel, steps, PARTS, 2, 2
        ):
            with T.sblock("conv"):
                vn, vo, vh, vw, vc, vkh, vkw, vk, vq, vi, vj = T.axis.remap(
                    "SSSSSRRRSRR", [n, o, h, w, c, kh, kw, k, q, i, j]
                )
                T.sblock_attr(annotations)
                with T.init():
                    acc[vn, vo, vh, vw, vc, vq] = part_of(sums.start(vo, vc), vq)
                acc[vn, vo, vh, vw, vc, vq] = acc[vn, vo, vh, vw, vc, vq] + T.cast(
                    data[
                        tap(vn, source(table, (vo, vc), vk, vi * 8 + vq * 2 + vj), vh, vw, vkh, vkw)
                    ],
                    sums.dtype,
                ) * T.cast(weight[vo, vkh, vkw, vk, 0, vc, vi * 8 + vq * 2 + vj], sums.dtype)
        for n, o, h, w, c in T.grid(*out.extents):
            with T.sblock("total"):
                vn, vo, vh, vw, vc = T.axis.remap("SSSSS", [n, o, h, w, c])
                total[vn, vo, vh, vw, vc] = (
                    acc[vn, vo, vh, vw, vc, 0]
                    + acc[vn, vo, vh, vw, vc, 1]
                    + (acc[vn, vo, vh, vw, vc, 2] + acc[vn, vo, vh, vw, vc, 3])
                )
        write_image(total, sums, result)

    weights = Tensor(dot_shape(x, out, window, 1, groups, REGISTER), WEIGHTS)
    operations = operations_of(out, window, x.channels // groups)
    table = None
    if entries:
        table = Tensor((out.blocks, out.vector // TOGETHER, entries + COUNTS), SUMS)
    func = summed(with_scale(x, weights, out, convolve, operations, requantization, table=table))
    if table is not None:
        func = without_reads_of(func, func.params[TABLE_PLACE]).with_attr(ORDERED, TABLE_PLACE)
    return func.with_attr(IN_WORDS, together) if together > 1 else func


def part_of(start: Expr, part: Expr) -> Expr:
    """What one of the parts of a sum starts at: all of it in the first."""
    if isinstance(start, tirx.IntImm):
        return start
    return tirx.Select(part == 0, start, T.int32(0))


@parsed_once
def tapped_depthwise_conv2d(
    x: Blocked,
    out: Blocked,
    window: Window,
    activation: Activation,
    requantization: Requantization = FLOAT_BIAS,
    *,
    together: int = 2,
) -> tirx.PrimFunc:
    """As quantized_depthwise_conv2d, a tap at a time, of which so many ``together`` sum to 16 bits.

    Weights are (blocks, kh, kw, v); v is a multiple of TAPPED.
    """
    convolve = depthwise_convolution(x, out, window, activation, "quantized_depthwise_conv2d")
    weights = Tensor(depthwise_shape(out, window), WEIGHTS)
    operations = operations_of(out, window, 1)
    func = summed(with_scale(x, weights, out, convolve, operations, requantization))
    return func.with_attr(TAPS_IN_WORDS, together) if together > 2 else func


@parsed_once
def planar_stem_conv2d(
    image: tuple[int, int, int, int],
    padding: tuple[int, int, int, int],
    out: Blocked,
    window: Window,
    quantization: QuantizationParameters,
    activation: Activation,
    requantization: Requantization = FLOAT_BIAS,
) -> tirx.PrimFunc:
    """As quantized_stem_conv2d: the image's planes stay apart.

    Their integers and the weights, (out.blocks, C, kh, kw, v), have 16 bits.
    """
    inverse, zero = 1 / quantization.scale, quantization.zero_point
    channels, rule = image[1], "quantized_stem_conv2d"

    def integer(data: tirx.Buffer, n: Expr, k: Expr, h: Expr, w: Expr) -> Expr:
        scaled = data[n, k, h, w] * T.float32(inverse) + T.float32(zero)
        return T.cast(saturate(scaled, quantization.dtype), WORDS)

    pixels = Pixels((channels,), WORDS, integer, T.int16(zero))
    convolve = stem_convolution(image, padding, out, window, activation, pixels, rule)
    weights = Tensor((out.blocks, channels, *window.kernel, out.vector), WORDS)
    operations = operations_of(out, window, channels)
    read = Tensor(image, DTYPE)
    return summed(with_scale(read, weights, out, convolve, operations, requantization))
