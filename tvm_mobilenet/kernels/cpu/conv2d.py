"""Convolutions over blocked activations, with bias, activation and the consumer's halo.

All of them share one form: a reduction into ``acc``, then an ``epilogue`` that adds the bias,
applies the activation and writes the interior of the padded output, and up to four blocks that
write the halo. Weights come packed (weights.py) so that the kernel reads
them in order, one vector of output channels at a time.

What ``x`` is of, float32 or float16, weights and sums are of too, and what ``out`` is of is what
bias and activation are computed in; a bias itself is float32. Sums of float16 are for few products
(float16.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx
from tvm.ir import Expr
from tvm.script import tirx as T

from schedules.filter_window import Window
from tvm_mobilenet.kernels.cpu.layout import DTYPE, Blocked
from tvm_mobilenet.kernels.parsing import parsed_once


@dataclass(frozen=True)
class Activation:
    """Clamp to [low, high]; ReLU is (0, None), ReLU6 (0, 6), no activation (None, None)."""

    low: float | None = None
    high: float | None = None

    def __call__(self, value: Expr) -> Expr:
        dtype = str(value.ty.dtype)
        if self.low is not None:
            value = T.max(value, tirx.const(self.low, dtype))
        if self.high is not None:
            value = T.min(value, tirx.const(self.high, dtype))
        return value


def origin(x: Blocked, window: Window) -> tuple[int, int]:
    """Where in the padded rows and columns of ``x`` the first output's first tap lies."""
    return (x.halo.top - window.padding[0], x.halo.left - window.padding[1])


@parsed_once
def conv2d(
    x: Blocked,
    out: Blocked,
    window: Window,
    activation: Activation,
    panel: int = 1,
    groups: int = 1,
) -> tirx.PrimFunc:
    """Dense convolution, 1x1 included; of ``groups`` whose output channels fill whole vectors.

    Buffers: x blocked; weights (out.blocks / panel, kh, kw, C_in / groups, panel, v);
    bias (out.blocks, v); out blocked. A tile of ``panel`` channel vectors reads its weights as one
    stream.
    """
    pointwise = window.kernel == window.stride == (1, 1)
    rule = "pointwise_conv2d" if pointwise else "conv2d"
    write_halo = halo_writer(out)
    convolve = dense_convolution(x, out, window, activation, panel, rule, groups=groups)

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
def depthwise_conv2d(
    x: Blocked, out: Blocked, window: Window, activation: Activation
) -> tirx.PrimFunc:
    """Depthwise convolution, channel multiplier 1.

    Buffers: x blocked; weights (blocks, kh, kw, v); bias (blocks, v); out blocked.
    """
    write_halo = halo_writer(out)
    convolve = depthwise_convolution(x, out, window, activation, "depthwise_conv2d")

    @T.prim_func(s_tir=True)
    def main(
        data: T.Buffer(x.shape, x.dtype),
        weight: T.Buffer(depthwise_shape(out, window), x.dtype),
        bias: T.Buffer((out.blocks, out.vector), DTYPE),
        result: T.Buffer(out.shape, out.dtype),
    ) -> None:
        T.func_attr({"tirx.noalias": True})
        write_halo(result)
        convolve(data, weight, bias, result)

    return main


