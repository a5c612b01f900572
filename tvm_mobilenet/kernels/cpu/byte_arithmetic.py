"""Arithmetic of bytes that gives a byte, as few instructions a pixel.

A tensor times one number for each channel, squeeze-and-excite's, is dequantized, multiplied and
quantized again. All of that but one multiplication and addition is the same for every pixel. And
where no result is beyond an int32, instructions that saturate bound it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from tvm_mobilenet.kernels.cpu.expressions import Apply, Expression, Input, apply, is_quantized

Bounds = tuple[float, float]
MOST = 2.0**31
FLOAT, INT = "saturate_", "saturate_int_"


def by_channel(expression: Expression, pixels: Collection[int]) -> Expression:
    """A quantized product with an input that is one pixel for all, one of ``pixels``: regrouped.

    Any other expression as it is.
    """
    match expression:
        case Apply(
            saturate,
            (Apply("add", (Apply("multiply", (product, float(inverse))), float(zero))),),
        ) if is_quantized(expression):
            parts = factors(product, pixels)
            if parts is None:
                return expression
            integer, offset, scale, other = parts
            factor = apply("multiply", other, scale * inverse)
            shift = apply("add", apply("multiply", factor, -offset), zero)
            return Apply(saturate, (apply("add", apply("multiply", integer, factor), shift),))
    return expression


def factors(
    product: Expression, pixels: Collection[int]
) -> tuple[Input, float, float, Input] | None:
    """Of (integer - offset) * scale * other, these four; None for anything else."""
    match product:
        case Apply("multiply", (first, second)):
            for one, other in ((first, second), (second, first)):
                match one:
                    case Apply(
                        "multiply",
                        (Apply("subtract", (Input() as integer, float(offset))), float(scale)),
                    ) if isinstance(other, Input) and other.index in pixels:
                        return integer, offset, scale, other
    return None


def saturating(expression: Expression, known: Mapping[int, Bounds]) -> Expression:
    """A quantized expression, bounded by instructions where an int32 holds what is rounded.

    ``known`` are the bounds of inputs.
    """
    if not isinstance(expression, Apply) or not expression.operator.startswith(FLOAT):
        return expression
    limits = bounds(expression.args[0], known)
    if expression.operator.startswith(INT) or limits is None:
        return expression
    if max(map(abs, limits)) >= MOST:
        return expression
    return Apply(INT + expression.operator.removeprefix(FLOAT), expression.args)


def bounds(expression: Expression, known: Mapping[int, Bounds]) -> Bounds | None:
    """Between what an expression's values lie, None where that is not known."""
    if isinstance(expression, Input):
        return known.get(expression.index)
    if not isinstance(expression, Apply):
        return expression, expression
    args = [bounds(arg, known) for arg in expression.args]
    match expression.operator, args:
        case "add", ((a, b), (c, d)):
            return a + c, b + d
        case "subtract", ((a, b), (c, d)):
            return a - d, b - c
        case "multiply", ((a, b), (c, d)):
            products = (a * c, a * d, b * c, b * d)
            return min(products), max(products)
        case "maximum", ((a, b), (c, d)):
            return max(a, c), max(b, d)
        case "minimum", ((a, b), (c, d)):
            return min(a, c), min(b, d)
    return None
