"""Layers in bfloat16 → calls of our kernels for them, on targets that schedule those.

Tensors between kernels over blocked tensors are bfloat16, and what a convolution or the classifier
multiplies. Everything else is computed in float32, as are the network's inputs and results.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from tvm.ir import Expr, Var

from schedules.cpu.pair_matrices import DEPTH, SIDE
from schedules.cpu.pair_products import PAIR
from tvm_mobilenet.compiler.graph.blocked_tensors import real
from tvm_mobilenet.compiler.graph.layer_rewriter import Array, stride_suffix, window_of
from tvm_mobilenet.compiler.graph.layers import (
    Channels,
    Convolution,
    Dense,
    Layer,
    Pooling,
    shape_of,
    sources,
)
from tvm_mobilenet.kernels.cpu.bfloat16 import (
    bf16_conv2d,
    bf16_dense,
    bf16_depthwise_conv2d,
    bf16_stem_conv2d,
)
from tvm_mobilenet.kernels.cpu.dot_nests import columns_read, tap_dwords
from tvm_mobilenet.kernels.cpu.layout import Halo
from tvm_mobilenet.kernels.cpu.weights import (
    CONV2D_PANELS,
    MATRIX_PANELS,
    dense_blocks,
    pack_bf16_stem,
    pack_quantized_conv2d,
    pack_quantized_dense,
    pack_quantized_depthwise,
    panel_of,
)

if TYPE_CHECKING:
    from tvm_mobilenet.compiler.graph.legalize_cpu import Legalizer

RANK = 4  # of images


def images_read(layers: list[Layer], blocked: tuple[type, ...]) -> frozenset[Var]:
    """The tensors of images that a kernel over blocked tensors reads."""
    read = {
        var for layer in layers if isinstance(layer, (*blocked, Pooling)) for var in sources(layer)
    }
    read |= {layer.result for layer in layers if isinstance(layer, Channels)}
    return frozenset(
        var for var in read if str(var.ty.dtype) == "float32" and len(shape_of(var)) == RANK
    )


def in_pairs(layer: Convolution, depth: int = PAIR) -> bool:
    """Whether products of pairs compute it, dense ones in steps of ``depth`` channels."""
    if layer.depthwise:
        return layer.dilation == (1, 1)
    channels_out, channels_in = layer.weight.shape[:2]
    return layer.groups == 1 or (
        channels_in % depth == 0 and channels_out // layer.groups % PAIR == 0
    )


def bf16_stem(to: Legalizer, layer: Convolution) -> None:
    out = to.layout(layer)
    top, left, bottom, right = layer.padding
    batch, channels, height, width = shape_of(layer.source)
    func = bf16_stem_conv2d(
        (batch, channels, height, width),
        (top, bottom, left, right),
        real(out),
        window_of(layer),
        layer.activation,
        to.bf16_depth,
    )
    name = f"bf16_stem_conv2d_{out.width}x{out.height}x{out.channels}{stride_suffix(layer)}"
    weight = rounded(pack_bf16_stem(layer.weight, out.vector, to.bf16_depth))
    to.emit_blocked(layer, func, name, [to.plain[layer.source], weight], out)


def bf16_depthwise(to: Legalizer, layer: Convolution) -> None:
    out = to.layout(layer)
    x = to.in_lanes(layer.source, out.vector)
    func = bf16_depthwise_conv2d(x.layout, real(out), window_of(layer), layer.activation)
    name = f"bf16_depthwise_conv2d_{out.width}x{out.height}x{out.channels}{stride_suffix(layer)}"
    taps = tap_dwords(out.width, layer.weight.shape[3], layer.stride[1], PAIR)
    weight = pack_quantized_depthwise(layer.weight, out.vector, taps.outputs, layer.stride[1], PAIR)
    to.emit_blocked(layer, func, name, [x.value, rounded(weight)], out)


def bf16_dense_convolution(to: Legalizer, layer: Convolution) -> None:
    out, depth = to.layout(layer), to.bf16_depth
    # a step of matrices is a vector of every pixel
    x = to.in_lanes(layer.source, depth) if depth == DEPTH else to.as_blocked(layer.source)
    panels = MATRIX_PANELS if depth == DEPTH else CONV2D_PANELS
    panel = panel_of(out.blocks // layer.groups, panels)
    func = bf16_conv2d(
        x.layout, real(out), window_of(layer), layer.activation, panel, layer.groups, depth
    )
    kernel = "x".join(map(str, layer.weight.shape[2:]))
    kind = "bf16_conv2d" if kernel != "1x1" else "bf16_pointwise_conv2d"
    name = f"{kind}_{out.width}x{out.height}x{x.layout.channels}_{out.channels}"
    weight = rounded(pack_quantized_conv2d(layer.weight, out.vector, panel, depth))
    to.emit_blocked(layer, func, name + stride_suffix(layer), [x.value, weight], out)


def bf16_matrix_product(to: Legalizer, layer: Dense) -> None:
    """Emit the kernel of a fully connected layer."""
    v = to.vector_width
    features_in, features_out = layer.weight.shape
    panel, blocks = dense_blocks(features_out, v, full_panels=not to.small_weights)
    batch = math.prod(shape_of(layer.source)[:-1])
    func = bf16_dense(batch, (features_in, features_out), blocks, panel, v, layer.activation)
    weight = rounded(pack_quantized_dense(layer.weight, v, blocks, panel, PAIR))
    args: list[Expr | NDArray[np.generic]] = [to.as_rows(layer.source), weight, layer.bias]
    name = f"bf16_dense_{features_in}_{features_out}"
    to.emit_rows(layer, func, name, args, (batch, features_out))


def rounded(array: Array) -> NDArray[np.generic]:
    """To bfloat16, to nearest, ties to even."""
    return array.astype(ml_dtypes.bfloat16)


def halo_of_pairs(layer: Convolution, depth: int = PAIR) -> Halo:
    """Its padding, and what its pairs, or matrices, read beyond that on the right."""
    top, left, bottom, right = layer.padding
    width, taps = shape_of(layer.result)[3], layer.weight.shape[3]
    if not in_pairs(layer, depth):
        return Halo(top, bottom, left, right)
    read = 0
    if layer.depthwise:
        read = columns_read(width, taps, layer.stride[1], PAIR)
    elif depth == DEPTH:
        last = width + width % SIDE - 1
        read = last * layer.stride[1] + (taps - 1) * layer.dilation[1] + 1
    return Halo(top, bottom, left, max(right, read - left - shape_of(layer.source)[3]))
