"""Convolutions and the classifier in bfloat16: products of pairs, summed in float32.

A step of each reduction is two products, summed into a float32: what one lane of AVX512_BF16's
``vdpbf16ps`` computes. The pair is two channels of a pixel, or, in a depthwise convolution, two
neighbouring pixels of a channel, of which the filter's taps meet one or both.

Buffers of all of them: data; weights packed (weights.py); ``bias`` of each channel, float32,
(blocks, v) or (C_out,); result, float32 until an epilogue makes it bfloat16.
"""

from __future__ import annotations

from tvm import tirx
from tvm.ir import Expr
from tvm.script import tirx as T

from schedules.filter_window import Window
from tvm_mobilenet.kernels.cpu.conv2d import Activation, halo_writer, origin
from tvm_mobilenet.kernels.cpu.layout import BF16, DTYPE, Blocked
from tvm_mobilenet.kernels.cpu.quantized import dense_shape, dot_steps, operations_of, tap_dwords
from tvm_mobilenet.kernels.parsing import parsed_once

PAIR = 2  # numbers of a dot product's step


@parsed_once
def bf16_conv2d(
    x: Blocked,
    out: Blocked,
    window: Window,
    activation: Activation,
    panel: int = 1,
    groups: int = 1,
) -> tirx.PrimFunc:
    """Dense convolution, 1x1 included; of ``groups`` whose channels fill whole pairs.

    Weights are (out.blocks / panel, kh, kw, steps, panel, v, 2).
    """
    (kernel_h, kernel_w), (stride_h, stride_w) = window.kernel, window.stride
    apart_h, apart_w = window.dilation
    origin_h, origin_w = origin(x, window)
    steps, lanes_in, v = dot_steps(x.channels // groups, PAIR), x.vector, out.vector
    group_blocks = out.blocks // groups
    tile = (out.batch, out.blocks, out.height, out.width, v)
    top, left = out.halo.top, out.halo.left
    operations = operations_of(out, window, x.channels // groups)
    write_halo = halo_writer(out)

    def source(block: Expr, k: Expr, i: Expr) -> Expr:
        """The input channel of a block's k-th pair and its i-th number."""
        first = 0 if groups == 1 else block // group_blocks * (x.channels // groups)
        return first + k * PAIR + i

    @T.prim_func(s_tir=True)
    def main(
        data: T.Buffer(x.shape, BF16),
        weight: T.Buffer(dense_shape(x, out, window, panel, groups, PAIR), BF16),
        bias: T.Buffer((out.blocks, v), DTYPE),
        result: T.Buffer(out.shape, DTYPE),
    ) -> None:
        T.func_attr({"tirx.noalias": True, "estimated_flops": operations})
        acc = T.sblock_alloc_buffer(tile, DTYPE)
        write_halo(result)
        for n, o, h, w, c, kh, kw, k, i in T.grid(*tile, kernel_h, kernel_w, steps, PAIR):
            with T.sblock("conv"):
                vn, vo, vh, vw, vc, vkh, vkw, vk, vi = T.axis.remap(
                    "SSSSSRRRR", [n, o, h, w, c, kh, kw, k, i]
                )
                T.sblock_attr({"schedule_rule": "bf16_conv2d"})
                with T.init():
                    acc[vn, vo, vh, vw, vc] = T.float32(0)
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
                    DTYPE,
                ) * T.cast(weight[vo // panel, vkh, vkw, vk, vo % panel, vc, vi], DTYPE)
        for n, o, h, w, c in T.grid(*tile):
            with T.sblock("epilogue"):
                vn, vo, vh, vw, vc = T.axis.remap("SSSSS", [n, o, h, w, c])
                result[out.at(vn, vo, vh + top, vw + left, vc)] = activation(
                    acc[vn, vo, vh, vw, vc] + bias[vo, vc]
                )

    return main


@parsed_once
def bf16_depthwise_conv2d(
    x: Blocked, out: Blocked, window: Window, activation: Activation
) -> tirx.PrimFunc:
    """Depthwise convolution, channel multiplier 1, taps side by side.

    Weights are (blocks, kh, outputs, pairs, v, 2), as those over bytes (quantized.py); like there a
    row's last pair may lie past its last tap, in the halo of ``x``.
    """
    (kernel_h, kernel_w), (stride_h, stride_w) = window.kernel, window.stride
    origin_h, origin_w = origin(x, window)
    v = out.vector
    taps = tap_dwords(out.width, kernel_w, stride_w, PAIR)
    outputs, pairs = taps.outputs, taps.dwords
    tile = (out.batch, out.blocks, out.height, out.width // outputs, outputs, v)
    top, left = out.halo.top, out.halo.left
    operations = operations_of(out, window, 1)
    write_halo = halo_writer(out)

    @T.prim_func(s_tir=True)
    def main(
        data: T.Buffer(x.shape, BF16),
        weight: T.Buffer((out.blocks, kernel_h, outputs, pairs, v, PAIR), BF16),
        bias: T.Buffer((out.blocks, v), DTYPE),
        result: T.Buffer(out.shape, DTYPE),
    ) -> None:
        T.func_attr({"tirx.noalias": True, "estimated_flops": operations})
        acc = T.sblock_alloc_buffer(tile, DTYPE)
        write_halo(result)
        for n, o, h, w, p, c, kh, k, i in T.grid(*tile, kernel_h, pairs, PAIR):
            with T.sblock("conv"):
                vn, vo, vh, vw, vp, vc, vkh, vk, vi = T.axis.remap(
                    "SSSSSSRRR", [n, o, h, w, p, c, kh, k, i]
                )
                T.sblock_attr({"schedule_rule": "bf16_depthwise_conv2d"})
                with T.init():
                    acc[vn, vo, vh, vw, vp, vc] = T.float32(0)
                acc[vn, vo, vh, vw, vp, vc] = acc[vn, vo, vh, vw, vp, vc] + T.cast(
                    data[
                        x.at(
                            vn,
                            vo,
                            vh * stride_h + vkh + origin_h,
                            vw * (outputs * stride_w) + vk * PAIR + vi + origin_w,
                            vc,
                        )
                    ],
                    DTYPE,
                ) * T.cast(weight[vo, vkh, vp, vk, vc, vi], DTYPE)
        for n, o, h, w, p, c in T.grid(*tile):
            with T.sblock("epilogue"):
                vn, vo, vh, vw, vp, vc = T.axis.remap("SSSSSS", [n, o, h, w, p, c])
                result[out.at(vn, vo, vh + top, vw * outputs + vp + left, vc)] = activation(
                    acc[vn, vo, vh, vw, vp, vc] + bias[vo, vc]
                )

    return main


@parsed_once
def bf16_stem_conv2d(
    image: tuple[int, int, int, int],
    padding: tuple[int, int, int, int],
    out: Blocked,
    window: Window,
    activation: Activation,
) -> tirx.PrimFunc:
    """The first convolution: reads the plain float32 image and rounds it, two of a pixel's channels
    into one dword.

    ``padding`` is (top, bottom, left, right). Weights are (out.blocks, kh, kw, pairs, v, 2).
    """
    batch, channels_in, height, width = image
    top, bottom, left, right = padding
    (kernel_h, kernel_w), (stride_h, stride_w) = window.kernel, window.stride
    pairs, v = dot_steps(channels_in, PAIR), out.vector
    tile = (out.batch, out.blocks, out.height, out.width, v)
    out_top, out_left = out.halo.top, out.halo.left
    operations = operations_of(out, window, channels_in)
    write_halo = halo_writer(out)
    padded = (batch, pairs, top + height + bottom, left + width + right)

    def pixels(data: tirx.Buffer, n: Expr, k: Expr, h: Expr, w: Expr) -> Expr:
        """Two channels of a pixel; where there is but one, above it a zero."""
        second = data[n, T.min(k * PAIR + 1, channels_in - 1), h, w]
        if channels_in % PAIR:
            second = T.if_then_else(k * PAIR + 1 < channels_in, second, T.float32(0))
        return bits(data[n, k * PAIR, h, w]) | (bits(second) << 16)

    @T.prim_func(s_tir=True)
    def main(
        data: T.Buffer((batch, channels_in, height, width), DTYPE),
        weight: T.Buffer((out.blocks, kernel_h, kernel_w, pairs, v, PAIR), BF16),
        bias: T.Buffer((out.blocks, v), DTYPE),
        result: T.Buffer(out.shape, DTYPE),
    ) -> None:
        T.func_attr({"tirx.noalias": True, "estimated_flops": operations})
        rows = T.sblock_alloc_buffer(padded, "int32")
        acc = T.sblock_alloc_buffer(tile, DTYPE)
        write_halo(result)
        for n, k, h, w in T.grid(*padded):
            with T.sblock("pad"):
                vn, vk, vh, vw = T.axis.remap("SSSS", [n, k, h, w])
                rows[vn, vk, vh, vw] = T.if_then_else(
                    top <= vh and vh < top + height and left <= vw and vw < left + width,
                    pixels(data, vn, vk, vh - top, vw - left),
                    T.int32(0),
                )
        for n, o, h, w, c, kh, kw, k, i in T.grid(*tile, kernel_h, kernel_w, pairs, PAIR):
            with T.sblock("conv"):
                vn, vo, vh, vw, vc, vkh, vkw, vk, vi = T.axis.remap(
                    "SSSSSRRRR", [n, o, h, w, c, kh, kw, k, i]
                )
                T.sblock_attr({"schedule_rule": "bf16_stem_conv2d"})
                with T.init():
                    acc[vn, vo, vh, vw, vc] = T.float32(0)
                acc[vn, vo, vh, vw, vc] = acc[vn, vo, vh, vw, vc] + T.reinterpret(
                    DTYPE,
                    T.shift_left(
                        T.shift_right(
                            rows[vn, vk, vh * stride_h + vkh, vw * stride_w + vkw], vi * 16
                        ),
                        16,
                    ),
                ) * T.cast(weight[vo, vkh, vkw, vk, vc, vi], DTYPE)
        for n, o, h, w, c in T.grid(*tile):
            with T.sblock("epilogue"):
                vn, vo, vh, vw, vc = T.axis.remap("SSSSS", [n, o, h, w, c])
                result[out.at(vn, vo, vh + out_top, vw + out_left, vc)] = activation(
                    acc[vn, vo, vh, vw, vc] + bias[vo, vc]
                )

    return main


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

    Weights are (blocks / panel, steps, panel, v, 2); C_in is even. What the last blocks hold past
    C_out is not written.
    """
    features_in, features_out = features
    steps = dot_steps(features_in, PAIR)
    operations = 2 * rows * features_in * features_out

    @T.prim_func(s_tir=True)
    def main(
        data: T.Buffer((rows, features_in), DTYPE),
        weight: T.Buffer((blocks // panel, steps, panel, v, PAIR), BF16),
        bias: T.Buffer((features_out,), DTYPE),
        result: T.Buffer((rows, features_out), DTYPE),
    ) -> None:
        T.func_attr({"tirx.noalias": True, "estimated_flops": operations})
        rounded = T.sblock_alloc_buffer((rows, features_in), BF16)
        acc = T.sblock_alloc_buffer((rows, blocks, v), DTYPE)
        for n, k in T.grid(rows, features_in):
            with T.sblock("round"):
                vn, vk = T.axis.remap("SS", [n, k])
                rounded[vn, vk] = T.cast(data[vn, vk], BF16)
        for n, o, c, k, i in T.grid(rows, blocks, v, steps, PAIR):
            with T.sblock("dense"):
                vn, vo, vc, vk, vi = T.axis.remap("SSSRR", [n, o, c, k, i])
                T.sblock_attr({"schedule_rule": "bf16_dense"})
                with T.init():
                    acc[vn, vo, vc] = T.float32(0)
                acc[vn, vo, vc] = acc[vn, vo, vc] + T.cast(
                    rounded[vn, vk * PAIR + vi], DTYPE
                ) * T.cast(weight[vo // panel, vk, vo % panel, vc, vi], DTYPE)
        for n, o in T.grid(rows, features_out):
            with T.sblock("epilogue"):
                vn, vo = T.axis.remap("SS", [n, o])
                result[vn, vo] = activation(acc[vn, vo // v, vo % v] + bias[vo])

    return main
