"""Parallel branches that are summed → one convolution.

MobileOne and RepVGG train each layer as several convolutions beside each other, and their input
itself, each with a batch norm; what they compute together is one convolution. No runtime sees that
by itself, and whoever forgets to merge them before exporting pays for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from tvm.ir import Var

from tvm_mobilenet.compiler.graph.layers import (
    Array,
    Convolution,
    Elementwise,
    is_plain,
)
from tvm_mobilenet.kernels.cpu.expressions import Apply, Expression, Input

Numbers = NDArray[np.float64]
ONE, NOTHING, MINUS = np.ones(()), np.zeros(()), -np.ones(())


@dataclass(frozen=True)
class Line:
    """A sum of inputs, each times a number or one for each channel, and a constant."""

    slopes: dict[int, Numbers]
    shift: Numbers

    def times(self, factor: Numbers) -> Line:
        return Line({i: slope * factor for i, slope in self.slopes.items()}, self.shift * factor)

    def plus(self, other: Line) -> Line:
        slopes = dict(self.slopes)
        for index, slope in other.slopes.items():
            slopes[index] = slopes.get(index, NOTHING) + slope
        return Line(slopes, self.shift + other.shift)


def merged(layer: Elementwise, branches: Mapping[Var, Convolution]) -> Convolution | None:
    """The sum that ``layer`` is of ``branches``, and of what they all read, as one convolution.

    None where it is not that, or where only one branch is.
    """
    if not branches or not all(one.linear for one in branches.values()):
        return None
    constants = {i: one for i, one in enumerate(layer.operands) if not isinstance(one, Var)}
    line = as_line(layer.expression, constants)
    first = next(iter(branches.values()))
    if line is None or len(line.slopes) < 2:
        return None
    parts: list[Convolution] = []
    for index, slope in line.slopes.items():
        var = layer.operands[index]
        branch = next((one for one in branches.values() if one.result.same_as(var)), None)
        if branch is None and isinstance(var, Var) and var.same_as(first.source):
            branch = identity(first, layer.result)
        if branch is None or not alike(branch, first):
            return None
        weight = (branch.weight.T * slope).T.astype(np.float32)
        bias = (branch.bias * slope).astype(np.float32)
        parts.append(replace(branch, weight=weight, bias=bias))
    if len(parts) != len(line.slopes) or len(branches) > len(parts):
        return None
    return summed(parts, layer.result, line.shift)


def as_line(expression: Expression, constants: Mapping[int, Array]) -> Line | None:
    """The expression as a sum; ``constants`` are those of its inputs that are known."""
    if isinstance(expression, float):
        return Line({}, np.asarray(expression, np.float64))
    if isinstance(expression, Input):
        if expression.index in constants:
            return Line({}, constants[expression.index].astype(np.float64))
        return Line({expression.index: ONE}, NOTHING)
    args = [as_line(arg, constants) for arg in expression.args]
    lines = [arg for arg in args if arg is not None]
    return combined(expression, lines) if len(lines) == len(args) else None


def combined(expression: Apply, args: list[Line]) -> Line | None:
    match expression.operator, args:
        case "add", [a, b]:
            return a.plus(b)
        case "subtract", [a, b]:
            return a.plus(b.times(MINUS))
        case "negative", [a]:
            return a.times(MINUS)
        case "multiply", [a, b] if not b.slopes:
            return a.times(b.shift)
        case "multiply", [a, b] if not a.slopes:
            return b.times(a.shift)
        case "divide", [a, b] if not b.slopes:
            return a.times(1 / b.shift)
        case "sqrt", [a] if not a.slopes:
            return Line({}, np.sqrt(a.shift))
    return None


def identity(like: Convolution, result: Var) -> Convolution | None:
    """The convolution that gives out what ``like`` reads."""
    channels = int(like.source.ty.shape[1])
    if like.stride != (1, 1) or channels != like.weight.shape[0]:
        return None
    if like.depthwise:
        weight = np.ones((channels, 1, 1, 1), np.float32)
    else:
        weight = np.eye(channels, dtype=np.float32)[:, :, None, None]
    bias = np.zeros(channels, np.float32)
    padding = (0, 0, 0, 0)
    return replace(like, result=result, weight=weight, bias=bias, padding=padding)


def alike(one: Convolution, other: Convolution) -> bool:
    """Whether both read the same pixels of the same tensor, but for the filter's size."""
    return (
        one.source.same_as(other.source)
        and one.stride == other.stride
        and one.depthwise == other.depthwise
        and is_plain(one)
        and is_plain(other)
    )


def summed(parts: list[Convolution], result: Var, shift: Numbers) -> Convolution:
    """One convolution for the sum of ``parts``, whose filters lie in the middle of its own."""
    top = max(one.padding[0] for one in parts)
    left = max(one.padding[1] for one in parts)
    below = max(parts, key=lambda one: one.weight.shape[2] - one.padding[0])
    right = max(parts, key=lambda one: one.weight.shape[3] - one.padding[1])
    rows = top + below.weight.shape[2] - below.padding[0]
    columns = left + right.weight.shape[3] - right.padding[1]
    first = parts[0]
    weight = np.zeros((*first.weight.shape[:2], rows, columns), np.float64)
    bias = np.zeros(len(first.bias), np.float64) + shift
    for one in parts:
        up, before = top - one.padding[0], left - one.padding[1]
        height, width = one.weight.shape[2:]
        weight[:, :, up : up + height, before : before + width] += one.weight
        bias += one.bias
    return replace(
        first,
        result=result,
        weight=weight.astype(np.float32),
        bias=bias.astype(np.float32),
        padding=(top, left, below.padding[2], right.padding[3]),
    )
