"""What every legalization does: the layers of a Relax function one by one, each as kernel calls.

A subclass says how its kernels' activations lie in memory. A tensor that an operator without a
kernel reads, or that the network gives out, is asked for in the plain layout.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import relax, tirx
from tvm.ir import Call, Expr, Var

from schedules.filter_window import Window
from tvm_mobilenet.compiler.graph.fold_padding import fold_padding
from tvm_mobilenet.compiler.graph.layers import (
    Convolution,
    Dense,
    Layer,
    Other,
    Pooling,
    QuantizedConvolution,
    QuantizedDense,
    is_call,
    is_plain,
    shape_of,
    sources,
    variables,
)
from tvm_mobilenet.compiler.graph.read_layers import read_layers

Array = NDArray[np.float32]
MATRIX = 2  # dimensions


class LayerRewriter(ABC):
    """Emits a new function for ``function``; ``plain`` are the tensors in the plain layout."""

    def __init__(self, function: relax.Function) -> None:
        self.function = function
        self.layers = fold_padding(read_layers(function, self.takes), function.body.body)
        self.builder = relax.BlockBuilder()
        self.plain: dict[Var, Expr] = {}
        self.given_out = set(variables(function.body.body))
        self.splits: dict[Var, Call] = {}  # each part is cut out by itself

    def run(self) -> tvm.IRModule:
        """The module of the new function, ``main``, and its kernels."""
        emit = self.emitters()
        params = list(self.function.params)
        self.plain.update((param, param) for param in params)
        with self.builder.function("main", params, attrs=dict(self.function.attrs or {})):
            with self.builder.dataflow():
                for layer in self.layers:
                    emit[type(layer)](layer)
                output = self.builder.emit_output(self.rewritten(self.function.body.body))
            self.builder.emit_func_output(output)
        return self.builder.finalize()

    def takes(self, layer: Convolution) -> bool:
        """Whether there is a kernel for the convolution."""
        return is_plain(layer)

    def emitters(self) -> dict[type, Callable[..., None]]:
        """What emits each kind of layer."""
        return {
            Convolution: self.convolution,
            Pooling: self.pooling,
            Dense: self.dense,
            Other: self.other,
        }

    @abstractmethod
    def convolution(self, layer: Convolution) -> None: ...

    @abstractmethod
    def pooling(self, layer: Pooling) -> None: ...

    @abstractmethod
    def dense(self, layer: Dense) -> None: ...

    @abstractmethod
    def unpack_var(self, var: Var) -> Expr:
        """Emit the plain tensor of one in the kernels' own layout."""

    def other(self, layer: Other) -> None:
        value = layer.value
        if is_call(value, "relax.split") and layer.result not in self.given_out:
            self.splits[layer.result] = value
            return
        if isinstance(value, relax.TupleGetItem) and value.tuple_value in self.splits:
            value = part(self.splits[value.tuple_value], value.index)
        self.plain[layer.result] = self.builder.emit(self.rewritten(value))

    def as_plain(self, var: Var) -> Expr:
        if var not in self.plain:
            self.plain[var] = self.unpack_var(var)
        return self.plain[var]

    def as_rows(self, var: Var) -> Expr:
        """The plain tensor as (rows, features)."""
        plain, shape = self.as_plain(var), shape_of(var)
        if len(shape) == MATRIX:
            return plain
        return self.builder.emit(relax.op.reshape(plain, (math.prod(shape[:-1]), shape[-1])))

    def give_rows(self, layer: Dense | QuantizedDense, rows: Expr) -> None:
        """The result of a layer, which comes as (rows, features)."""
        shape = shape_of(layer.result)
        same = len(shape) == MATRIX
        self.plain[layer.result] = (
            rows if same else self.builder.emit(relax.op.reshape(rows, shape))
        )

    def rewritten(self, value: Expr) -> Expr:
        """``value`` with every variable replaced by its plain tensor."""
        if isinstance(value, Var):
            return self.as_plain(value)
        if isinstance(value, Call):
            args = [self.rewritten(arg) for arg in value.args]
            return Call(value.op, args, value.attrs, value.ty_args)
        if isinstance(value, relax.Tuple):
            return relax.Tuple([self.rewritten(item) for item in value.fields])
        if isinstance(value, relax.TupleGetItem):
            return relax.TupleGetItem(self.rewritten(value.tuple_value), value.index)
        return value

    def call(
        self,
        func: tirx.PrimFunc,
        name: str,
        args: Sequence[Expr | NDArray[np.generic]],
        shape: tuple[int, ...],
        dtype: str = "float32",
    ) -> Var:
        """Emit one kernel call; equal kernels become one function."""
        gvar = self.builder.add_func(func.without_attr("global_symbol"), name)
        exprs = [relax.const(arg) if isinstance(arg, np.ndarray) else arg for arg in args]
        return self.builder.emit(relax.call_tir(gvar, exprs, out_ty=relax.TensorType(shape, dtype)))


