"""Convolutions and matrix products in float32 → calls of our kernels.

The first one reads the plain image. A large 1x1 convolution after a depthwise one is computed by
Strassen's algorithm, or fused with it, and a 3x3 convolution by Winograd's, where the target has
schedules for that.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tvm.ir import Expr, Var

from tvm_mobilenet.compiler.graph.blocked_tensors import read_stored, real
from tvm_mobilenet.compiler.graph.layer_rewriter import (
    Array,
    is_pointwise,
    stride_suffix,
    window_of,
)
from tvm_mobilenet.compiler.graph.layers import Convolution, Dense, shape_of
from tvm_mobilenet.kernels.cpu import winograd
from tvm_mobilenet.kernels.cpu.conv2d import (
    conv2d,
    depthwise_conv2d,
    separable_conv2d,
    stem_conv2d,
)
from tvm_mobilenet.kernels.cpu.head import dense
from tvm_mobilenet.kernels.cpu.scaling import scale_weights
from tvm_mobilenet.kernels.cpu.strassen import (
    depthwise_operands,
    operand_shape,
    pack_strassen,
    strassen_conv2d,
)
from tvm_mobilenet.kernels.cpu.weights import (
    dense_blocks,
    pack_channels,
    pack_conv2d,
    pack_dense,
    pack_depthwise,
    pack_stem,
    panel_of,
)

if TYPE_CHECKING:
    from tvm_mobilenet.compiler.graph.legalize_cpu import Legalizer

STRASSEN = frozenset({"depthwise_operands", "strassen_conv2d"})  # the rules it needs
WINOGRAD = frozenset({"winograd_operands", "winograd_conv2d"})  # and Winograd's
FUSED = "separable_conv2d"


def float_convolution(to: Legalizer, layer: Convolution) -> None:
    """Emit the layer by the algorithm that is best for it."""
    if layer.source in to.fused:
        separable(to, to.fused[layer.source], layer)
    elif layer.depthwise:
        depthwise(to, layer)
    elif layer.source in to.as_operands:
        strassen(to, layer)
    elif suits_winograd(to, layer):
        winograd_convolution(to, layer)
    else:
        dense_convolution(to, layer)


def float_stem(to: Legalizer, layer: Convolution) -> None:
    out = to.layout(layer)
    top, left, bottom, right = layer.padding
    batch, channels, height, width = shape_of(layer.source)
    image, padding = (batch, channels, height, width), (top, bottom, left, right)
    func = stem_conv2d(image, padding, real(out), window_of(layer), layer.activation)
    func = to.in_tiles(layer, func, out, stem=True)
    name = f"stem_conv2d_{out.width}x{out.height}x{out.channels}{stride_suffix(layer)}"
    args = [to.plain[layer.source], pack_stem(layer.weight, out.vector)]
    to.emit_blocked(layer, func, name, args, out)


def depthwise(to: Legalizer, layer: Convolution) -> None:
    out = to.layout(layer)
    x = to.in_lanes(layer.source, out.vector)
    size = f"{out.width}x{out.height}x{out.channels}{stride_suffix(layer)}"
    args = [x.value, pack_depthwise(layer.weight, out.vector)]
    if layer.result in to.as_operands:
        func = depthwise_operands(x.layout, out, window_of(layer), layer.activation)
        name, shape = f"depthwise_operands_{size}", operand_shape(out)
        to.emit_blocked(layer, func, name, args, out, shape)
    else:
        func = depthwise_conv2d(real(x.layout), real(out), window_of(layer), layer.activation)
        func = read_stored(to.in_tiles(layer, func, out), x.layout)
        to.emit_blocked(layer, func, f"depthwise_conv2d_{size}", args, out)


def separable(to: Legalizer, first: Convolution, second: Convolution) -> None:
    middle, out = to.layout(first), to.layout(second)
    x = to.in_lanes(first.source, middle.vector)
    panel = panel_of(out.blocks)
    func = separable_conv2d(
        x.layout, middle, out, window_of(first), first.activation, second.activation, panel
    )
    args = [
        x.value,
        pack_depthwise(first.weight, middle.vector),
        pack_channels(first.bias, middle.vector),
        pack_conv2d(second.weight, out.vector, panel),
    ]
    name = f"separable_conv2d_{out.width}x{out.height}x{middle.channels}_{out.channels}"
    to.emit_blocked(second, func, name + stride_suffix(first), args, out)


def strassen(to: Legalizer, layer: Convolution) -> None:
    x, out = to.blocked[layer.source], to.layout(layer)
    panel = panel_of(out.blocks // 2)
    func = strassen_conv2d(x.layout, out, layer.activation, panel)
    func = to.in_runs(func, (out.height // 2, out.width), x.layout.channels // 2, out.blocks // 2)
    name = f"strassen_conv2d_{out.width}x{out.height}x{x.layout.channels}_{out.channels}"
    args = [x.value, pack_strassen(layer.weight, out.vector, panel)]
    to.emit_blocked(layer, func, name, args, out)


def suits_winograd(to: Legalizer, layer: Convolution) -> bool:
    shape = (layer.weight.shape[2:], layer.stride, layer.dilation, layer.groups)
    suits = shape == (winograd.KERNEL, (1, 1), (1, 1), 1)
    return suits and WINOGRAD.issubset(to.rules) and winograd.pays(to.layout(layer))


def winograd_convolution(to: Legalizer, layer: Convolution) -> None:
    x, out = to.as_blocked(layer.source), to.layout(layer)
    size = f"{out.width}x{out.height}x{x.layout.channels}"
    func = winograd.winograd_operands(x.layout, out, window_of(layer))
    shape = winograd.operand_shape(x.layout, out)
    operands = to.call(func, f"winograd_operands_{size}", [x.value], shape)
    panel = panel_of(out.blocks)
    func = winograd.winograd_conv2d(x.layout, out, layer.activation, panel)
    func = to.in_runs(func, winograd.tiles(out), x.layout.channels, out.blocks)
    args = [operands, winograd.pack_winograd(layer.weight, out.vector, panel)]
    to.emit_blocked(layer, func, f"winograd_conv2d_{size}_{out.channels}", args, out)


def dense_convolution(to: Legalizer, layer: Convolution) -> None:
    x, out = to.as_blocked(layer.source), to.layout(layer)
    panel = panel_of(out.blocks // layer.groups)
    taps = window_of(layer)
    func = conv2d(real(x.layout), real(out), taps, layer.activation, panel, layer.groups)
    func = read_stored(to.in_tiles(layer, func, out), x.layout)
    kind = "pointwise_conv2d" if is_pointwise(layer) else "conv2d"
    name = f"{kind}_{out.width}x{out.height}x{x.layout.channels}_{out.channels}"
    weight: Expr | Array = pack_conv2d(layer.weight, out.vector, panel)
    if layer.result in to.scales:
        weight = scaled(to, weight, to.scales[layer.result])
    to.emit_blocked(layer, func, name + stride_suffix(layer), [x.value, weight], out)


def scaled(to: Legalizer, weight: Array, by: Var) -> Expr:
    """A 1x1 convolution's packed weights, times a tensor of one pixel."""
    scale = to.as_blocked(by)
    func = scale_weights(scale.layout, weight.shape)
    panels, _, _, channels, panel, v = weight.shape
    name = f"scale_weights_{channels}_{panels * panel * v}"
    return to.call(func, name, [scale.value, weight], weight.shape)


def float_matrix_product(to: Legalizer, layer: Dense) -> None:
    """Emit the kernel of a fully connected layer."""
    v = to.vector_width
    features_in, features_out = layer.weight.shape
    panel, blocks = dense_blocks(features_out, v, full_panels=not to.small_weights)
    batch = math.prod(shape_of(layer.source)[:-1])
    func = dense(batch, features_in, features_out, blocks, panel, v, layer.activation)
    args = [
        to.as_rows(layer.source),
        pack_dense(layer.weight, v, blocks, panel),
        layer.bias,
    ]
    name = f"dense_{features_in}_{features_out}"
    to.emit_rows(layer, func, name, args, (batch, features_out))
