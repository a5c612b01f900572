"""Convolutions and the classifier over 8-bit integers: uint8 or int8 activations, int8 weights.

A step of each reduction is four products of bytes, summed into an int32: what one lane of a dot
product instruction computes (VNNI's ``vpdpbusd``). The loops are those of dot_nests.py; for CPUs
without such instructions there are those of quantized_without_dots.py. The ``epilogue`` makes a
float of the sum, scaled by channel, and adds the bias; what becomes of it after that, its
quantization too, is the layer's (elementwise.py).

Buffers of all of them: data; weights packed (weights.py); ``scale`` and ``bias`` of each channel,
(blocks, v) or (C_out,); result, float32 until an epilogue makes it another.
"""

from __future__ import annotations

from functools import partial

from tvm import tirx
from tvm.ir import Expr
from tvm.script import tirx as T

from schedules.cpu.byte_instructions import BYTES
from schedules.cpu.dot_products import byte_of
from schedules.cpu.register_products import MATRIX_DEPTH
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
from tvm_mobilenet.kernels.cpu.expressions import QuantizationParameters, saturate
from tvm_mobilenet.kernels.cpu.layout import DTYPE, Blocked
from tvm_mobilenet.kernels.cpu.requantization import FLOAT_BIAS, SUMS, Requantization, summed
from tvm_mobilenet.kernels.cpu.signatures import Tensor, with_scale
from tvm_mobilenet.kernels.cpu.stem_nests import PackedPixels, dot_stem_convolution
from tvm_mobilenet.kernels.parsing import parsed_once

BYTE = 255  # all bits of one
WEIGHTS = "int8"


@parsed_once
def quantized_conv2d(
    x: Blocked,
    out: Blocked,
    window: Window,
    activation: Activation,
    panel: int = 1,
    groups: int = 1,
    depth: int = BYTES,
    *,
    requantization: Requantization = FLOAT_BIAS,
) -> tirx.PrimFunc:
    """Dense convolution, 1x1 included; of ``groups`` whose channels fill whole dot products.

    Weights are (out.blocks / panel, kh, kw, steps, panel, v, depth): a dot product sums ``depth``.
    Those of MATRIX_DEPTH are of two columns, so that a row of an odd number reads one more.
    """
    # a matrix has two columns, of which the last in a row may be for nothing
    columns = out.width + (out.width % 2 if depth == MATRIX_DEPTH else 0)
    convolve = dot_convolution(
        x,
        out,
        window,
        activation,
        "quantized_conv2d",
        depth,
        panel=panel,
        groups=groups,
        columns=columns,
    )
    weights = Tensor(dot_shape(x, out, window, panel, groups, depth), WEIGHTS)
    operations = operations_of(out, window, x.channels // groups)
    func = with_scale(x, weights, out, convolve, operations, requantization)
    return summed(func if columns == out.width else read_in_pairs(func, acc_place=3))


@parsed_once
def quantized_depthwise_conv2d(
    x: Blocked,
    out: Blocked,
    window: Window,
    activation: Activation,
    requantization: Requantization = FLOAT_BIAS,
) -> tirx.PrimFunc:
    """Depthwise convolution, channel multiplier 1, taps side by side.

    Weights are (blocks, kh, outputs, dwords, v, 4), of ``tap_dwords``.
    """
    rule = "quantized_depthwise_conv2d"
    convolve = dot_depthwise_convolution(x, out, window, activation, rule, BYTES)
    weights = Tensor(dot_depthwise_shape(out, window, BYTES), WEIGHTS)
    operations = operations_of(out, window, 1)
    return summed(with_scale(x, weights, out, convolve, operations, requantization))


@parsed_once
def quantized_stem_conv2d(
    image: tuple[int, int, int, int],
    padding: tuple[int, int, int, int],
    out: Blocked,
    window: Window,
    quantization: QuantizationParameters,
    activation: Activation,
    requantization: Requantization = FLOAT_BIAS,
) -> tirx.PrimFunc:
    """The first convolution: reads the plain float32 image and quantizes it, a pixel's channels,
    four at most, into one dword.

    ``padding`` is (top, bottom, left, right). Weights are (out.blocks, kh, kw, v, 4).
    """
    channels_in, dtype, rule = image[1], quantization.dtype, "quantized_stem_conv2d"
    inverse, zero = 1 / quantization.scale, quantization.zero_point

    def pixel(data: tirx.Buffer, n: Expr, h: Expr, w: Expr) -> Expr:
        values = [
            data[n, k, h, w] * T.float32(inverse) + T.float32(zero) for k in range(channels_in)
        ]
        quantized = [T.cast(saturate(value, dtype), SUMS) for value in values]
        return dword(quantized if dtype == "uint8" else [value & BYTE for value in quantized])

    zeros, factor = dword([T.int32(zero & BYTE)] * channels_in), partial(byte_of, dtype=dtype)
    pixels = PackedPixels((), SUMS, pixel, zeros, BYTES, factor)
    convolve = dot_stem_convolution(
        image, padding, out, window, activation, pixels, rule, columns=out.width
    )
    weights = Tensor((out.blocks, *window.kernel, out.vector, BYTES), WEIGHTS)
    operations = operations_of(out, window, channels_in)
    read = Tensor(image, DTYPE)
    return summed(with_scale(read, weights, out, convolve, operations, requantization))


@parsed_once
def quantized_dense(
    rows: int,
    features: tuple[int, int],
    blocks: int,
    panel: int,
    v: int,
    activation: Activation,
    dtype: str,
) -> tirx.PrimFunc:
    """Fully connected layer of (N, C_in) integers of ``dtype``; ``features`` are (C_in, C_out).

    Weights are (blocks / panel, steps, panel, v, 4); C_in is a multiple of 4.
    """
    features_in, features_out = features
    weights = (blocks // panel, dot_steps(features_in, BYTES), panel, v, BYTES)
    operations = 2 * rows * features_in * features_out
    multiply = dot_dense(features, (rows, blocks, v), panel, activation, "quantized_dense", BYTES)

    @T.prim_func(s_tir=True)
    def main(
        data: T.Buffer((rows, features_in), dtype),
        weight: T.Buffer(weights, WEIGHTS),
        scale: T.Buffer((features_out,), DTYPE),
        bias: T.Buffer((features_out,), DTYPE),
        result: T.Buffer((rows, features_out), DTYPE),
    ) -> None:
        T.func_attr({"tirx.noalias": True, "estimated_flops": operations})
        multiply(data, weight, FLOAT_BIAS.sums(scale, bias), result)

    return main


def dword(values: list[Expr]) -> Expr:
    """Up to four bytes as one int32, the first lowest."""
    whole = values[0]
    for place, value in enumerate(values[1:], 1):
        whole = whole | (value << (8 * place))
    return whole
