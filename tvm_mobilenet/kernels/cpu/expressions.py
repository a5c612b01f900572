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
from tvm.ir import Expr, TensorLoad
from tvm.script import tirx as T

from tvm_mobilenet.kernels.cpu.layout import DTYPE

OPERATORS: dict[str, Callable[..., Expr]] = {
    "abs": lambda a: T.max(a, -a),
    "add": lambda a, b: a + b,
    "divide": lambda a, b: a / b,
    "erf": T.erf,
    "exp": T.exp,
    "log": T.log,
    "log1p": T.log1p,
    "maximum": lambda a, b: T.max(a, b),
    "minimum": lambda a, b: T.min(a, b),
    "multiply": lambda a, b: a * b,
    "negative": lambda a: -a,
    "saturate_int8": lambda a: saturate(a, "int8"),
    "saturate_int_int8": lambda a: saturate_int(a, "int8"),
    "saturate_uint8": lambda a: saturate(a, "uint8"),
    "saturate_int_uint8": lambda a: saturate_int(a, "uint8"),
    "sigmoid": T.sigmoid,
    "sqrt": T.sqrt,
    "subtract": lambda a, b: a - b,
    "tanh": T.tanh,
    "where_greater": lambda a, b, yes, no: tirx.Select(a > b, yes, no),
}


# rounds to an integer, ties to even
LRINT = "llvm.lrint"


LOOKUP = "lookup_"  # of a byte in a table (tables.py), and the type of what that holds
# the least and the greatest of each type of activations
LIMITS = {"int8": (-128, 127), "uint8": (0, 255)}


def saturate(value: Expr, dtype: str) -> Expr:
    """The integer next to ``value``, ties to even, of those that a byte holds."""
    low, high = LIMITS[dtype]
    bounded = T.max(T.min(value, T.float32(high)), T.float32(low))
    return T.cast(T.call_llvm_pure_intrin(LRINT, bounded, dtype="int32"), dtype)


def saturate_int(value: Expr, dtype: str) -> Expr:
    """As ``saturate``, of what an int32 holds: there are instructions for that."""
    low, high = LIMITS[dtype]
    integer = T.call_llvm_pure_intrin(LRINT, value, dtype="int32")
    return T.cast(T.max(T.min(integer, T.int32(high)), T.int32(low)), dtype)


@dataclass(frozen=True)
class QuantizationParameters:
    """A tensor's real values are (integer - zero_point) * scale; its integers are of ``dtype``."""

    scale: float
    zero_point: int
    dtype: str = "uint8"


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
GELU_CUBIC = 0.044715
MISH_ONE = 20.0  # from here on tanh(softplus(x)) is 1 in float32, long before exp(x)² is infinite
MOST_FACTORS = 8  # of a power


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


def dequantize(x: Expression, quantization: QuantizationParameters) -> Expression:
    """The real value of an integer."""
    above_zero = apply("subtract", x, float(quantization.zero_point))
    return apply("multiply", above_zero, quantization.scale)


def quantize(x: Expression, quantization: QuantizationParameters) -> Expression:
    """The integer that stands for a real value."""
    scaled = apply("multiply", x, 1 / quantization.scale)
    shifted = apply("add", scaled, float(quantization.zero_point))
    return apply(f"saturate_{quantization.dtype}", shifted)


def dtype_of(expression: Expression) -> str:
    """What its value is of: float32, or one of LIMITS."""
    if isinstance(expression, Apply) and expression.operator.startswith(("saturate_", LOOKUP)):
        return expression.operator.rpartition("_")[2]
    return DTYPE


def is_quantized(expression: Expression) -> bool:
    """Whether its value is an integer."""
    return dtype_of(expression) != DTYPE


def dequantization(expression: Expression) -> QuantizationParameters | None:
    """Of what stands for an integer's real value and no more; None for anything else."""
    match expression:
        case Apply("multiply", (Apply("subtract", (own, float(zero))), float(scale))):
            return QuantizationParameters(scale, int(zero)) if own == SELF else None
    return None


