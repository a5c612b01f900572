"""Convolutions and the classifier in bfloat16: products of pairs, summed in float32.

A step of each reduction is two products, summed into a float32: what one lane of AVX512_BF16's
``vdpbf16ps`` computes, or of ARM's ``bfdot``. The loops are those of dot_nests.py. On ARM a dense
convolution's step is four channels of two pixels by two output channels, as ``bfmmla`` multiplies
them.

Buffers of all of them: data; weights packed (weights.py); ``bias`` of each channel, float32,
(blocks, v) or (C_out,); result, float32 until an epilogue makes it bfloat16.
"""

from __future__ import annotations

from tvm import tirx
from tvm.ir import Expr
from tvm.script import tirx as T

from schedules.cpu.pair_matrices import DEPTH, SIDE, number_in
from schedules.cpu.pair_products import PAIR, number_of
from schedules.filter_window import Window
from tvm_mobilenet.kernels.cpu.conv2d import Activation
from tvm_mobilenet.kernels.cpu.dot_nests import (
    dot_convolution,
    dot_dense,
    dot_depthwise_convolution,
    dot_depthwise_shape,
    dot_shape,
    dot_steps,
    operations_of,
    read_in_pairs,
)
from tvm_mobilenet.kernels.cpu.layout import BF16, DTYPE, Blocked
from tvm_mobilenet.kernels.cpu.nests import biased, row_rounder
from tvm_mobilenet.kernels.cpu.signatures import Tensor, with_bias
from tvm_mobilenet.kernels.cpu.stem_nests import PackedPixels, dot_stem_convolution
from tvm_mobilenet.kernels.parsing import parsed_once


@parsed_once
def bf16_conv2d(
    x: Blocked,
    out: Blocked,
    window: Window,
    activation: Activation,
    panel: int = 1,
    groups: int = 1,
    depth: int = PAIR,
) -> tirx.PrimFunc:
    """Dense convolution, 1x1 included; of ``groups`` whose channels fill whole steps of ``depth``.

    Weights are (out.blocks / panel, kh, kw, steps, panel, v, depth). Steps of matrices are of two
    columns, so that a row of an odd number reads one more.
    """
    columns = out.width + (out.width % SIDE if depth == DEPTH else 0)
    convolve = dot_convolution(
        x,
        out,
        window,
        activation,
        "bf16_conv2d",
        depth,
        panel=panel,
        groups=groups,
        columns=columns,
    )
    weights = Tensor(dot_shape(x, out, window, panel, groups, depth), BF16)
    operations = operations_of(out, window, x.channels // groups)
    func = with_bias(
        x, weights, out, convolve, sums=DTYPE, operations=operations, start=depth == PAIR
    )
    return func if columns == out.width else read_in_pairs(func, acc_place=3)


@parsed_once
def bf16_depthwise_conv2d(
    x: Blocked, out: Blocked, window: Window, activation: Activation
) -> tirx.PrimFunc:
    """Depthwise convolution, channel multiplier 1, taps side by side.

    Weights are (blocks, kh, outputs, pairs, v, 2), of ``tap_dwords``.
    """
    convolve = dot_depthwise_convolution(x, out, window, activation, "bf16_depthwise_conv2d", PAIR)
    weights = Tensor(dot_depthwise_shape(out, window, PAIR), BF16)
    operations = operations_of(out, window, 1)
    return with_bias(x, weights, out, convolve, sums=DTYPE, operations=operations, start=True)


@parsed_once
def bf16_stem_conv2d(
    image: tuple[int, int, int, int],
    padding: tuple[int, int, int, int],
    out: Blocked,
    window: Window,
    activation: Activation,
    depth: int = PAIR,
) -> tirx.PrimFunc:
    """The first convolution: reads the plain float32 image and rounds it, two of a pixel's channels
    into one dword, or all of at most four into an int64.

    ``padding`` is (top, bottom, left, right). Weights are (out.blocks, kh, kw, steps, v, depth).
    """
    channels_in, rule = image[1], "bf16_stem_conv2d"
    steps, matrices = dot_steps(channels_in, depth), depth == DEPTH
    columns = out.width + (out.width % SIDE if matrices else 0)
    if matrices:  # a row's last pair reads the pixels of both
        read = (columns - 1) * window.stride[1] + window.kernel[1] - padding[2] - image[3]
        padding = (*padding[:3], max(padding[3], read))
    word, number = ("int64", number_in) if matrices else ("int32", number_of)

    def all_channels(data: tirx.Buffer, n: Expr, _: Expr, h: Expr, w: Expr) -> Expr:
        """All of a pixel, the first lowest."""
        whole = T.int64(0)
        for channel in range(channels_in):
            number = T.cast(T.reinterpret("uint16", T.cast(data[n, channel, h, w], BF16)), word)
            whole = whole | (number << (16 * channel)) if channel else number
        return whole

    def pixel(data: tirx.Buffer, n: Expr, k: Expr, h: Expr, w: Expr) -> Expr:
        """Two channels of a pixel; where there is but one, above it a zero."""
        second = data[n, T.min(k * PAIR + 1, channels_in - 1), h, w]
        if channels_in % PAIR:
            second = T.if_then_else(k * PAIR + 1 < channels_in, second, T.float32(0))
        return bits(data[n, k * PAIR, h, w]) | (bits(second) << 16)

    read_pixel = all_channels if matrices else pixel
    pixels = PackedPixels((steps,), word, read_pixel, tirx.const(0, word), depth, number)
    convolve = dot_stem_convolution(
        image, padding, out, window, activation, pixels, rule, columns=columns
    )
    weights = Tensor((out.blocks, *window.kernel, steps, out.vector, depth), BF16)
    operations = operations_of(out, window, channels_in)
    func = with_bias(
        Tensor(image, DTYPE),
        weights,
        out,
        convolve,
        sums=DTYPE,
        operations=operations,
        start=depth == PAIR,
    )
    return func if columns == out.width else read_in_pairs(func, acc_place=3)


def bits(value: Expr) -> Expr:
    """A number, rounded to bfloat16, as the lower half of an int32."""
    return T.cast(T.reinterpret("uint16", T.cast(value, BF16)), "int32")


@parsed_once
def bf16_dense(
    rows: int,
    features: tuple[int, int],
    blocks: int,
    panel: int,
    v: int,
    activation: Activation,
) -> tirx.PrimFunc:
    """Fully connected layer of (N, C_in) float32, rounded here; ``features`` are (C_in, C_out).

    Weights are (blocks / panel, steps, panel, v, 2); C_in is even.
    """
    features_in, features_out = features
    weights = (blocks // panel, dot_steps(features_in, PAIR), panel, v, PAIR)
    operations = 2 * rows * features_in * features_out
    round_rows = row_rounder(rows, features_in, BF16)
    multiply = dot_dense(features, (rows, blocks, v), panel, activation, "bf16_dense", PAIR)

    @T.prim_func(s_tir=True)
    def main(
        data: T.Buffer((rows, features_in), DTYPE),
        weight: T.Buffer(weights, BF16),
        bias: T.Buffer((features_out,), DTYPE),
        result: T.Buffer((rows, features_out), DTYPE),
    ) -> None:
        T.func_attr({"tirx.noalias": True, "estimated_flops": operations})
        rounded = T.sblock_alloc_buffer((rows, features_in), BF16)
        round_rows(data, rounded)
        multiply(rounded, weight, biased(bias, DTYPE, DTYPE), result)

    return main
