"""Convolutions and the classifier over 8-bit integers: uint8 or int8 activations, int8 weights.

A step of each reduction is four products of bytes, summed into an int32: what one lane of a dot
product instruction computes (VNNI's ``vpdpbusd``). Their four bytes are four channels of a pixel,
or, in a depthwise convolution, four pixels of a channel, of which the filter's taps meet three or
four. The ``epilogue`` makes a float of the sum, scaled by channel, and adds the bias; what becomes
of it after that, its quantization too, is the layer's (elementwise.py).

Buffers of all of them: data; weights packed (weights.py); ``scale`` and ``bias`` of each channel,
(blocks, v) or (C_out,); result, float32 until an epilogue makes it another.
"""

from __future__ import annotations

from dataclasses import dataclass

import tvm_ffi
from tvm import s_tir, tirx
from tvm.ir import Expr, Range
from tvm.script import tirx as T

from schedules.cpu.dot_products import byte_of
from schedules.cpu.register_products import MATRIX_DEPTH
from schedules.filter_window import Window
from tvm_mobilenet.kernels.cpu.conv2d import Activation, halo_writer, origin
from tvm_mobilenet.kernels.cpu.expressions import QuantizationParameters, saturate
from tvm_mobilenet.kernels.cpu.layout import DTYPE, Blocked
from tvm_mobilenet.kernels.cpu.requantization import FLOAT_BIAS, Requantization, summed
from tvm_mobilenet.kernels.parsing import parsed_once