@parsed_once
def separable_conv2d(
    x: Blocked,
    middle: Blocked,
    out: Blocked,
    window: Window,
    activation: Activation,
    pointwise_activation: Activation,
    panel: int = 1,
) -> tirx.PrimFunc:
    """A depthwise convolution and the 1x1 convolution that reads its output ``middle``, as one.

    Buffers: x blocked; depthwise weights and bias; 1x1 weights and bias; out blocked.
    """
    pointwise = Window()
    write_halo = halo_writer(out)
    filter_channels = depthwise_convolution(x, middle, window, activation, None, "filter")
    convolve = dense_convolution(
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


@parsed_once
def stem_conv2d(
    image: tuple[int, int, int, int],
    padding: tuple[int, int, int, int],
    out: Blocked,
    window: Window,
    activation: Activation,
    dtype: str = DTYPE,
) -> tirx.PrimFunc:
    """The first convolution: reads the plain (N, C, H, W) image, so that no transpose is needed.

    ``padding`` is (top, bottom, left, right). The padded rows are a block of their own, which the
    schedule computes a band at a time. What is multiplied and summed is of ``dtype``.
    Buffers: image (N, C, H, W); weights (out.blocks, C, kh, kw, v); bias (out.blocks, v); out.
    """
    batch, channels_in, height, width = image
    top, bottom, left, right = padding
    (kernel_h, kernel_w), (stride_h, stride_w) = window.kernel, window.stride
    v = out.vector
    tile = (out.batch, out.blocks, out.height, out.width, v)
    out_top, out_left = out.halo.top, out.halo.left
    write_halo = halo_writer(out)
    padded = (batch, channels_in, top + height + bottom, left + width + right)
    zero = tirx.const(0, dtype)

    @T.prim_func(s_tir=True)
    def main(
        data: T.Buffer((batch, channels_in, height, width), DTYPE),
        weight: T.Buffer((out.blocks, channels_in, kernel_h, kernel_w, v), dtype),
        bias: T.Buffer((out.blocks, v), DTYPE),
        result: T.Buffer(out.shape, out.dtype),
    ) -> None:
        T.func_attr({"tirx.noalias": True})
        rows = T.sblock_alloc_buffer(padded, dtype)
        acc = T.sblock_alloc_buffer(tile, dtype)
        write_halo(result)
        for n, k, h, w in T.grid(*padded):
            with T.sblock("pad"):
                vn, vk, vh, vw = T.axis.remap("SSSS", [n, k, h, w])
                rows[vn, vk, vh, vw] = T.if_then_else(
                    top <= vh and vh < top + height and left <= vw and vw < left + width,
                    T.cast(data[vn, vk, vh - top, vw - left], dtype),
                    zero,
                )
        for n, o, h, w, c, k, kh, kw in T.grid(*tile, channels_in, kernel_h, kernel_w):
            with T.sblock("conv"):
                vn, vo, vh, vw, vc, vk, vkh, vkw = T.axis.remap(
                    "SSSSSRRR", [n, o, h, w, c, k, kh, kw]
                )
                T.sblock_attr({"schedule_rule": "stem_conv2d"})
                with T.init():
                    acc[vn, vo, vh, vw, vc] = zero
                acc[vn, vo, vh, vw, vc] = (
                    acc[vn, vo, vh, vw, vc]
                    + rows[vn, vk, vh * stride_h + vkh, vw * stride_w + vkw]
                    * weight[vo, vk, vkh, vkw, vc]
                )
        for n, o, h, w, c in T.grid(*tile):
            with T.sblock("epilogue"):
                vn, vo, vh, vw, vc = T.axis.remap("SSSSS", [n, o, h, w, c])
                result[out.at(vn, vo, vh + out_top, vw + out_left, vc)] = activation(
                    T.cast(acc[vn, vo, vh, vw, vc], out.dtype) + T.cast(bias[vo, vc], out.dtype)
                )

    return main


def fusing_pays(out: Blocked) -> bool:
    """Whether to compute a depthwise convolution inside the 1x1 convolution that makes ``out`` of
    it.

    A band of rows is filtered and multiplied at once, so each band reads all the weights: where the
    image outweighs them, that is the order of the 1x1 convolution anyhow.
    """
    return out.height * out.width > out.channels


# What the kernels are made of


def dense_shape(
    x: Blocked, out: Blocked, window: Window, panel: int, groups: int = 1
) -> tuple[int, ...]:
    """Of a dense convolution's packed weights."""
    return (out.blocks // panel, *window.kernel, x.channels // groups, panel, out.vector)


def depthwise_shape(out: Blocked, window: Window) -> tuple[int, ...]:
    """Of a depthwise convolution's packed weights."""
    return (out.blocks, *window.kernel, out.vector)


def dense_convolution(
    x: Blocked,
    out: Blocked,
    window: Window,
    activation: Activation,
    panel: int,
    rule: str,
    *,
    groups: int = 1,
) -> Callable[..., None]:
    """Emits the blocks that write a dense convolution's image into ``out``."""
    (kernel_h, kernel_w), (stride_h, stride_w) = window.kernel, window.stride
    apart_h, apart_w = window.dilation
    origin_h, origin_w = origin(x, window)
    channels_in, lanes_in, v = x.channels // groups, x.vector, out.vector
    group_blocks = out.blocks // groups
    tile = (out.batch, out.blocks, out.height, out.width, v)
    top, left = out.halo.top, out.halo.left
    zero = tirx.const(0, x.dtype)

    def source(block: Expr, k: Expr) -> Expr:
        """The input channel that is the k-th of a block's group."""
        return k if groups == 1 else block // group_blocks * channels_in + k

    @T.inline
    def emit(data, weight, bias, result):
        acc = T.sblock_alloc_buffer(tile, x.dtype)
        for n, o, h, w, c, kh, kw, k in T.grid(*tile, kernel_h, kernel_w, channels_in):
            with T.sblock("conv"):
                vn, vo, vh, vw, vc, vkh, vkw, vk = T.axis.remap(
                    "SSSSSRRR", [n, o, h, w, c, kh, kw, k]
                )
                T.sblock_attr({"schedule_rule": rule})
                with T.init():
                    acc[vn, vo, vh, vw, vc] = zero
                acc[vn, vo, vh, vw, vc] = (
                    acc[vn, vo, vh, vw, vc]
                    + data[
                        x.at(
                            vn,
                            source(vo, vk) // lanes_in,
                            vh * stride_h + vkh * apart_h + origin_h,
                            vw * stride_w + vkw * apart_w + origin_w,
                            source(vo, vk) % lanes_in,
                        )
                    ]
                    * weight[vo // panel, vkh, vkw, vk, vo % panel, vc]
                )
        for n, o, h, w, c in T.grid(*tile):
            with T.sblock("epilogue"):
                vn, vo, vh, vw, vc = T.axis.remap("SSSSS", [n, o, h, w, c])
                result[out.at(vn, vo, vh + top, vw + left, vc)] = activation(
                    T.cast(acc[vn, vo, vh, vw, vc], out.dtype) + T.cast(bias[vo, vc], out.dtype)
                )

    return emit


def depthwise_convolution(
    x: Blocked,
    out: Blocked,
    window: Window,
    activation: Activation,
    rule: str | None,
    name: str = "conv",
) -> Callable[..., None]:
    """Emits the blocks that write a depthwise convolution's image into ``out``.

    ``rule`` is that of the kernel where this is what it is scheduled by.
    """
    (kernel_h, kernel_w), (stride_h, stride_w) = window.kernel, window.stride
    apart_h, apart_w = window.dilation
    origin_h, origin_w = origin(x, window)
    tile = (out.batch, out.blocks, out.height, out.width, out.vector)
    top, left = out.halo.top, out.halo.left
    zero = tirx.const(0, x.dtype)
    annotations = {} if rule is None else {"schedule_rule": rule}
    epilogue = "epilogue" if name == "conv" else f"{name}_epilogue"

    @T.inline
    def emit(data, weight, bias, result):
        acc = T.sblock_alloc_buffer(tile, x.dtype)
        for n, o, h, w, c, kh, kw in T.grid(*tile, kernel_h, kernel_w):
            with T.sblock(name):
                vn, vo, vh, vw, vc, vkh, vkw = T.axis.remap("SSSSSRR", [n, o, h, w, c, kh, kw])
                T.sblock_attr(annotations)
                with T.init():
                    acc[vn, vo, vh, vw, vc] = zero
                acc[vn, vo, vh, vw, vc] = (
                    acc[vn, vo, vh, vw, vc]
                    + data[
                        x.at(
                            vn,
                            vo,
                            vh * stride_h + vkh * apart_h + origin_h,
                            vw * stride_w + vkw * apart_w + origin_w,
                            vc,
                        )
                    ]
                    * weight[vo, vkh, vkw, vc]
                )
        for n, o, h, w, c in T.grid(*tile):
            with T.sblock(epilogue):
                vn, vo, vh, vw, vc = T.axis.remap("SSSSS", [n, o, h, w, c])
                result[out.at(vn, vo, vh + top, vw + left, vc)] = activation(
                    T.cast(acc[vn, vo, vh, vw, vc], out.dtype) + T.cast(bias[vo, vc], out.dtype)
                )

    return emit


def halo_writer(out: Blocked) -> Callable[[T.Buffer], None]:
    """Emits the blocks that write what stands for zero into the halo of ``out``, if it has one."""
    top, bottom, left, right = out.halo.top, out.halo.bottom, out.halo.left, out.halo.right
    batch, blocks, rows = out.batch, out.blocks, out.padded_height
    columns, v = out.padded_width, out.vector
    zero = out.zero

    @T.inline
    def write(result):
        if top > 0:
            for n, o, h, w, c in T.grid(batch, blocks, top, columns, v):
                with T.sblock("halo_top"):
                    vn, vo, vh, vw, vc = T.axis.remap("SSSSS", [n, o, h, w, c])
                    result[out.at(vn, vo, vh, vw, vc)] = zero
        if bottom > 0:
            for n, o, h, w, c in T.grid(batch, blocks, bottom, columns, v):
                with T.sblock("halo_bottom"):
                    vn, vo, vh, vw, vc = T.axis.remap("SSSSS", [n, o, h, w, c])
                    result[out.at(vn, vo, vh + (rows - bottom), vw, vc)] = zero
        if left > 0:
            for n, o, h, w, c in T.grid(batch, blocks, out.height, left, v):
                with T.sblock("halo_left"):
                    vn, vo, vh, vw, vc = T.axis.remap("SSSSS", [n, o, h, w, c])
                    result[out.at(vn, vo, vh + top, vw, vc)] = zero
        if right > 0:
            for n, o, h, w, c in T.grid(batch, blocks, out.height, right, v):
                with T.sblock("halo_right"):
                    vn, vo, vh, vw, vc = T.axis.remap("SSSSS", [n, o, h, w, c])
                    result[out.at(vn, vo, vh + top, vw + (columns - right), vc)] = zero

    return write
