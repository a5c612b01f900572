"""A Relax function as a list of layers: each convolution with its bias and activation in it.

The importer's operators come one by one; this module recognises the chains that our kernels
compute in one go and keeps every other operator as it is.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from tvm import relax
from tvm.ir import Call, Expr, Var

from tvm_mobilenet.compiler.graph.integers import KnownValues
from tvm_mobilenet.compiler.graph.layers import (
    Array,
    Convolution,
    Dense,
    Layer,
    Other,
    Pooling,
    is_call,
    is_constant,
    is_plain,
    variables,
)
from tvm_mobilenet.kernels.cpu.conv2d import Activation


def read_layers(
    function: relax.Function, takes: Callable[[Convolution], bool] = is_plain
) -> list[Layer]:
    """The layers of a function of one dataflow block, in order of execution.

    A convolution that nobody ``takes`` is any other operator.
    """
    bindings = [binding for block in function.body.blocks for binding in block.bindings]
    uses = Counter(var for binding in bindings for var in variables(binding.value))
    uses.update(variables(function.body.body))
    made_by: dict[Var, int] = {}
    layers: list[Layer] = []
    known = KnownValues()
    for binding in bindings:
        value, result = binding.value, binding.var
        if known.take(value, result):
            continue
        integers = known.integers_of(value)
        value = known.substituted(value)
        grown = grow(value, result, layers, made_by, uses)
        if grown is not None:
            layers[made_by[grown_from(value)]] = grown
            made_by[result] = made_by[grown_from(value)]
            continue
        made_by[result] = len(layers)
        layer = start(value, result, takes)
        if isinstance(layer, Convolution | Dense | Other):
            layer = replace(layer, integers=integers)
        layers.append(layer)
    return layers


def start(value: Expr, result: Var, takes: Callable[[Convolution], bool]) -> Layer:
    """The layer that begins with this operator."""
    filtered = convolution(value, result)
    return (
        (filtered if filtered is not None and takes(filtered) else None)
        or pooling(value, result)
        or matrix_product(value, result)
        or Other(value, result)
    )


def convolution(value: Expr, result: Var) -> Convolution | None:
    if not is_call(value, "relax.nn.conv2d") or not is_constant(value.args[1]):
        return None
    attrs, (source, weight) = value.attrs, value.args
    layouts = (attrs.data_layout, attrs.kernel_layout, attrs.out_layout)
    channels = int(source.ty.shape[1])
    depthwise = attrs.groups == channels == weight.ty.shape[0] and channels > 1
    if not isinstance(source, Var) or layouts != ("NCHW", "OIHW", "NCHW"):
        return None
    array = weight.value.numpy()
    stride_h, stride_w = (int(s) for s in attrs.strides)
    top, left, bottom, right = (int(p) for p in attrs.padding)
    return Convolution(
        source=source,
        result=result,
        weight=array,
        bias=np.zeros(array.shape[0], np.float32),
        stride=(stride_h, stride_w),
        padding=(top, left, bottom, right),
        depthwise=depthwise,
        groups=1 if depthwise else int(attrs.groups),
        dilation=(int(attrs.dilation[0]), int(attrs.dilation[1])),
    )


def pooling(value: Expr, result: Var) -> Pooling | None:
    if is_call(value, "relax.mean"):
        source, axes = value.args[0], value.attrs.axis
        over_image = axes is not None and sorted(int(a) % 4 for a in axes) == [2, 3]
        if isinstance(source, Var) and len(source.ty.shape) == 4 and over_image:
            return Pooling(source, result)
    return None


def matrix_product(value: Expr, result: Var) -> Dense | None:
    if not is_call(value, "relax.matmul") or not is_constant(value.args[1]):
        return None
    source, weight = value.args
    if not isinstance(source, Var) or len(source.ty.shape) < 2 or len(weight.ty.shape) != 2:
        return None
    array = weight.value.numpy()
    return Dense(source, result, array, np.zeros(array.shape[1], np.float32))


def grown_from(value: Expr) -> Var:
    """The variable whose layer a bias or activation grows."""
    return next(arg for arg in value.args if isinstance(arg, Var))


def grow(
    value: Expr, result: Var, layers: list[Layer], made_by: dict[Var, int], uses: Counter[Var]
) -> Convolution | Dense | None:
    """The layer before this operator with the operator in it; None where it cannot take it."""
    if not isinstance(value, Call) or not any(isinstance(arg, Var) for arg in value.args):
        return None
    source = grown_from(value)
    if source not in made_by or uses[source] != 1:
        return None
    layer = layers[made_by[source]]
    if not isinstance(layer, Convolution | Dense):
        return None
    line = scale_and_shift(value, layer)
    if line is not None:
        scale, shift = line
        along = scale[:, None, None, None] if isinstance(layer, Convolution) else scale
        return replace(
            layer,
            weight=layer.weight * along,
            bias=layer.bias * scale + shift,
            result=result,
            integers=layer.integers and layer.integers.scaled(along),
        )
    clamp = activation(value)
    if clamp is not None and layer.activation == Activation():
        return replace(layer, activation=clamp, result=result)
    return None


def scale_and_shift(value: Call, layer: Convolution | Dense) -> tuple[Array, Array] | None:
    """What ``value`` multiplies each output channel by, and what it adds to it."""
    operator = getattr(value.op, "name", "").removeprefix("relax.")
    if (
        operator not in ("add", "subtract", "multiply", "divide")
        or layer.activation != Activation()
    ):
        return None
    first, second = value.args
    constant = second if is_constant(second) else first
    if not is_constant(constant) or (operator in ("subtract", "divide") and constant is first):
        return None
    array: Array = constant.value.numpy()
    channels = len(layer.bias)
    after = 2 if isinstance(layer, Convolution) else 0
    if array.size == 1 and array.ndim <= after + 2:
        array = np.broadcast_to(array.reshape(1), channels)
    elif array.size != channels or array.shape[-1 - after :] != (channels,) + (1,) * after:
        return None
    numbers: Array = array.reshape(channels)
    zeros, ones = np.zeros_like(numbers), np.ones_like(numbers)
    if operator == "divide":
        return np.reciprocal(numbers), zeros
    if operator == "multiply":
        return numbers, zeros
    return ones, -numbers if operator == "subtract" else numbers


def activation(value: Call) -> Activation | None:
    if is_call(value, "relax.nn.relu"):
        return Activation(low=0.0)
    if is_call(value, "relax.clip"):
        low, high = (float(bound.value) for bound in value.args[1:])
        return Activation(
            low if math.isfinite(low) else None, high if math.isfinite(high) else None
        )
    return None
