"""Products of bytes regrouped: the same numbers, for one multiplication and addition a pixel."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tvm_mobilenet.kernels.cpu.byte_arithmetic import bounds, by_channel, saturating
from tvm_mobilenet.kernels.cpu.expressions import (
    Apply,
    Expression,
    Input,
    QuantizationParameters,
    apply,
    dequantize,
    inputs,
    quantize,
)
from tvm_mobilenet.kernels.cpu.tables import FUNCTIONS

Numbers = NDArray[np.float64]
IMAGE, RESULT = QuantizationParameters(0.0213, 7), QuantizationParameters(0.0171, 12)


def scaled(*, swapped: bool = False) -> Expression:
    """An image of bytes times real numbers, as a byte."""
    args = (dequantize(Input(0), IMAGE), Input(1))
    return quantize(apply("multiply", *(args[::-1] if swapped else args)), RESULT)


def evaluate(expression: Expression, *values: Numbers) -> Numbers:
    """Before it is rounded."""
    if isinstance(expression, Input):
        return values[expression.index]
    if isinstance(expression, float):
        return np.asarray(expression)
    args = [evaluate(one, *values) for one in expression.args]
    if expression.operator.startswith("saturate_"):
        return args[0]
    found: Numbers = FUNCTIONS[expression.operator](*args)
    return found


@pytest.mark.parametrize("swapped", [False, True])
def test_a_product_by_channel_is_regrouped(swapped: bool, rng: np.random.Generator) -> None:
    before = scaled(swapped=swapped)
    after = by_channel(before, [1])
    x, gate = rng.integers(0, 256, 500).astype(np.float64), rng.random(500)
    np.testing.assert_allclose(evaluate(after, x, gate), evaluate(before, x, gate), rtol=1e-12)
    # what is left for each pixel: a product, a sum and rounding
    assert isinstance(after, Apply)
    match after.args[0]:
        case Apply("add", (Apply("multiply", (image, factor)), shift)):
            assert image == Input(0) and inputs(factor) == inputs(shift) == {1}
        case other:
            raise AssertionError(other)


def test_a_product_of_two_images_is_left_alone() -> None:
    assert by_channel(scaled(), []) == scaled()
    total = quantize(apply("add", dequantize(Input(0), IMAGE), Input(1)), RESULT)
    assert by_channel(total, [1]) == total
    product = apply("multiply", dequantize(Input(0), IMAGE), Input(1))
    assert by_channel(product, [1]) == product  # of no byte


def test_only_what_an_int32_holds_is_bounded_by_integers() -> None:
    known = {0: (0.0, 255.0), 1: (0.0, 1.0)}
    found, before = saturating(scaled(), known), scaled()
    assert isinstance(found, Apply) and isinstance(before, Apply)
    assert found == Apply("saturate_int_uint8", before.args)
    for other in ({0: (0.0, 255.0)}, {0: (0.0, 255.0), 1: (0.0, 1e9)}):
        assert saturating(scaled(), other) == scaled()
    gate = quantize(apply("sigmoid", Input(0)), RESULT)
    assert saturating(gate, known) == gate


@pytest.mark.parametrize("operator", ["add", "subtract", "multiply", "maximum", "minimum"])
def test_bounds_hold_all_values(operator: str, rng: np.random.Generator) -> None:
    ends = {place: (-abs(rng.normal()), rng.random()) for place in range(2)}
    low, high = bounds(apply(operator, Input(0), Input(1)), ends) or (0.0, 0.0)
    grid = [np.linspace(*ends[place], 33) for place in range(2)]
    values = FUNCTIONS[operator](grid[0][:, None], grid[1])
    assert low == pytest.approx(values.min()) and high == pytest.approx(values.max())
