"""Layers over integers → calls of our kernels for them, on targets that schedule those."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray
from tvm import relax, tirx
from tvm.ir import Expr, Var

from schedules.cpu.byte_instructions import BYTES
from schedules.cpu.register_products import MATRIX_DEPTH, REGISTER
from tvm_mobilenet.compiler.graph.blocked_tensors import real
from tvm_mobilenet.compiler.graph.elementwise import dequantization
from tvm_mobilenet.compiler.graph.layer_rewriter import readers, stride_suffix, window_of
from tvm_mobilenet.compiler.graph.layers import (
    Elementwise,
    Epilogue,
    Layer,
    Pooling,
    QuantizedConvolution,
    QuantizedDense,
    Resize,
    WindowPooling,
    shape_of,
    sources,
    tensors,
)
from tvm_mobilenet.compiler.graph.legalize_tiles import byte_tiles, suits_tiles
from tvm_mobilenet.compiler.graph.quantized import requantized
from tvm_mobilenet.kernels.cpu.conv2d import Activation
from tvm_mobilenet.kernels.cpu.dot_nests import columns_read, tap_dwords
from tvm_mobilenet.kernels.cpu.expressions import SELF, QuantizationParameters, apply, quantize
from tvm_mobilenet.kernels.cpu.layout import MIN_VECTOR, Blocked, Halo
from tvm_mobilenet.kernels.cpu.quantized import (
    quantized_conv2d,
    quantized_dense,
    quantized_depthwise_conv2d,
    quantized_stem_conv2d,
)
from tvm_mobilenet.kernels.cpu.quantized_without_dots import (
    TAPPED,
    partial_conv2d,
    planar_stem_conv2d,
    tapped_depthwise_conv2d,
)
from tvm_mobilenet.kernels.cpu.requantization import (
    FLOAT_BIAS,
    FixedPoint,
    Requantization,
    fixed_point,
)
from tvm_mobilenet.kernels.cpu.sum_order import SumOrder, sum_order, taps_together
from tvm_mobilenet.kernels.cpu.weights import (
    dense_blocks,
    pack_bits,
    pack_channels,
    pack_planar_stem,
    pack_quantized_conv2d,
    pack_quantized_dense,
    pack_quantized_depthwise,
    pack_quantized_stem,
    panel_of,
)

if TYPE_CHECKING:
    from tvm_mobilenet.compiler.graph.legalize_cpu import Legalizer

PIXELS = 2  # of a matrix of bytes
LEAST_WEIGHT = -127
READ_INTEGERS = Pooling | WindowPooling | Resize  # layers that may read integers as real values
# the rules that layers over integers need
QUANTIZED = frozenset(
    {
        "quantized_conv2d",
        "quantized_dense",
        "quantized_depthwise_conv2d",
        "quantized_stem_conv2d",
    }
)


def quantized_convolution(to: Legalizer, layer: QuantizedConvolution) -> None:
    """Emit the kernel with its scale, bias and epilogue."""
    layer = requantized(with_table(to, layer))
    tiled = not layer.depthwise and layer.source not in to.images and suits_tiles(to, layer)
    fixed = None if tiled else in_fixed_point(to, layer)
    how, bits = (FLOAT_BIAS, None) if fixed is None else fixed
    if layer.source in to.images:
        func, name, args, out = stem(to, layer, how)
    elif tiled:
        func, name, args, out = byte_tiles(to, layer)
    elif layer.depthwise:
        func, name, args, out = depthwise(to, layer, how)
    else:
        func, name, args, out = dense_convolution(to, layer, how)
    scale, bias = pack_channels(layer.scale, out.vector), pack_channels(layer.bias, out.vector)
    args = [*args, scale, bias if bits is None else pack_bits(bits, out.vector)]
    to.emit_extended(layer, func, name + stride_suffix(layer), args, out)


def with_table(to: Legalizer, layer: QuantizedConvolution) -> QuantizedConvolution:
    """The layer with a lookup for what becomes of its result once that is a byte."""
    after = layer.epilogue
    place = 1 + len(after.operands)
    expression, table = to.looked_up(after.expression, place, to.layout(layer), {})
    return replace(layer, epilogue=replace(after, expression=expression, table=table))


# a kernel, its name, what it reads, and how its result lies
Emitted: TypeAlias = tuple[tirx.PrimFunc, str, list[Expr | NDArray[np.generic]], Blocked]


def in_fixed_point(
    to: Legalizer, layer: QuantizedConvolution
) -> tuple[FixedPoint, NDArray[np.int32]] | None:
    """How sums become bytes without floats, and its bias, where the target and the layer allow."""
    ends = Epilogue(apply(f"saturate_int_{layer.quantization.dtype}", SELF))
    if not to.integers_of_target.fixed_point:
        return None
    if layer.epilogue != ends or layer.activation != Activation():
        return None
    return fixed_point(layer.weight, layer.scale, layer.bias)


def stem(to: Legalizer, layer: QuantizedConvolution, how: Requantization) -> Emitted:
    out = to.layout(layer)
    top, left, bottom, right = layer.padding
    image = to.images[layer.source]
    batch, channels, height, width = shape_of(image)
    planar = to.integers_of_target.depth == REGISTER
    func = (planar_stem_conv2d if planar else quantized_stem_conv2d)(
        (batch, channels, height, width),
        (top, bottom, left, right),
        real(out),
        window_of(layer),
        layer.quantization,
        layer.activation,
        how,
    )
    name = f"quantized_stem_conv2d_{out.width}x{out.height}x{out.channels}"
    pack = pack_planar_stem if planar else pack_quantized_stem
    return func, name, [to.plain[image], pack(layer.weight, out.vector)], out


def depthwise(to: Legalizer, layer: QuantizedConvolution, how: Requantization) -> Emitted:
    out = to.layout(layer)
    x = to.in_lanes(layer.source, out.vector)
    name = f"quantized_depthwise_conv2d_{out.width}x{out.height}x{out.channels}"
    given = (x.layout, real(out), window_of(layer), layer.activation, how)
    if is_tapped(to, layer, out):
        weight = pack_taps(layer, out)
        together = taps_together(weight) if to.integers_of_target.in_words else 2
        func = tapped_depthwise_conv2d(*given, together=together)
        return func, name, [x.value, weight], out
    func = quantized_depthwise_conv2d(*given)
    taps = tap_dwords(out.width, layer.weight.shape[3], layer.stride[1], BYTES)
    weight = pack_quantized_depthwise(layer.weight, out.vector, taps.outputs, layer.stride[1])
    return func, name, [x.value, weight], out


def is_tapped(to: Legalizer, layer: QuantizedConvolution, out: Blocked) -> bool:
    """Whether a target without dot products multiplies a tap at a time.

    Two products are summed in 16 bits, which two of -128 would overflow.
    """
    plain = to.integers_of_target.depth == REGISTER
    return plain and out.vector % TAPPED == 0 and layer.weight.min() >= LEAST_WEIGHT


def pack_taps(layer: QuantizedConvolution, out: Blocked) -> NDArray[np.int8]:
    return pack_channels(layer.weight[:, 0], out.vector)


def dense_convolution(to: Legalizer, layer: QuantizedConvolution, how: Requantization) -> Emitted:
    x, out = to.as_blocked(layer.source), to.layout(layer)
    depth = depth_of(to, layer, x.layout, out)
    if depth == MATRIX_DEPTH:
        panel = max(n for n in (1, 2) if out.blocks // layer.groups % n == 0)
    elif to.integers_of_target.lanes is not None:
        panel = 1  # a vector of more bytes than floats is all the channels of a tile by itself
    else:
        panel = panel_of(out.blocks // layer.groups)
    given = (x.layout, real(out), window_of(layer), layer.activation)
    weight = pack_quantized_conv2d(layer.weight, out.vector, panel, depth)
    args: list[Expr | NDArray[np.generic]] = [x.value, weight]
    if depth == REGISTER:
        of_target = to.integers_of_target
        order = sum_order(weight, tables=layer.groups == 1) if of_target.in_words else SumOrder()
        func = partial_conv2d(
            *given, layer.groups, how, together=order.together, entries=order.entries
        )
        if order.table is not None:
            args = [x.value, order.reorder(weight), order.table]
    else:
        func = quantized_conv2d(*given, panel, layer.groups, depth, requantization=how)
    kernel = "x".join(map(str, layer.weight.shape[2:]))
    kind = "quantized_conv2d" if kernel != "1x1" else "quantized_pointwise_conv2d"
    name = f"{kind}_{out.width}x{out.height}x{x.layout.channels}_{out.channels}"
    return func, name, args, out


def depth_of(to: Legalizer, layer: QuantizedConvolution, x: Blocked, out: Blocked) -> int:
    """How many channels a step sums: the target's, where it fits the layer.

    They are all of a vector. A matrix of bytes has two neighbouring pixels, which lie side by side.
    Without dot products, two products are summed in 16 bits, which two of -128 would overflow.
    """
    depth, channels = to.integers_of_target.depth, layer.weight.shape[1]
    fits = x.vector == depth and (layer.groups == 1 or channels % depth == 0)
    if depth == REGISTER:
        fits = fits and layer.weight.min() >= LEAST_WEIGHT
    else:
        first = x.halo.left - layer.padding[1]
        fits = fits and layer.stride[1] == 1
        fits = fits and first + read_by_pairs(layer, out.width) <= x.padded_width
    return depth if fits else BYTES


def quantized_matrix_product(to: Legalizer, layer: QuantizedDense) -> None:
    """Emit the kernel of a fully connected layer."""
    layer = requantized(layer)
    v = to.byte_lanes
    features_in, features_out = layer.weight.shape
    panel, blocks = dense_blocks(features_out, v, full_panels=not to.small_weights)
    batch = math.prod(shape_of(layer.source)[:-1])
    features, dtype = (features_in, features_out), layer.quantization.dtype
    func = quantized_dense(batch, features, blocks, panel, v, layer.activation, dtype)
    args = [
        to.as_rows(layer.source),
        pack_quantized_dense(layer.weight, v, blocks, panel),
        layer.scale,
        layer.bias,
    ]
    name = f"quantized_dense_{features_in}_{features_out}"
    to.emit_rows(layer, func, name, args, (batch, features_out))


def needed_halo(layer: QuantizedConvolution, depth: int) -> Halo:
    """Its padding, and what it reads beyond that on the right, of steps of so many channels."""
    top, left, bottom, right = layer.padding
    width, columns = shape_of(layer.source)[3], shape_of(layer.result)[3]
    if layer.depthwise:
        read = columns_read(columns, layer.weight.shape[3], layer.stride[1], BYTES)
        right = max(right, read - left - width)
    elif depth == MATRIX_DEPTH and layer.stride[1] == 1:
        right = max(right, read_by_pairs(layer, columns) - left - width)
    return Halo(top, bottom, left, right)


def read_by_pairs(layer: QuantizedConvolution, columns: int) -> int:
    """Of a row, for so many ``columns`` of the result, by matrices of two."""
    taps: int = layer.weight.shape[3]
    return columns + columns % PIXELS + (taps - 1) * layer.dilation[1]


def fills(layers: list[Layer]) -> dict[Var, int]:
    """The zero point of each tensor of integers that a convolution reads."""
    return {
        layer.source: layer.quantization.zero_point
        for layer in layers
        if isinstance(layer, QuantizedConvolution)
    }


def take_images(
    layers: list[Layer], function: relax.Function
) -> tuple[list[Layer], dict[Var, Var]]:
    """The layers without the quantization of plain images that first convolutions do.

    And the image, for each tensor of integers that such a convolution reads.
    """
    counts = readers(layers, function)
    params = set(function.params)
    quantized = {
        layer.result: layer
        for layer in layers
        if isinstance(layer, Elementwise)
        and layer.operands[0] in params
        and counts[layer.result] == 1
    }
    images: dict[Var, Var] = {}
    for layer in layers:
        if not isinstance(layer, QuantizedConvolution) or layer.source not in quantized:
            continue
        before = quantized[layer.source]
        dense = not layer.depthwise and layer.groups == 1 and layer.dilation == (1, 1)
        same = before.expression == quantize(SELF, layer.quantization)
        if dense and same and layer.weight.shape[1] < MIN_VECTOR:
            (images[layer.source],) = tensors(before.operands)
    return [layer for layer in layers if layer.result not in images], images


def take_integer_sources(
    layers: list[Layer], function: relax.Function
) -> tuple[list[Layer], dict[Var, tuple[Var, QuantizationParameters]]]:
    """The layers without what only dequantizes for kernels that can do so as they read.

    And the integers and what they stand for, for each tensor that such a layer makes.
    """
    read_by: dict[Var, list[Layer]] = {}
    for layer in layers:
        for var in sources(layer):
            read_by.setdefault(var, []).append(layer)
    given_out = readers([], function)
    taken = {
        layer.result: found
        for layer in layers
        if (found := dequantization(layer)) is not None
        and not given_out[layer.result]
        and all(isinstance(one, READ_INTEGERS) for one in read_by[layer.result])
    }
    return [layer for layer in layers if layer.result not in taken], taken
