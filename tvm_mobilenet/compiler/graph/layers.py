"""A Relax function as a list of layers: each convolution with its bias and activation in it.

The importer's operators come one by one; this module recognises the chains that our kernels
compute in one go and keeps every other operator as it is.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from tvm import relax
from tvm.ir import Call, Constant, Expr, Var

from tvm_mobilenet.kernels.cpu.conv2d import Activation

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Convolution:
    """conv2d (NCHW, OIHW) + bias + activation; padding is (top, left, bottom, right)."""

    source: Var
    result: Var
    weight: Array
    bias: Array
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    depthwise: bool
    activation: Activation = field(default_factory=Activation)


@dataclass(frozen=True)
class Pooling:
    """Mean over the image, (N, C, H, W) → (N, C, 1, 1) or (N, C)."""

    source: Var
    result: Var


@dataclass(frozen=True)
class Dense:
    """Matrix product with a constant (C_in, C_out), + bias + activation."""

    source: Var
    result: Var
    weight: Array
    bias: Array
    activation: Activation = field(default_factory=Activation)


@dataclass(frozen=True)
class Other:
    """Any other operator, left to TVM's own legalization."""

    value: Expr
    result: Var


Layer = Convolution | Pooling | Dense | Other


def read_layers(function: relax.Function) -> list[Layer]:
    """The layers of a function of one dataflow block, in order of execution."""
    bindings = [binding for block in function.body.blocks for binding in block.bindings]
    uses = Counter(var for binding in bindings for var in variables(binding.value))
    uses.update(variables(function.body.body))
    made_by: dict[Var, int] = {}
    layers: list[Layer] = []
    for binding in bindings:
        value, result = binding.value, binding.var
        grown = grow(value, result, layers, made_by, uses)
        if grown is not None:
            layers[made_by[grown_from(value)]] = grown
            made_by[result] = made_by[grown_from(value)]
            continue
        made_by[result] = len(layers)
        layers.append(start(value, result))
    return layers


def variables(value: Expr) -> Iterable[Var]:
    """The variables that ``value`` reads, once for each time it reads them."""
    if isinstance(value, Var):
        yield value
    elif isinstance(value, Call):
        for arg in value.args:
            yield from variables(arg)
    elif isinstance(value, relax.Tuple):
        for item in value.fields:
            yield from variables(item)
    elif isinstance(value, relax.TupleGetItem):
        yield from variables(value.tuple_value)


def start(value: Expr, result: Var) -> Layer:
    """The layer that begins with this operator."""
    return (
        convolution(value, result)
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
    if (
        not isinstance(source, Var)
        or layouts != ("NCHW", "OIHW", "NCHW")
        or any(d != 1 for d in attrs.dilation)
        or not (attrs.groups == 1 or depthwise)
    ):
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
    if not isinstance(source, Var) or len(source.ty.shape) != 2 or len(weight.ty.shape) != 2:
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
    bias = added_bias(value, layer)
    if bias is not None:
        return replace(layer, bias=layer.bias + bias, result=result)
    clamp = activation(value)
    if clamp is not None and layer.activation == Activation():
        return replace(layer, activation=clamp, result=result)
    return None


def added_bias(value: Call, layer: Convolution | Dense) -> Array | None:
    """The constant that ``value`` adds per output channel."""
    constants = [arg for arg in value.args if is_constant(arg)]
    if not is_call(value, "relax.add") or len(constants) != 1 or layer.activation != Activation():
        return None
    array: Array = constants[0].value.numpy()
    channels = len(layer.bias)
    after = 2 if isinstance(layer, Convolution) else 0
    if array.size != channels or array.shape[-1 - after :] != (channels,) + (1,) * after:
        return None
    return array.reshape(channels)


def activation(value: Call) -> Activation | None:
    if is_call(value, "relax.nn.relu"):
        return Activation(low=0.0)
    if is_call(value, "relax.clip"):
        low, high = (float(bound.value) for bound in value.args[1:])
        return Activation(
            low if math.isfinite(low) else None, high if math.isfinite(high) else None
        )
    return None


def is_call(value: Expr, operator: str) -> bool:
    return isinstance(value, Call) and getattr(value.op, "name", None) == operator


def is_constant(value: Expr) -> bool:
    return isinstance(value, Constant) and value.ty.dtype == "float32"
