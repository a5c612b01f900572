"""Elementwise operators → expressions, each in the kernel that computes what it reads.

An activation that exporters spell with four operators, a residual addition, the scale of a
squeeze-excite block: each becomes an expression over whole tensors. Expressions of which only one
other reads the result are put into that one, and the last goes into the epilogue of the convolution
before it. What has no such convolution is a layer of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from tvm import relax
from tvm.ir import Call, Constant, Expr, Var

from tvm_mobilenet.compiler.graph.layers import (
    Array,
    Convolution,
    Dense,
    Elementwise,
    Epilogue,
    Layer,
    Operand,
    Other,
    Pooling,
    QuantizedDense,
    WithEpilogue,
    is_call,
    is_constant,
    shape_of,
    sources,
    tensors,
    variables,
)
from tvm_mobilenet.compiler.graph.quantized import quantization_of
from tvm_mobilenet.compiler.graph.reparameterize import merged
from tvm_mobilenet.compiler.graph.selections import choose, where_greater
from tvm_mobilenet.kernels.cpu import expressions
from tvm_mobilenet.kernels.cpu.expressions import (
    SELF,
    Expression,
    Input,
    QuantizationParameters,
    apply,
)

MOST_OPERATIONS = 48  # of one expression; more would only make slow code
MOST_OPERANDS = 4
# layers whose epilogues read no other tensors
FEW_OPERANDS = Dense | QuantizedDense | Pooling
SAME_NAME = (
    *("abs", "add", "divide", "erf", "exp", "log", "maximum", "minimum", "multiply", "negative"),
    *("sigmoid", "sqrt", "subtract", "tanh"),
)


def clip(value: Call, args: Sequence[Expression]) -> Expression:
    low, high = (float(bound.value) for bound in value.args[1:])
    return expressions.clip(args[0], low, high)


def same_name(value: Call, args: Sequence[Expression]) -> Expression:
    return apply(value.op.name.removeprefix("relax."), *args)


def power(value: Call, args: Sequence[Expression]) -> Expression | None:
    base, exponent = args
    return expressions.power(base, exponent) if isinstance(exponent, float) else None


# None where it is left to TVM
OPERATORS: dict[str, Callable[[Call, Sequence[Expression]], Expression | None]] = {
    **dict.fromkeys([f"relax.{name}" for name in SAME_NAME], same_name),
    "relax.clip": clip,
    "relax.power": power,
    "relax.nn.gelu": lambda _, args: expressions.gelu(args[0]),
    "relax.nn.gelu_tanh": lambda _, args: expressions.gelu_tanh(args[0]),
    "relax.nn.leakyrelu": lambda value, args: expressions.leaky_relu(
        args[0], float(value.attrs.alpha)
    ),
    "relax.nn.prelu": lambda _, args: expressions.leaky_relu(args[0], args[1]),
    "relax.nn.relu": lambda _, args: expressions.relu(args[0]),
    "relax.nn.relu6": lambda _, args: expressions.clip(args[0], 0.0, 6.0),
    "relax.nn.silu": lambda _, args: expressions.silu(args[0]),
}


def fuse_elementwise(layers: Sequence[Layer], results: Expr) -> list[Layer]:
    """``layers`` with each elementwise operator where it is best computed.

    ``results`` is what the network gives out.
    """
    return _Fuser(results).run(choose(layers, results, arithmetic))


def elementwise(layer: Other) -> Elementwise | None:
    """The operator as an expression; None where it is none, or broadcasts in a way that no kernel
    of ours does."""
    value, result = layer.value, layer.result
    quantization = quantization_of(value)
    if quantization is not None:
        return between_integers(value, result, quantization)
    operator = OPERATORS.get(getattr(getattr(value, "op", None), "name", ""))
    if operator is None:
        return None
    # bounds of a clip are no tensors
    given = [arg for arg in value.args if isinstance(arg.ty, relax.TensorType)]
    axis = value.attrs.axis if hasattr(value.attrs, "axis") else None
    return arithmetic(given, result, lambda *args: operator(value, args), axis)


def arithmetic(
    given: Sequence[Expr],
    result: Var,
    operator: Callable[..., Expression | None],
    axis: int | None = None,
) -> Elementwise | None:
    """``operator`` of the tensors ``given``, of which vectors after the first lie along ``axis``.

    None where the operator gives none, or a tensor is one that no kernel of ours takes beside
    ``result``.
    """
    if any(str(one.ty.dtype) != "float32" for one in (result, *given)):
        return None
    if len(result.ty.shape) not in (2, 4):
        return None
    operands: list[Operand] = []
    args: list[Expression] = []
    for position, arg in enumerate(given):
        read = operand(arg, result, axis if position else None)
        if read is None:
            return None
        if isinstance(read, float):
            args.append(read)
        else:
            args.append(Input(len(operands)))
            operands.append(read)
    whole = any(isinstance(one, Var) and shape_of(one) == shape_of(result) for one in operands)
    expression = operator(*args) if whole else None
    return None if expression is None else joined(result, expression, operands)


def between_integers(
    value: Call, result: Var, quantization: QuantizationParameters
) -> Elementwise | None:
    """The operator that makes integers of real values, or those of integers."""
    source = value.args[0]
    if not isinstance(source, Var) or len(result.ty.shape) not in (2, 4):
        return None
    to_integers = is_call(value, "relax.quantize")
    between = expressions.quantize if to_integers else expressions.dequantize
    return Elementwise(result, between(SELF, quantization), (source,))


def operand(arg: Var | Constant, result: Var, axis: int | None) -> Operand | float | None:
    """``arg`` as an expression reads it beside ``result``; a vector lies along ``axis``."""
    mine, full = shape_of(arg), shape_of(result)
    if isinstance(arg, Var):
        one_pixel = len(full) == 4 and mine == (*full[:2], 1, 1)
        return arg if mine == full or one_pixel else None
    if not is_constant(arg):
        return None
    array: Array = arg.value.numpy()
    if array.size == 1:
        return float(array.reshape(()))
    if axis is not None and len(mine) == 1:
        mine = mine + (1,) * (len(full) - 1 - axis % len(full))
    after = (1,) * (len(full) - 2)
    aligned = (1,) * (len(full) - len(mine)) + mine
    return array.reshape(-1) if aligned == (1, full[1], *after) else None


def joined(result: Var, expression: Expression, operands: Sequence[Operand]) -> Elementwise:
    """With each tensor once among the operands, and without those that are not read."""
    kept: list[Operand] = []
    places: list[Expression] = []
    read = expressions.inputs(expression)
    for index, one in enumerate(operands):
        known = [place for place, other in enumerate(kept) if is_same(other, one)]
        if index not in read:
            places.append(0.0)
        elif known:
            places.append(Input(known[0]))
        else:
            places.append(Input(len(kept)))
            kept.append(one)
    simplified = expressions.simplified(expressions.substitute(expression, places))
    return Elementwise(result, simplified, tuple(kept))


def dequantization(layer: Layer) -> tuple[Var, QuantizationParameters] | None:
    """The integers that a layer gives nothing but the real values of."""
    if not isinstance(layer, Elementwise):
        return None
    first, quantization = layer.operands[0], expressions.dequantization(layer.expression)
    if quantization is None or not isinstance(first, Var):
        return None
    dtype = str(first.ty.dtype)
    return (first, replace(quantization, dtype=dtype)) if dtype in expressions.LIMITS else None


def is_same(one: Operand, other: Operand) -> bool:
    return one is other or (isinstance(one, Var) and isinstance(other, Var) and one.same_as(other))


@dataclass
class _Fuser:
    results: Expr

    def __post_init__(self) -> None:
        self.layers: dict[int, Layer] = {}
        self.made_by: dict[Var, int] = {}
        self.readers: dict[Var, set[int]] = {var: {-1} for var in variables(self.results)}

    def run(self, layers: Sequence[Layer]) -> list[Layer]:
        for index, layer in enumerate(layers):
            computed = elementwise(layer) if isinstance(layer, Other) else None
            self.put(index, computed or layer)
        for index in range(len(layers)):
            left = self.layers.get(index)
            # what is dequantized stays integers in memory
            if isinstance(left, Elementwise) and dequantization(left) is None:
                self.place(index, left)
        return [self.layers[index] for index in sorted(self.layers)]

    def put(self, index: int, layer: Layer) -> None:
        if index in self.layers:
            self.drop(index)
        self.layers[index] = layer
        self.made_by[layer.result] = index
        for var in sources(layer):
            self.readers.setdefault(var, set()).add(index)

    def drop(self, index: int) -> None:
        for var in sources(self.layers.pop(index)):
            self.readers[var].discard(index)

    def place(self, index: int, layer: Elementwise) -> None:
        """Take into the ``index``-th layer what only it reads, and put it where it goes on."""
        while (grown := self.grown(index, layer)) is not None:
            self.put(index, grown)
            layer = grown
        branches = {var: self.layers[self.made_by[var]] for var in self.only_mine(index, layer)}
        convolutions = {v: one for v, one in branches.items() if isinstance(one, Convolution)}
        one: WithEpilogue | None = merged(layer, convolutions)
        if one is None and branches:
            last = max(branches, key=lambda var: self.made_by[var])
            one = with_epilogue(branches[last], layer)
            branches = {last: branches[last]}
        if one is not None:
            for var in branches:
                self.drop(self.made_by[var])
            self.put(index, one)

    def only_mine(self, index: int, layer: Elementwise) -> list[Var]:
        """The operands that nobody else reads, made by layers that can compute more."""
        return [
            var
            for var in tensors(layer.operands)
            if self.readers[var] == {index}
            and shape_of(var) == shape_of(layer.result)
            and isinstance(self.layers.get(self.made_by.get(var, -1)), WithEpilogue)
        ]

    def grown(self, index: int, layer: Elementwise) -> Elementwise | None:
        """The layer with an expression before it, which only it reads, in it."""
        for place, var in enumerate(layer.operands):
            before = self.layers.get(self.made_by.get(var, -1)) if isinstance(var, Var) else None
            if not isinstance(before, Elementwise) or self.readers[before.result] != {index}:
                continue
            if shape_of(before.result) != shape_of(layer.result):
                continue
            grown = inlined(layer, place, before)
            if expressions.size(grown.expression) <= MOST_OPERATIONS:
                self.drop(self.made_by[before.result])
                return grown
        return None


def inlined(layer: Elementwise, place: int, before: Elementwise) -> Elementwise:
    """``layer`` with the expression of ``before`` as its ``place``-th operand."""
    count = len(layer.operands)
    shifted = [Input(count + i) for i in range(len(before.operands))]
    values: list[Expression] = [Input(i) for i in range(count)]
    values[place] = expressions.substitute(before.expression, shifted)
    expression = expressions.substitute(layer.expression, values)
    return joined(layer.result, expression, (*layer.operands, *before.operands))


def with_epilogue(layer: Layer, after: Elementwise) -> WithEpilogue | None:
    """``layer`` with the expression that reads its result in its epilogue, where it has room."""
    assert isinstance(layer, WithEpilogue)
    (place,) = (i for i, var in enumerate(after.operands) if is_same(var, layer.result))
    before = Elementwise(
        layer.result, layer.epilogue.expression, (layer.result, *layer.epilogue.operands)
    )
    # the layer's own result is read first
    whole = inlined(after, place, before)
    (own,) = (i for i, var in enumerate(whole.operands) if is_same(var, layer.result))
    order = [own, *(i for i in range(len(whole.operands)) if i != own)]
    values = [Input(order.index(i)) for i in range(len(order))]
    operands = tuple(whole.operands[i] for i in order[1:])
    if len(operands) > MOST_OPERANDS or expressions.size(whole.expression) > MOST_OPERATIONS:
        return None
    if isinstance(layer, FEW_OPERANDS) and any(isinstance(one, Var) for one in operands):
        return None
    epilogue = Epilogue(expressions.substitute(whole.expression, values), operands)
    return replace(layer, result=after.result, epilogue=epilogue)


def saturate(value: Expr, dtype: str) -> Expr:
    bounds = (relax.prim_value(float(bound), "float32") for bound in expressions.LIMITS[dtype])
    return relax.op.astype(relax.op.clip(relax.op.round(value), *bounds), dtype)


RELAX: dict[str, Callable[..., Expr]] = {
    **{name: getattr(relax.op, name) for name in SAME_NAME},
    **{f"saturate_{dtype}": partial(saturate, dtype=dtype) for dtype in expressions.LIMITS},
    **{f"saturate_int_{dtype}": partial(saturate, dtype=dtype) for dtype in expressions.LIMITS},
    "where_greater": where_greater,
    "log1p": lambda x: relax.op.log(relax.op.add(x, relax.const(np.float32(1)))),
}


def as_relax(expression: Expression, values: Sequence[Expr]) -> Expr:
    """The expression as Relax operators of its inputs' ``values``."""
    if isinstance(expression, Input):
        value = values[expression.index]
        return value if value.ty.dtype == "float32" else relax.op.astype(value, "float32")
    if isinstance(expression, expressions.Apply):
        args = [as_real(arg, values) for arg in expression.args]
        return RELAX[expression.operator](*args)
    return relax.const(np.float32(expression))


def as_real(expression: Expression, values: Sequence[Expr]) -> Expr:
    """``as_relax`` of what an operator takes, which are real numbers: those of integers too."""
    value = as_relax(expression, values)
    return relax.op.astype(value, "float32") if expressions.is_quantized(expression) else value
