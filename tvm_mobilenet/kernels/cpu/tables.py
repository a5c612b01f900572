"""Functions of one byte as tables of their 256 values.

Whatever lies between two quantizations of one tensor (SiLU, its sigmoid quantized in between too,
hard-swish, ...) makes a byte of a byte. Its table is computed once, in the order of the network's
own operators, each rounded to float32, and divides by scales as ONNX says; a kernel that multiplies
by their reciprocals is next to that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tvm_mobilenet.kernels.cpu.expressions import (
    LIMITS,
    LOOKUP,
    SELF,
    Apply,
    Expression,
    Input,
    apply,
    dtype_of,
    inputs,
    is_quantized,
    size,
)

VALUES = 256
Table: TypeAlias = NDArray[np.uint8 | np.int8]
Reals: TypeAlias = NDArray[np.floating[Any]]

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": np.abs,
    "add": np.add,
    "divide": np.divide,
    "erf": np.vectorize(math.erf),
    "exp": np.exp,
    "log": np.log,
    "log1p": np.log1p,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "multiply": np.multiply,
    "negative": np.negative,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "sqrt": np.sqrt,
    "subtract": np.subtract,
    "tanh": np.tanh,
    "where_greater": lambda a, b, yes, no: np.where(a > b, yes, no),
}


def tabulated(
    expression: Expression, place: int, read_bytes: Mapping[int, str]
) -> tuple[Apply, Table] | None:
    """``expression`` as a lookup in a table, which is its input at ``place``, and that table.

    None where it is no function of one byte. ``read_bytes`` are the types of its inputs that are
    integers.
    """
    if not isinstance(expression, Apply) or not is_quantized(expression):
        return None
    byte = argument_of(expression, read_bytes)
    if byte is None:
        return None
    dtype = read_bytes[byte.index] if isinstance(byte, Input) else dtype_of(byte)
    table = table_of(replaced(expression, byte, SELF), dtype)
    return apply(LOOKUP + dtype_of(expression), byte, Input(place)), table


def argument_of(expression: Apply, read_bytes: Mapping[int, str]) -> Expression | None:
    """The innermost integer in ``expression`` that everything else in it is a function of."""
    integers = {
        one
        for arg in expression.args
        for one in parts(arg)
        if (one.index in read_bytes if isinstance(one, Input) else is_quantized(one))
    }
    for one in sorted(integers, key=size):
        if not inputs(replaced(expression, one, 0.0)):
            return one
    return None


def parts(expression: Expression) -> list[Expression]:
    """The expression and all that it is made of."""
    more = expression.args if isinstance(expression, Apply) else ()
    return [expression, *(one for arg in more for one in parts(arg))]


def replaced(expression: Expression, old: Expression, new: Expression) -> Expression:
    """``expression`` with ``new`` wherever it has ``old``."""
    if expression == old:
        return new
    if isinstance(expression, Apply):
        args = tuple(replaced(arg, old, new) for arg in expression.args)
        return Apply(expression.operator, args)
    return expression


def table_of(expression: Expression, dtype: str) -> Table:
    """What a quantized expression of one byte, of ``dtype``, gives for each.

    In the order of the bytes' bits: of int8, -128 comes after 127.
    """
    arguments = np.arange(VALUES, dtype=np.uint8).view(dtype).astype(np.float32)
    return evaluated(expression, [arguments]).astype(dtype_of(expression))


def evaluated(expression: Expression, values: Sequence[Reals]) -> Reals:
    """Each operator's exact result, rounded to float32, of the inputs' ``values``."""
    if isinstance(expression, Input):
        return values[expression.index]
    if not isinstance(expression, Apply):
        return np.float32(expression) * np.ones_like(values[0])
    if is_quantized(expression):
        return rounded(expression, values)
    args = [evaluated(arg, values) for arg in expression.args]
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        exact: Reals = FUNCTIONS[expression.operator](*(arg.astype(np.float64) for arg in args))
    single: Reals = exact.astype(np.float32)
    return single


def rounded(expression: Apply, values: Sequence[Reals]) -> Reals:
    """Integers of a byte's range, ties to even before the zero point is added."""
    match expression.args[0]:
        case Apply("add", (Apply("multiply", (x, float(inverse))), float(zero))):
            scaled = evaluated(x, values) / np.float32(1 / inverse)
            whole = np.rint(scaled) + np.float32(zero)
        case other:
            whole = np.rint(evaluated(other, values))
    limited: Reals = np.clip(whole, *LIMITS[dtype_of(expression)])
    return limited
