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
    "sigmoid": T.sigmoid,
    "sqrt": T.sqrt,
    "subtract": lambda a, b: a - b,
    "tanh": T.tanh,
}


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
        args = [lower(arg, values) for arg in expression.args]
        return OPERATORS[expression.operator](*args)
    return tirx.FloatImm(DTYPE, expression)
