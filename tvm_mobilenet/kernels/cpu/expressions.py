"""Elementwise arithmetic as a value: what a kernel's epilogue, or a kernel by itself, computes.

An expression is a float, an ``Input`` or an ``Apply``. It is hashable, and made into TensorIR when
a kernel is written.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from tvm import tirx
from tvm.ir import Expr
from tvm.script import tirx as T

from tvm_mobilenet.kernels.cpu.layout import DTYPE

OPERATORS: dict[str, Callable[..., Expr]] = {
    "abs": lambda a: T.max(a, -a),
    "add": lambda a, b: a + b,
    "divide": lambda a, b: a / b,
    "erf": T.erf,
    "exp": T.exp,
    "maximum": lambda a, b: T.max(a, b),
    "minimum": lambda a, b: T.min(a, b),
    "multiply": lambda a, b: a * b,
    "negative": lambda a: -a,
    "saturate_uint8": lambda a: saturate_uint8(a),
    "sigmoid": T.sigmoid,
    "sqrt": T.sqrt,
    "subtract": lambda a, b: a - b,
    "tanh": T.tanh,
}


# rounds to an integer, ties to even
LRINT = "llvm.lrint"


def saturate_uint8(value: Expr) -> Expr:
    """The integer next to ``value``, ties to even, of those that a byte holds."""
    bounded = T.max(T.min(value, T.float32(255)), T.float32(0))
    return T.cast(T.call_llvm_pure_intrin(LRINT, bounded, dtype="int32"), "uint8")


@dataclass(frozen=True)
class Quantization:
    """A tensor's real values are (integer - zero_point) * scale."""

    scale: float
    zero_point: int


@dataclass(frozen=True)
class Input:
    """The element of the ``index``-th tensor."""

    index: int


@dataclass(frozen=True)
class Apply:
    """One of OPERATORS of other expressions."""

    operator: str
    args: tuple[Expression, ...]


Expression: TypeAlias = Input | Apply | float
SELF = Input(0)


def apply(operator: str, *args: Expression) -> Apply:
    return Apply(operator, args)


def relu(x: Expression) -> Expression:
    return apply("maximum", x, 0.0)


def clip(x: Expression, low: float | None, high: float | None) -> Expression:
    """``x`` between the bounds; None is none."""
    if low is not None and not math.isinf(low):
        x = apply("maximum", x, low)
    if high is not None and not math.isinf(high):
        x = apply("minimum", x, high)
    return x


def leaky_relu(x: Expression, slope: Expression) -> Expression:
    """``x`` where it is positive, else ``slope`` times it; PReLU where slopes are a tensor."""
    return apply("add", relu(x), apply("multiply", slope, apply("minimum", x, 0.0)))


def silu(x: Expression) -> Expression:
    return apply("multiply", x, apply("sigmoid", x))


def gelu(x: Expression) -> Expression:
    """x times the normal distribution's share below it."""
    below = apply("add", apply("erf", apply("multiply", x, math.sqrt(0.5))), 1.0)
    return apply("multiply", apply("multiply", x, 0.5), below)


def dequantize(x: Expression, quantization: Quantization) -> Expression:
    """The real value of an integer."""
    above_zero = apply("subtract", x, float(quantization.zero_point))
    return apply("multiply", above_zero, quantization.scale)


def quantize(x: Expression, quantization: Quantization) -> Expression:
    """The uint8 that stands for a real value."""
    scaled = apply("multiply", x, 1 / quantization.scale)
    return apply("saturate_uint8", apply("add", scaled, float(quantization.zero_point)))


def is_quantized(expression: Expression) -> bool:
    """Whether its value is a uint8, not a float32."""
    return isinstance(expression, Apply) and expression.operator == "saturate_uint8"


def dequantization(expression: Expression) -> Quantization | None:
    """Of what stands for an integer's real value and no more; None for anything else."""
    match expression:
        case Apply("multiply", (Apply("subtract", (own, float(zero))), float(scale))):
            return Quantization(scale, int(zero)) if own == SELF else None
    return None


def size(expression: Expression) -> int:
    """How many operations it takes, those that it repeats counted each time."""
    if not isinstance(expression, Apply):
        return 0
    return 1 + sum(map(size, expression.args))


def inputs(expression: Expression) -> set[int]:
    """Which tensors it reads."""
    if isinstance(expression, Apply):
        return set().union(*map(inputs, expression.args))
    return {expression.index} if isinstance(expression, Input) else set()


def substitute(expression: Expression, values: Sequence[Expression]) -> Expression:
    """``expression`` of ``values`` instead of its inputs."""
    if isinstance(expression, Apply):
        args = tuple(substitute(arg, values) for arg in expression.args)
        return Apply(expression.operator, args)
    return values[expression.index] if isinstance(expression, Input) else expression


def lower(expression: Expression, values: Sequence[Expr]) -> Expr:
    """In TensorIR, of the inputs' ``values``."""
    if isinstance(expression, Input):
        return values[expression.index]
    if isinstance(expression, Apply):
        args = [as_float(lower(arg, values)) for arg in expression.args]
        return OPERATORS[expression.operator](*args)
    return tirx.FloatImm(DTYPE, expression)


def as_float(value: Expr) -> Expr:
    """``value`` as every operator takes it."""
    return value if str(value.ty.dtype) == DTYPE else T.cast(value, DTYPE)
