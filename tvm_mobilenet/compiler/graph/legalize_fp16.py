"""Layers in float16 → calls of our kernels for them, on ARM cores with fp16 arithmetic.

Tensors between kernels over blocked tensors are float16, and so is what a convolution or the
classifier multiplies. Bias and clamping are computed in float16 where the sum is, any other
epilogue in float32; the network's inputs and results stay float32.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy.typing import NDArray
from tvm.ir import Expr, Var

from tvm_mobilenet.compiler.graph.blocked_tensors import real
from tvm_mobilenet.compiler.graph.layer_rewriter import (
    Array,
    is_pointwise,
    stride_suffix,
    window_of,
)
from tvm_mobilenet.compiler.graph.layers import NO_EPILOGUE, Convolution, Dense, shape_of
from tvm_mobilenet.compiler.graph.legalize_bf16 import images_read
from tvm_mobilenet.compiler.graph.legalize_cpu import BLOCKED, Legalizer
from tvm_mobilenet.errors import RunFailed
from tvm_mobilenet.kernels.cpu.conv2d import (
    conv2d,
    depthwise_conv2d,
    separable_conv2d,
    stem_conv2d,
)
from tvm_mobilenet.kernels.cpu.float16 import MOST_PRODUCTS, half_dense
from tvm_mobilenet.kernels.cpu.layout import FP16, Blocked
from tvm_mobilenet.kernels.cpu.weights import (
    dense_blocks,
    pack_channels,
    pack_conv2d,
    pack_dense,
    pack_depthwise,
    pack_stem,
    panel_of,
)

Halves = NDArray[np.float16]
LARGEST = float(np.finfo(np.float16).max)


class HalfLegalizer(Legalizer):
    """Of float32's layers those that multiply are computed in float16."""

    scales_weights = False  # weights that an image scales would have to be rounded for each

    @functools.cached_property
    def in_fp16(self) -> frozenset[Var]:
        return images_read(self.layers, BLOCKED.__args__)

    def stored_dtype(self, var: Var) -> str:
        return FP16 if var in self.in_fp16 else super().stored_dtype(var)

    def convolution(self, layer: Convolution) -> None:
        if layer.source in self.fused:
            separable(self, self.fused[layer.source], layer)
        elif self.reads_image(layer) and products(layer) <= MOST_PRODUCTS:
            stem(self, layer)
        elif layer.depthwise and products(layer) <= MOST_PRODUCTS:
            depthwise(self, layer)
        elif layer.depthwise or self.reads_image(layer):
            super().convolution(layer)
        else:
            dense_convolution(self, layer)

    def dense(self, layer: Dense) -> None:
        matrix_product(self, layer)


def stem(to: HalfLegalizer, layer: Convolution) -> None:
    out = to.layout(layer)
    top, left, bottom, right = layer.padding
    batch, channels, height, width = shape_of(layer.source)
    image, padding = (batch, channels, height, width), (top, bottom, left, right)
    made = finished(layer, out)
    func = stem_conv2d(image, padding, made, window_of(layer), layer.activation, FP16)
    name = f"fp16_stem_conv2d_{size_of(out)}{stride_suffix(layer)}"
    weight = halves(pack_stem(layer.weight, out.vector))
    to.emit_blocked(layer, func, name, [to.plain[layer.source], weight], out)


def depthwise(to: HalfLegalizer, layer: Convolution) -> None:
    out = to.layout(layer)
    x = to.in_lanes(layer.source, out.vector)
    func = depthwise_conv2d(x.layout, finished(layer, out), window_of(layer), layer.activation)
    name = f"fp16_depthwise_conv2d_{size_of(out)}{stride_suffix(layer)}"
    weight = halves(pack_depthwise(layer.weight, out.vector))
    to.emit_blocked(layer, func, name, [x.value, weight], out)


def separable(to: HalfLegalizer, first: Convolution, second: Convolution) -> None:
    middle, out = to.layout(first), to.layout(second)
    x = to.in_lanes(first.source, middle.vector)
    made, panel = finished(second, out), panel_of(out.blocks)
    func = separable_conv2d(
        x.layout, middle, made, window_of(first), first.activation, second.activation, panel
    )
    args = [
        x.value,
        halves(pack_depthwise(first.weight, middle.vector)),
        pack_channels(first.bias, middle.vector),
        halves(pack_conv2d(second.weight, out.vector, panel)),
    ]
    name = f"fp16_separable_conv2d_{size_of(middle)}_{out.channels}{stride_suffix(first)}"
    to.emit_blocked(second, func, name, args, out)


def dense_convolution(to: HalfLegalizer, layer: Convolution) -> None:
    x, out = to.as_blocked(layer.source), to.layout(layer)
    panel = panel_of(out.blocks // layer.groups)
    made = finished(layer, out)
    func = conv2d(x.layout, made, window_of(layer), layer.activation, panel, layer.groups)
    kind = "pointwise_conv2d" if is_pointwise(layer) else "conv2d"
    size = f"{out.width}x{out.height}x{x.layout.channels}_{out.channels}"
    weight = halves(pack_conv2d(layer.weight, out.vector, panel))
    name = f"fp16_{kind}_{size}{stride_suffix(layer)}"
    to.emit_blocked(layer, func, name, [x.value, weight], out)


def matrix_product(to: HalfLegalizer, layer: Dense) -> None:
    """Emit the kernel of a fully connected layer."""
    v = to.vector_width
    features_in, features_out = layer.weight.shape
    panel, blocks = dense_blocks(features_out, v, full_panels=not to.small_weights)
    batch = math.prod(shape_of(layer.source)[:-1])
    func = half_dense(batch, layer.weight.shape, blocks, panel, v, layer.activation)
    args: list[Expr | NDArray[np.generic]] = [
        to.as_rows(layer.source),
        halves(pack_dense(layer.weight, v, blocks, panel)),
        layer.bias,
    ]
    name = f"fp16_dense_{features_in}_{features_out}"
    to.emit_rows(layer, func, name, args, (batch, features_out))


def products(layer: Convolution) -> int:
    """Of each sum."""
    return math.prod(layer.weight.shape[1:])


def finished(layer: Convolution, out: Blocked) -> Blocked:
    """What the kernel itself makes of its sums: float32 where an epilogue follows, or nothing."""
    return out if out.dtype == FP16 and layer.epilogue == NO_EPILOGUE else real(out)


def size_of(out: Blocked) -> str:
    return f"{out.width}x{out.height}x{out.channels}"


def halves(array: Array) -> Halves:
    """To float16, to nearest, ties to even. Raises RunFailed for a weight that is too large."""
    largest = float(np.abs(array).max(initial=0))
    if largest > LARGEST:
        raise RunFailed(
            f"--precision fp16: the network has a weight of {largest:.3g}, fp16's largest is "
            f"{LARGEST:g}; compile it in fp32"
        )
    return array.astype(np.float16)
