"""Convolutions and matrix products of dequantized tensors → layers over the integers.

What reads a dequantized tensor otherwise, and what integer kernels do not cover, is computed in
float32, from integers in memory where that is arithmetic of each element.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from tvm.ir import Constant, Expr, Var

from schedules.cpu.byte_instructions import BYTES
from tvm_mobilenet.compiler.graph.integers import Array, Integers
from tvm_mobilenet.compiler.graph.layers import (
    Convolution,
    Dense,
    Layer,
    Other,
    QuantizedConvolution,
    QuantizedDense,
    is_call,
    shape_of,
    sources,
    variables,
)
from tvm_mobilenet.kernels.cpu.conv2d import Activation
from tvm_mobilenet.kernels.cpu.expressions import (
    LIMITS,
    LOOKUP,
    SELF,
    Apply,
    Expression,
    QuantizationParameters,
    apply,
    dtype_of,
)

OverIntegers = TypeVar("OverIntegers", QuantizedConvolution, QuantizedDense)
LARGEST = 255  # of all bytes, whatever their type
INT32 = 2.0**31


def quantization_of(value: Expr) -> QuantizationParameters | None:
    """Of a call that quantizes to, or dequantizes, bytes by one scale for all of the tensor."""
    if not is_call(value, "relax.quantize") and not is_call(value, "relax.dequantize"):
        return None
    _, scale, zero_point = value.args
    if not isinstance(scale, Constant) or not isinstance(zero_point, Constant):
        return None
    scales, zeros = scale.value.numpy(), zero_point.value.numpy()
    dtype = str(zeros.dtype)
    if scales.size != 1 or zeros.size != 1 or dtype not in LIMITS:
        return None
    return QuantizationParameters(float(scales.reshape(())), int(zeros.reshape(())), dtype)


def dequantized(layer: Layer) -> tuple[Var, QuantizationParameters] | None:
    """The integers that the layer makes real values of."""
    if not isinstance(layer, Other) or not is_call(layer.value, "relax.dequantize"):
        return None
    quantization, source = quantization_of(layer.value), layer.value.args[0]
    if quantization is None or not isinstance(source, Var):
        return None
    return source, quantization


def take_quantized(layers: Sequence[Layer], results: Expr) -> list[Layer]:
    """``layers`` with those over integers; ``results`` are what the network gives out."""
    made = {layer.result: one for layer in layers if (one := dequantized(layer)) is not None}
    taken: list[Layer] = []
    fills: dict[Var, int] = {}  # what stands in the halo of integers, the first reader's
    for layer in layers:
        if isinstance(layer, Convolution | Dense) and layer.source in made:
            source, quantization = made[layer.source]
            zero = quantization.zero_point
            if fills.setdefault(source, zero) == zero:
                layer = over_integers(layer, source, quantization) or layer
        taken.append(layer)
    read = {var for layer in taken for var in sources(layer)} | set(variables(results))
    return [layer for layer in taken if layer.result not in made or layer.result in read]


def over_integers(
    layer: Convolution | Dense, source: Var, quantization: QuantizationParameters
) -> QuantizedConvolution | QuantizedDense | None:
    """The layer, over the integers ``source`` that it dequantizes; None where no kernel does."""
    integers = layer.integers
    if integers is None:
        return None
    if isinstance(layer, Dense):
        scale = channel_scales(integers, axis=1)
        if scale is None or integers.array.shape[0] % BYTES or len(shape_of(source)) != 2:
            return None
        scale, bias = corrected(integers.array.sum(0, np.int64), scale, layer.bias, quantization)
        return QuantizedDense(
            source,
            quantization,
            layer.result,
            integers.array,
            scale,
            bias,
            layer.activation,
            layer.epilogue,
        )
    channel_scale = channel_scales(integers, axis=0)
    if channel_scale is None or not suits(layer):
        return None
    sums = integers.array.sum((1, 2, 3), np.int64)
    scale, bias = corrected(sums, channel_scale, layer.bias, quantization)
    return QuantizedConvolution(
        source,
        quantization,
        layer.result,
        integers.array,
        scale,
        bias,
        layer.stride,
        layer.padding,
        layer.depthwise,
        layer.groups,
        layer.dilation,
        layer.activation,
        layer.epilogue,
    )


def suits(layer: Convolution) -> bool:
    """Whether dot products of four bytes compute it."""
    if layer.depthwise:
        return layer.dilation == (1, 1)
    channels_out, channels_in = layer.weight.shape[:2]
    return layer.groups == 1 or (
        channels_in % BYTES == 0 and channels_out // layer.groups % BYTES == 0
    )


def channel_scales(integers: Integers, axis: int) -> Array | None:
    """One scale for each output channel; None where they differ along any other axis."""
    shape = [1] * integers.array.ndim
    shape[axis] = integers.array.shape[axis]
    scale = np.asarray(integers.scale)
    if scale.size not in (1, shape[axis]) or scale.size not in (1, scale.shape[axis]):
        return None
    return np.broadcast_to(scale.reshape(-1), shape[axis]).astype(np.float32)


def corrected(
    sums: NDArray[np.int64], scale: Array, bias: Array, quantization: QuantizationParameters
) -> tuple[Array, Array]:
    """What a sum of products is multiplied by, and the bias with the zero point's share in it."""
    scales = scale.astype(np.float64) * quantization.scale
    biases = bias.astype(np.float64) - scales * sums * quantization.zero_point
    return scales.astype(np.float32), biases.astype(np.float32)