def part(split: Call, index: int) -> Call:
    """One of the tensors that ``split`` cuts one into."""
    axis, cuts = int(split.attrs.axis), split.attrs.indices_or_sections
    size = int(split.args[0].ty.shape[axis])
    if isinstance(cuts, tirx.IntImm):
        each = size // int(cuts)
        ends = [each * (place + 1) for place in range(int(cuts))]
    else:
        ends = [*(int(cut) for cut in cuts), size]
    begins = [0, *ends]
    return relax.op.strided_slice(split.args[0], [axis], [begins[index]], [ends[index]])


def readers(layers: list[Layer], function: relax.Function) -> Counter[Var]:
    """How many layers read each tensor; the function's result counts as one."""
    counts = Counter(var for layer in layers for var in sources(layer))
    counts.update(variables(function.body.body))
    return counts


def separable_pairs(
    layers: list[Layer], function: relax.Function
) -> Iterator[tuple[Convolution, Convolution]]:
    """Depthwise convolutions with the 1x1 convolution that alone reads their result."""
    made_by = {layer.result: layer for layer in layers}
    counts = readers(layers, function)
    for layer in layers:
        if isinstance(layer, Convolution) and is_pointwise(layer):
            first = made_by.get(layer.source)
            if isinstance(first, Convolution) and first.depthwise and counts[first.result] == 1:
                yield first, layer


def convolution_chains(layers: list[Layer], function: relax.Function) -> list[list[Convolution]]:
    """Depthwise and 1x1 convolutions in turn, each the only reader of the one before it."""
    counts = readers(layers, function)
    chains: list[list[Convolution]] = []
    ends: dict[Var, list[Convolution]] = {}  # chains by what their last layer computes
    for layer in layers:
        if not isinstance(layer, Convolution) or not (layer.depthwise or is_pointwise(layer)):
            continue
        chain = ends.get(layer.source)
        if chain is None or counts[layer.source] != 1 or chain[-1].depthwise == layer.depthwise:
            chain = []
            chains.append(chain)
        chain.append(layer)
        ends[layer.result] = chain
    return chains


def is_pointwise(layer: Convolution) -> bool:
    """Whether it is a 1x1 convolution that reads every pixel once."""
    kernel = layer.weight.shape[2:]
    dense = not layer.depthwise and layer.groups == 1
    return dense and kernel == layer.stride == (1, 1) and not any(layer.padding)


def stride_suffix(layer: Convolution | QuantizedConvolution) -> str:
    """Of a kernel's name."""
    return f"_s{layer.stride[0]}" if layer.stride != (1, 1) else ""


def window_of(layer: Convolution | QuantizedConvolution) -> Window:
    """Which pixels its taps read."""
    top, left, *_ = layer.padding
    return Window(layer.weight.shape[2:], layer.stride, (top, left), layer.dilation)
