"""Convolutions over blocked activations, with bias, activation and the consumer's halo.

Their loops are those of nests.py. Weights come packed (weights.py) so that the kernel reads them in
order, one vector of output channels at a time.

What ``x`` is of, float32 or float16, weights and sums are of too, and what ``out`` is of is what
bias and activation are computed in; a bias itself is float32. Where a sum in float16 would have too
many products, float32 adds up its parts, the bias too (float16.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx
from tvm.ir import Expr
from tvm.script import tirx as T

from schedules.filter_window import Window
from tvm_mobilenet.kernels.cpu.float16 import convolution_in_parts, is_in_parts
from tvm_mobilenet.kernels.cpu.layout import DTYPE, Blocked
from tvm_mobilenet.kernels.cpu.nests import (
    biased,
    dense_convolution,
    dense_shape,
    depthwise_convolution,
    depthwise_shape,
    halo_writer,
)
from tvm_mobilenet.kernels.cpu.signatures import Tensor, with_bias
from tvm_mobilenet.kernels.cpu.stem_nests import Pixels, stem_convolution
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
    nest = nest_of(x, window, groups)
    convolve = nest(x, out, window, activation, panel, rule, groups=groups)
    weights = Tensor(dense_shape(x, out, window, panel, groups), x.dtype)
    return with_bias(x, weights, out, convolve, sums=x.dtype)


@parsed_once
def depthwise_conv2d(
    x: Blocked, out: Blocked, window: Window, activation: Activation
) -> tirx.PrimFunc:
    """Depthwise convolution, channel multiplier 1.

    Buffers: x blocked; weights (blocks, kh, kw, v); bias (blocks, v); out blocked.
    """
    convolve = depthwise_convolution(x, out, window, activation, "depthwise_conv2d")
    weights = Tensor(depthwise_shape(out, window), x.dtype)
    return with_bias(x, weights, out, convolve, sums=x.dtype)


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
    convolve = nest_of(middle, pointwise)(
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
        filter_channels(data, filter, biased(filter_bias, x.dtype, middle.dtype), filtered)
        convolve(filtered, weight, biased(bias, middle.dtype, out.dtype), result)

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

    def pixel(data: tirx.Buffer, n: Expr, k: Expr, h: Expr, w: Expr) -> Expr:
        return T.cast(data[n, k, h, w], dtype)

    pixels = Pixels((image[1],), dtype, pixel, tirx.const(0, dtype))
    convolve = stem_convolution(image, padding, out, window, activation, pixels, "stem_conv2d")
    weights = Tensor((out.blocks, image[1], *window.kernel, out.vector), dtype)
    return with_bias(Tensor(image, DTYPE), weights, out, convolve, sums=dtype)


def nest_of(x: Blocked, window: Window, groups: int = 1) -> Callable[..., Callable[..., None]]:
    """The loop nest of a dense convolution of ``x``."""
    return convolution_in_parts if is_in_parts(x, window, groups) else dense_convolution


def fusing_pays(out: Blocked) -> bool:
    """Whether to compute a depthwise convolution inside the 1x1 convolution that makes ``out`` of
    it.

    A band of rows is filtered and multiplied at once, so each band reads all the weights: where the
    image outweighs them, that is the order of the 1x1 convolution anyhow.
    """
    return out.height * out.width > out.channels