def requantized(layer: OverIntegers) -> OverIntegers:
    """The layer with its result's scale and zero point in its own, where it ends in that.

    Its end is the byte that is looked up in a table, where it has one.
    """
    rounded, finish = looked_up(layer.epilogue.expression)
    factor, shift = scaling_of(rounded)
    if layer.epilogue.operands or factor is None or shift is None:
        return layer
    low, high = layer.activation.low, layer.activation.high
    dtype = dtype_of(rounded)
    least, greatest = LIMITS[dtype]
    lowest = None if low is None or low * factor + shift <= least else low * factor + shift
    highest = None if high is None or high * factor + shift >= greatest else high * factor + shift
    return replace(
        layer,
        scale=layer.scale * np.float32(factor),
        bias=layer.bias * np.float32(factor) + np.float32(shift),
        activation=Activation(lowest, highest),
        epilogue=replace(
            layer.epilogue,
            expression=finish(apply(saturation(layer, factor, shift, dtype), SELF)),
        ),
    )


def looked_up(expression: Expression) -> tuple[Expression, Callable[[Expression], Expression]]:
    """The byte that ``expression`` looks up in a table, itself if none, and what finishes it."""
    match expression:
        case Apply(operator, (byte, table)) if operator.startswith(LOOKUP):
            return byte, lambda other: apply(operator, other, table)
    return expression, lambda other: other


def saturation(
    layer: QuantizedConvolution | QuantizedDense, factor: float, shift: float, dtype: str
) -> str:
    """How a result, ``factor`` times the layer's own plus ``shift``, becomes a byte."""
    channels = 1 if isinstance(layer, QuantizedDense) else 0
    others = tuple(place for place in range(layer.weight.ndim) if place != channels)
    sums = np.abs(layer.weight.astype(np.int64)).sum(others) * LARGEST
    largest = np.abs(layer.scale * factor) * sums + np.abs(layer.bias * factor + shift)
    return f"saturate_int_{dtype}" if largest.max() < INT32 else f"saturate_{dtype}"


def scaling_of(expression: Expression) -> tuple[float, float] | tuple[None, None]:
    """What a quantized layer's result is multiplied by before it is rounded, and what is added."""
    match expression:
        case Apply(
            "saturate_uint8" | "saturate_int8",
            (Apply("add", (Apply("multiply", (own, float(factor))), float(shift))),),
        ) if own == SELF:
            return factor, shift
    return None, None