BYTES = 4  # of a dot product's step
REGISTER, PARTS = 16, 4  # bytes of a step without dot products, and the sums that share them
EPILOGUE = "epilogue"  # the block that makes real numbers of sums
BYTE = 255  # all bits of one
TAPPED = 8  # channels of a register of products of a tap
WEIGHTS, WORDS, SUMS = "int8", "int16", "int32"


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
    (kernel_h, kernel_w), (stride_h, stride_w) = window.kernel, window.stride
    apart_h, apart_w = window.dilation
    origin_h, origin_w = origin(x, window)
    steps, lanes_in, v = dot_steps(x.channels // groups, depth), x.vector, out.vector
    group_blocks = out.blocks // groups
    tile = (out.batch, out.blocks, out.height, out.width, v)
    # a matrix has two columns, of which the last in a row may be for nothing
    columns = out.width + (out.width % 2 if depth == MATRIX_DEPTH else 0)
    sums = (out.batch, out.blocks, out.height, columns, v)
    top, left = out.halo.top, out.halo.left
    operations = operations_of(out, window, x.channels // groups)
    write_halo = halo_writer(out)

    def source(block: Expr, k: Expr, i: Expr) -> Expr:
        """The input channel of a block's k-th step and i-th byte."""
        first = 0 if groups == 1 else block // group_blocks * (x.channels // groups)
        return first + k * depth + i

    @T.prim_func(s_tir=True)
    def main(
        data: T.Buffer(x.shape, x.dtype),
        weight: T.Buffer(dense_shape(x, out, window, panel, groups, depth), WEIGHTS),
        scale: T.Buffer((out.blocks, v), DTYPE),
        bias: T.Buffer(requantization.shape(out.blocks, v), requantization.dtype),
        result: T.Buffer(out.shape, DTYPE),
    ) -> None:
        T.func_attr({"tirx.noalias": True, "estimated_flops": operations})
        acc = T.sblock_alloc_buffer(sums, SUMS)
        write_halo(result)
        for n, o, h, w, c, kh, kw, k, i in T.grid(*sums, kernel_h, kernel_w, steps, depth):
            with T.sblock("conv"):
                vn, vo, vh, vw, vc, vkh, vkw, vk, vi = T.axis.remap(
                    "SSSSSRRRR", [n, o, h, w, c, kh, kw, k, i]
                )
                T.sblock_attr({"schedule_rule": "quantized_conv2d"})
                with T.init():
                    acc[vn, vo, vh, vw, vc] = requantization.start(bias, vo, vc)
                acc[vn, vo, vh, vw, vc] = acc[vn, vo, vh, vw, vc] + T.cast(
                    data[
                        x.at(
                            vn,
                            source(vo, vk, vi) // lanes_in,
                            vh * stride_h + vkh * apart_h + origin_h,
                            vw * stride_w + vkw * apart_w + origin_w,
                            source(vo, vk, vi) % lanes_in,
                        )
                    ],
                    SUMS,
                ) * T.cast(weight[vo // panel, vkh, vkw, vk, vo % panel, vc, vi], SUMS)
        for n, o, h, w, c in T.grid(*tile):
            with T.sblock("epilogue"):
                vn, vo, vh, vw, vc = T.axis.remap("SSSSS", [n, o, h, w, c])
                result[out.at(vn, vo, vh + top, vw + left, vc)] = activation(
                    requantization.real(acc[vn, vo, vh, vw, vc], scale, bias, vo, vc)
                )

    return summed(main if columns == out.width else read_in_pairs(main, acc_place=3))


@parsed_once
def partial_conv2d(
    x: Blocked,
    out: Blocked,
    window: Window,
    activation: Activation,
    groups: int = 1,
    requantization: Requantization = FLOAT_BIAS,
) -> tirx.PrimFunc:
    """As quantized_conv2d, for CPUs without dot products: a step is REGISTER input channels of one
    output channel, whose products four sums share, and are added up at the end.

    Weights are (out.blocks, kh, kw, steps, 1, v, REGISTER), none of them -128.
    """
    (kernel_h, kernel_w), (stride_h, stride_w) = window.kernel, window.stride
    apart_h, apart_w = window.dilation
    origin_h, origin_w = origin(x, window)
    steps, lanes_in, v = dot_steps(x.channels // groups, REGISTER), x.vector, out.vector
    group_blocks = out.blocks // groups
    tile = (out.batch, out.blocks, out.height, out.width, v)
    top, left = out.halo.top, out.halo.left
    operations = operations_of(out, window, x.channels // groups)
    write_halo = halo_writer(out)

    def source(block: Expr, k: Expr, i: Expr) -> Expr:
        """The input channel of a block's k-th step and i-th byte."""
        first = 0 if groups == 1 else block // group_blocks * (x.channels // groups)
        return first + k * REGISTER + i

    @T.prim_func(s_tir=True)
    def main(
        data: T.Buffer(x.shape, x.dtype),
        weight: T.Buffer(dense_shape(x, out, window, 1, groups, REGISTER), WEIGHTS),
        scale: T.Buffer((out.blocks, v), DTYPE),
        bias: T.Buffer(requantization.shape(out.blocks, v), requantization.dtype),
        result: T.Buffer(out.shape, DTYPE),
    ) -> None:
        T.func_attr({"tirx.noalias": True, "estimated_flops": operations})
        acc = T.sblock_alloc_buffer((*tile, PARTS), SUMS)
        sums = T.sblock_alloc_buffer(tile, SUMS)
        write_halo(result)
        for n, o, h, w, c, kh, kw, k, q, i, j in T.grid(
            *tile, kernel_h, kernel_w, steps, PARTS, 2, 2
        ):
            with T.sblock("conv"):
                vn, vo, vh, vw, vc, vkh, vkw, vk, vq, vi, vj = T.axis.remap(
                    "SSSSSRRRSRR", [n, o, h, w, c, kh, kw, k, q, i, j]
                )
                T.sblock_attr({"schedule_rule": "quantized_conv2d"})
                with T.init():
                    acc[vn, vo, vh, vw, vc, vq] = part_of(requantization.start(bias, vo, vc), vq)
                acc[vn, vo, vh, vw, vc, vq] = acc[vn, vo, vh, vw, vc, vq] + T.cast(
                    data[
                        x.at(
                            vn,
                            source(vo, vk, vi * 8 + vq * 2 + vj) // lanes_in,
                            vh * stride_h + vkh * apart_h + origin_h,
                            vw * stride_w + vkw * apart_w + origin_w,
                            source(vo, vk, vi * 8 + vq * 2 + vj) % lanes_in,
                        )
                    ],
                    SUMS,
                ) * T.cast(weight[vo, vkh, vkw, vk, 0, vc, vi * 8 + vq * 2 + vj], SUMS)
        for n, o, h, w, c in T.grid(*tile):
            with T.sblock("total"):
                vn, vo, vh, vw, vc = T.axis.remap("SSSSS", [n, o, h, w, c])
                sums[vn, vo, vh, vw, vc] = (
                    acc[vn, vo, vh, vw, vc, 0]
                    + acc[vn, vo, vh, vw, vc, 1]
                    + (acc[vn, vo, vh, vw, vc, 2] + acc[vn, vo, vh, vw, vc, 3])
                )
        for n, o, h, w, c in T.grid(*tile):
            with T.sblock("epilogue"):
                vn, vo, vh, vw, vc = T.axis.remap("SSSSS", [n, o, h, w, c])
                result[out.at(vn, vo, vh + top, vw + left, vc)] = activation(
                    requantization.real(sums[vn, vo, vh, vw, vc], scale, bias, vo, vc)
                )

    return summed(main)


@dataclass(frozen=True)
class TapDwords:
    """How a row of a depthwise filter's taps goes into dot products over four pixels of a channel.

    ``outputs`` neighbours read the same ``dwords``, each with the taps at its own place in them.
    """

    outputs: int
    dwords: int


def tap_dwords(width: int, taps: int, stride: int, values: int = BYTES) -> TapDwords:
    """For results of ``width`` columns: the most neighbours that divide them.

    A dot product sums so many ``values``.
    """
    dwords = -(-taps // values)
    fitting = (values * dwords - taps) // stride + 1
    return TapDwords(max(n for n in range(1, fitting + 1) if width % n == 0), dwords)


@parsed_once
def quantized_depthwise_conv2d(
    x: Blocked,
    out: Blocked,
    window: Window,
    activation: Activation,
    requantization: Requantization = FLOAT_BIAS,
) -> tirx.PrimFunc:
    """Depthwise convolution, channel multiplier 1, taps side by side.

    Weights are (blocks, kh, outputs, dwords, v, 4), of ``tap_dwords``. Past its last tap a row's
    last dot product reads pixels that its weights make nothing of: the halo of ``x`` has them
    (``columns_read``).
    """
    (kernel_h, kernel_w), (stride_h, stride_w) = window.kernel, window.stride
    origin_h, origin_w = origin(x, window)
    v = out.vector
    taps = tap_dwords(out.width, kernel_w, stride_w)
    outputs, dwords = taps.outputs, taps.dwords
    tile = (out.batch, out.blocks, out.height, out.width // outputs, outputs, v)
    top, left = out.halo.top, out.halo.left
    operations = operations_of(out, window, 1)
    write_halo = halo_writer(out)

    @T.prim_func(s_tir=True)
    def main(
        data: T.Buffer(x.shape, x.dtype),
        weight: T.Buffer((out.blocks, kernel_h, outputs, dwords, v, BYTES), WEIGHTS),
        scale: T.Buffer((out.blocks, v), DTYPE),
        bias: T.Buffer(requantization.shape(out.blocks, v), requantization.dtype),
        result: T.Buffer(out.shape, DTYPE),
    ) -> None:
        T.func_attr({"tirx.noalias": True, "estimated_flops": operations})
        acc = T.sblock_alloc_buffer(tile, SUMS)
        write_halo(result)
        for n, o, h, w, p, c, kh, k, i in T.grid(*tile, kernel_h, dwords, BYTES):
            with T.sblock("conv"):
                vn, vo, vh, vw, vp, vc, vkh, vk, vi = T.axis.remap(
                    "SSSSSSRRR", [n, o, h, w, p, c, kh, k, i]
                )
                T.sblock_attr({"schedule_rule": "quantized_depthwise_conv2d"})
                with T.init():
                    acc[vn, vo, vh, vw, vp, vc] = requantization.start(bias, vo, vc)
                acc[vn, vo, vh, vw, vp, vc] = acc[vn, vo, vh, vw, vp, vc] + T.cast(
                    data[
                        x.at(
                            vn,
                            vo,
                            vh * stride_h + vkh + origin_h,
                            vw * (outputs * stride_w) + vk * BYTES + vi + origin_w,
                            vc,
                        )
                    ],
                    SUMS,
                ) * T.cast(weight[vo, vkh, vp, vk, vc, vi], SUMS)
        for n, o, h, w, p, c in T.grid(*tile):
            with T.sblock("epilogue"):
                vn, vo, vh, vw, vp, vc = T.axis.remap("SSSSSS", [n, o, h, w, p, c])
                result[out.at(vn, vo, vh + top, vw * outputs + vp + left, vc)] = activation(
                    requantization.real(acc[vn, vo, vh, vw, vp, vc], scale, bias, vo, vc)
                )

    return summed(main)


@parsed_once
def tapped_depthwise_conv2d(
    x: Blocked,
    out: Blocked,
    window: Window,
    activation: Activation,
    requantization: Requantization = FLOAT_BIAS,
) -> tirx.PrimFunc:
    """As quantized_depthwise_conv2d, for CPUs without dot products: a tap at a time.

    Weights are (blocks, kh, kw, v), none of them -128; v is a multiple of TAPPED.
    """
    (kernel_h, kernel_w), (stride_h, stride_w) = window.kernel, window.stride
    origin_h, origin_w = origin(x, window)
    v = out.vector
    tile = (out.batch, out.blocks, out.height, out.width, v)
    top, left = out.halo.top, out.halo.left
    operations = operations_of(out, window, 1)
    write_halo = halo_writer(out)

    @T.prim_func(s_tir=True)
    def main(
        data: T.Buffer(x.shape, x.dtype),
        weight: T.Buffer((out.blocks, kernel_h, kernel_w, v), WEIGHTS),
        scale: T.Buffer((out.blocks, v), DTYPE),
        bias: T.Buffer(requantization.shape(out.blocks, v), requantization.dtype),
        result: T.Buffer(out.shape, DTYPE),
    ) -> None:
        T.func_attr({"tirx.noalias": True, "estimated_flops": operations})
        acc = T.sblock_alloc_buffer(tile, SUMS)
        write_halo(result)
        for n, o, h, w, c, kh, kw in T.grid(*tile, kernel_h, kernel_w):
            with T.sblock("conv"):
                vn, vo, vh, vw, vc, vkh, vkw = T.axis.remap("SSSSSRR", [n, o, h, w, c, kh, kw])
                T.sblock_attr({"schedule_rule": "quantized_depthwise_conv2d"})
                with T.init():
                    acc[vn, vo, vh, vw, vc] = requantization.start(bias, vo, vc)
                acc[vn, vo, vh, vw, vc] = acc[vn, vo, vh, vw, vc] + T.cast(
                    data[
                        x.at(
                            vn,
                            vo,
                            vh * stride_h + vkh + origin_h,
                            vw * stride_w + vkw + origin_w,
                            vc,
                        )
                    ],
                    SUMS,
                ) * T.cast(weight[vo, vkh, vkw, vc], SUMS)
        for n, o, h, w, c in T.grid(*tile):
            with T.sblock("epilogue"):
                vn, vo, vh, vw, vc = T.axis.remap("SSSSS", [n, o, h, w, c])
                result[out.at(vn, vo, vh + top, vw + left, vc)] = activation(
                    requantization.real(acc[vn, vo, vh, vw, vc], scale, bias, vo, vc)
                )

    return summed(main)


def columns_read(width: int, taps: int, stride: int, values: int = BYTES) -> int:
    """From its first tap on, how many padded columns a row of a depthwise result reads."""
    dots = tap_dwords(width, taps, stride, values)
    return (width - dots.outputs) * stride + values * dots.dwords


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
    batch, channels_in, height, width = image
    top, bottom, left, right = padding
    (kernel_h, kernel_w), (stride_h, stride_w) = window.kernel, window.stride
    v = out.vector
    tile = (out.batch, out.blocks, out.height, out.width, v)
    out_top, out_left = out.halo.top, out.halo.left
    operations = operations_of(out, window, channels_in)
    write_halo = halo_writer(out)
    padded = (batch, top + height + bottom, left + width + right)
    inverse, zero = 1 / quantization.scale, quantization.zero_point
    zeros = dword([T.int32(zero & BYTE)] * channels_in)
    dtype = quantization.dtype

    def pixel(data: tirx.Buffer, n: Expr, h: Expr, w: Expr) -> Expr:
        values = [
            data[n, k, h, w] * T.float32(inverse) + T.float32(zero) for k in range(channels_in)
        ]
        quantized = [T.cast(saturate(value, dtype), SUMS) for value in values]
        return dword(quantized if dtype == "uint8" else [value & BYTE for value in quantized])

    @T.prim_func(s_tir=True)
    def main(
        data: T.Buffer((batch, channels_in, height, width), DTYPE),
        weight: T.Buffer((out.blocks, kernel_h, kernel_w, v, BYTES), WEIGHTS),
        scale: T.Buffer((out.blocks, v), DTYPE),
        bias: T.Buffer(requantization.shape(out.blocks, v), requantization.dtype),
        result: T.Buffer(out.shape, DTYPE),
    ) -> None:
        T.func_attr({"tirx.noalias": True, "estimated_flops": operations})
        rows = T.sblock_alloc_buffer(padded, SUMS)
        acc = T.sblock_alloc_buffer(tile, SUMS)
        write_halo(result)
        for n, h, w in T.grid(*padded):
            with T.sblock("pad"):
                vn, vh, vw = T.axis.remap("SSS", [n, h, w])
                rows[vn, vh, vw] = T.if_then_else(
                    top <= vh and vh < top + height and left <= vw and vw < left + width,
                    pixel(data, vn, vh - top, vw - left),
                    zeros,
                )
        for n, o, h, w, c, kh, kw, i in T.grid(*tile, kernel_h, kernel_w, BYTES):
            with T.sblock("conv"):
                vn, vo, vh, vw, vc, vkh, vkw, vi = T.axis.remap(
                    "SSSSSRRR", [n, o, h, w, c, kh, kw, i]
                )
                T.sblock_attr({"schedule_rule": "quantized_stem_conv2d"})
                with T.init():
                    acc[vn, vo, vh, vw, vc] = requantization.start(bias, vo, vc)
                acc[vn, vo, vh, vw, vc] = acc[vn, vo, vh, vw, vc] + byte_of(
                    rows[vn, vh * stride_h + vkh, vw * stride_w + vkw], vi, dtype
                ) * T.cast(weight[vo, vkh, vkw, vc, vi], SUMS)
        for n, o, h, w, c in T.grid(*tile):
            with T.sblock("epilogue"):
                vn, vo, vh, vw, vc = T.axis.remap("SSSSS", [n, o, h, w, c])
                result[out.at(vn, vo, vh + out_top, vw + out_left, vc)] = activation(
                    requantization.real(acc[vn, vo, vh, vw, vc], scale, bias, vo, vc)
                )

    return summed(main)


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
    """As quantized_stem_conv2d, for CPUs without dot products: the image's planes stay apart.

    Their integers and the weights, (out.blocks, C, kh, kw, v), have 16 bits.
    """
    batch, channels_in, height, width = image
    top, bottom, left, right = padding
    (kernel_h, kernel_w), (stride_h, stride_w) = window.kernel, window.stride
    v = out.vector
    tile = (out.batch, out.blocks, out.height, out.width, v)
    out_top, out_left = out.halo.top, out.halo.left
    operations = operations_of(out, window, channels_in)
    write_halo = halo_writer(out)
    padded = (batch, channels_in, top + height + bottom, left + width + right)
    inverse, zero = 1 / quantization.scale, quantization.zero_point
    dtype = quantization.dtype

    def integer(value: Expr) -> Expr:
        scaled = value * T.float32(inverse) + T.float32(zero)
        return T.cast(saturate(scaled, dtype), WORDS)

    @T.prim_func(s_tir=True)
    def main(
        data: T.Buffer((batch, channels_in, height, width), DTYPE),
        weight: T.Buffer((out.blocks, channels_in, kernel_h, kernel_w, v), WORDS),
        scale: T.Buffer((out.blocks, v), DTYPE),
        bias: T.Buffer(requantization.shape(out.blocks, v), requantization.dtype),
        result: T.Buffer(out.shape, DTYPE),
    ) -> None:
        T.func_attr({"tirx.noalias": True, "estimated_flops": operations})
        rows = T.sblock_alloc_buffer(padded, WORDS)
        acc = T.sblock_alloc_buffer(tile, SUMS)
        write_halo(result)
        for n, k, h, w in T.grid(*padded):
            with T.sblock("pad"):
                vn, vk, vh, vw = T.axis.remap("SSSS", [n, k, h, w])
                rows[vn, vk, vh, vw] = T.if_then_else(
                    top <= vh and vh < top + height and left <= vw and vw < left + width,
                    integer(data[vn, vk, vh - top, vw - left]),
                    T.int16(zero),
                )
        for n, o, h, w, c, k, kh, kw in T.grid(*tile, channels_in, kernel_h, kernel_w):
            with T.sblock("conv"):
                vn, vo, vh, vw, vc, vk, vkh, vkw = T.axis.remap(
                    "SSSSSRRR", [n, o, h, w, c, k, kh, kw]
                )
                T.sblock_attr({"schedule_rule": "quantized_stem_conv2d"})
                with T.init():
                    acc[vn, vo, vh, vw, vc] = requantization.start(bias, vo, vc)
                acc[vn, vo, vh, vw, vc] = acc[vn, vo, vh, vw, vc] + T.cast(
                    rows[vn, vk, vh * stride_h + vkh, vw * stride_w + vkw], SUMS
                ) * T.cast(weight[vo, vk, vkh, vkw, vc], SUMS)
        for n, o, h, w, c in T.grid(*tile):
            with T.sblock("epilogue"):
                vn, vo, vh, vw, vc = T.axis.remap("SSSSS", [n, o, h, w, c])
                result[out.at(vn, vo, vh + out_top, vw + out_left, vc)] = activation(
                    requantization.real(acc[vn, vo, vh, vw, vc], scale, bias, vo, vc)
                )

    return summed(main)


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

    Weights are (blocks / panel, steps, panel, v, 4); C_in is a multiple of 4. What the last blocks
    hold past C_out is not written.
    """
    features_in, features_out = features
    steps = dot_steps(features_in)
    operations = 2 * rows * features_in * features_out

    @T.prim_func(s_tir=True)
    def main(
        data: T.Buffer((rows, features_in), dtype),
        weight: T.Buffer((blocks // panel, steps, panel, v, BYTES), WEIGHTS),
        scale: T.Buffer((features_out,), DTYPE),
        bias: T.Buffer((features_out,), DTYPE),
        result: T.Buffer((rows, features_out), DTYPE),
    ) -> None:
        T.func_attr({"tirx.noalias": True, "estimated_flops": operations})
        acc = T.sblock_alloc_buffer((rows, blocks, v), SUMS)
        for n, o, c, k, i in T.grid(rows, blocks, v, steps, BYTES):
            with T.sblock("dense"):
                vn, vo, vc, vk, vi = T.axis.remap("SSSRR", [n, o, c, k, i])
                T.sblock_attr({"schedule_rule": "quantized_dense"})
                with T.init():
                    acc[vn, vo, vc] = T.int32(0)
                acc[vn, vo, vc] = acc[vn, vo, vc] + T.cast(
                    data[vn, vk * BYTES + vi], SUMS
                ) * T.cast(weight[vo // panel, vk, vo % panel, vc, vi], SUMS)
        for n, o in T.grid(rows, features_out):
            with T.sblock("epilogue"):
                vn, vo = T.axis.remap("SS", [n, o])
                result[vn, vo] = activation(
                    T.cast(acc[vn, vo // v, vo % v], DTYPE) * scale[vo] + bias[vo]
                )

    return main


def operations_of(out: Blocked, window: Window, channels: int) -> int:
    """Of a convolution's sums, each over ``channels``: none for the bytes that fill up a step."""
    kernel_h, kernel_w = window.kernel
    results = out.batch * out.channels * out.height * out.width
    return 2 * results * kernel_h * kernel_w * channels


def dot_steps(channels: int, values: int = BYTES) -> int:
    """Dot products of so many ``values`` that sum ``channels``."""
    return -(-channels // values)


def read_in_pairs(func: tirx.PrimFunc, acc_place: int) -> tirx.PrimFunc:
    """``func``, whose epilogue says that it reads the columns of its sums two by two.

    So the schedule sums both of the last pair. ``acc_place`` is that of the column.
    """

    def paired(block: s_tir.SBlock) -> s_tir.SBlock:
        if block.name_hint != EPILOGUE:
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


def part_of(start: Expr, part: Expr) -> Expr:
    """What one of the parts of a sum starts at: all of it in the first."""
    if isinstance(start, tirx.IntImm):
        return start
    return tirx.Select(part == 0, start, T.int32(0))


def dense_shape(
    x: Blocked, out: Blocked, window: Window, panel: int, groups: int = 1, values: int = BYTES
) -> tuple[int, ...]:
    """Of a dense convolution's packed weights, of dot products of so many ``values``."""
    steps = dot_steps(x.channels // groups, values)
    return (out.blocks // panel, *window.kernel, steps, panel, out.vector, values)


def dword(values: list[Expr]) -> Expr:
    """Up to four bytes as one int32, the first lowest."""
    whole = values[0]
    for place, value in enumerate(values[1:], 1):
        whole = whole | (value << (8 * place))
    return whole