def gelu_tanh(x: Expression) -> Expression:
    """GELU by the hyperbolic tangent, (1 + tanh(u)) / 2 as the sigmoid of 2 u."""
    cubic = apply("add", apply("multiply", apply("multiply", x, x), GELU_CUBIC), 1.0)
    inner = apply("multiply", apply("multiply", x, 2 * math.sqrt(2 / math.pi)), cubic)
    return apply("multiply", x, apply("sigmoid", inner))


def softplus(x: Expression) -> Expression:
    """log(1 + exp(x)), whatever the size of x."""
    rest = apply("log1p", apply("exp", apply("negative", apply("abs", x))))
    return apply("add", relu(x), rest)


def mish_gate(x: Expression) -> Expression:
    """tanh(softplus(x)), what Mish multiplies x by: n (n + 2) / (n (n + 2) + 2) of n = exp(x)."""
    n = apply("exp", apply("minimum", x, MISH_ONE))
    product = apply("multiply", n, apply("add", n, 2.0))
    return apply("divide", product, apply("add", product, 2.0))


def power(x: Expression, exponent: float) -> Expression | None:
    """x to a constant: by multiplications and a square root, None where it takes more."""
    whole, half = divmod(abs(exponent), 1)
    if exponent == 0 or half not in (0, 0.5) or whole > MOST_FACTORS:
        return None
    factors = [x] * int(whole) + [apply("sqrt", x)] * (half == 0.5)
    while len(factors) > 1:  # in pairs: what is multiplied twice is computed once
        pairs = zip(factors[::2], factors[1::2], strict=False)
        rest = factors[-1:] if len(factors) % 2 else []
        factors = [*(apply("multiply", *pair) for pair in pairs), *rest]
    return factors[0] if exponent > 0 else apply("divide", 1.0, factors[0])


def simplified(expression: Expression) -> Expression:
    """The same, where the operators that exporters spell a function with are better as one.

    log(1 + exp(x)) overflows, and loses what is small; so does the tanh of it.
    """
    if not isinstance(expression, Apply):
        return expression
    args = tuple(map(simplified, expression.args))
    match expression.operator, args:
        case "log", (Apply("add", (1.0, x) | (x, 1.0)),):
            return simplified(apply("log1p", x))
        case "log1p", (Apply("exp", (x,)),) if not is_negative(x):
            return softplus(x)
        case "tanh", (Apply("add", (Apply("maximum", (x, 0.0)), rest)),) if is_softplus(x, rest):
            return mish_gate(x)
    return Apply(expression.operator, args)


def is_negative(x: Expression) -> bool:
    """Whether it is minus the magnitude of something, as in ``softplus``."""
    return isinstance(x, Apply) and x.operator == "negative" and is_call(x.args[0], "abs")


def is_call(x: Expression, operator: str) -> bool:
    return isinstance(x, Apply) and x.operator == operator


def is_softplus(x: Expression, rest: Expression) -> bool:
    """Whether relu(x) + ``rest`` is softplus(x)."""
    return softplus(x) == apply("add", relu(x), rest)


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
        if expression.operator.startswith(LOOKUP):
            return looked_up(*args)
        args = list(map(as_float, args))
        return OPERATORS[expression.operator](*args)
    return tirx.FloatImm(DTYPE, expression)


def as_float(value: Expr) -> Expr:
    """``value`` as every operator takes it."""
    return value if str(value.ty.dtype) == DTYPE else T.cast(value, DTYPE)


def looked_up(byte: Expr, table: Expr) -> Expr:
    """What ``table``, of which the first number is given, holds for a byte's bits."""
    assert isinstance(table, TensorLoad)
    if isinstance(byte, tirx.Cast) and str(byte.ty.dtype) == DTYPE:  # of one from memory
        byte = byte.value
    place = T.cast(byte, "int32")
    unsigned = str(byte.ty.dtype) == "uint8"
    return tirx.BufferLoad(table.source, [place if unsigned else place & 255])
