"""Tables of functions of one byte: each of the 256 values is the right one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional

from tvm_mobilenet.kernels.cpu import expressions
from tvm_mobilenet.kernels.cpu.expressions import (
    SELF,
    Apply,
    Expression,
    Input,
    QuantizationParameters,
    apply,
    dequantize,
    quantize,
)
from tvm_mobilenet.kernels.cpu.tables import tabulated

GIVEN = {
    "uint8": QuantizationParameters(0.0613, 131),
    "int8": QuantizationParameters(0.0613, 3, "int8"),
}
BETWEEN = QuantizationParameters(1 / 255, 0)
TIE = 1e-4  # as near to the middle between two integers, either is right


def hard_swish(x: Expression) -> Expression:
    gate = expressions.clip(apply("add", apply("multiply", x, 1 / 6), 0.5), 0.0, 1.0)
    return apply("multiply", x, gate)


def mish(x: Expression) -> Expression:
    return apply("multiply", x, expressions.mish_gate(x))


# what kernels compute, what PyTorch does, and a scale and zero point of uint8 for the result
FUNCTIONS: dict[str, tuple[Callable[[Expression], Expression], Any, float, int]] = {
    "silu": (expressions.silu, functional.silu, 0.0321, 9),
    "hard-swish": (hard_swish, functional.hardswish, 0.0307, 13),
    "mish": (mish, functional.mish, 0.0311, 11),
    "gelu": (expressions.gelu, functional.gelu, 0.0311, 6),
    "sigmoid": (lambda x: apply("sigmoid", x), torch.sigmoid, 1 / 255, 0),
    "tanh": (lambda x: apply("tanh", x), torch.tanh, 0.0071, 127),
    "leaky-relu": (
        lambda x: expressions.leaky_relu(x, 0.1),
        lambda x: functional.leaky_relu(x, 0.1),
        0.033,
        17,
    ),
    "another scale": (lambda x: x, lambda x: x, 0.0413, 140),
    "cut off at both ends": (lambda x: x, lambda x: x, 0.031, 101),
}


def real_values(given: QuantizationParameters) -> tuple[NDArray[np.generic], torch.Tensor]:
    """All bytes, in the order of their bits, and what they stand for."""
    bytes_ = np.arange(256, dtype=np.uint8).view(given.dtype)
    return bytes_, torch.from_numpy((bytes_.astype(np.float64) - given.zero_point) * given.scale)


def check(table: NDArray[np.generic], exact: NDArray[np.float64], zero: int, dtype: str) -> None:
    """``exact`` are real values in steps of the result's scale."""
    low, high = expressions.LIMITS[dtype]
    right = np.clip(np.rint(exact) + zero, low, high)
    tied = np.abs(exact - np.floor(exact) - 0.5) < TIE
    assert tied.sum() < 8
    np.testing.assert_array_equal(table[~tied], right[~tied])
    assert str(table.dtype) == dtype and len(np.unique(table)) > 40


@pytest.mark.parametrize("result", ["uint8", "int8"])
@pytest.mark.parametrize("given", ["uint8", "int8"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_value(name: str, given: str, result: str) -> None:
    function, reference, scale, zero = FUNCTIONS[name]
    zero -= 128 if result == "int8" else 0
    into = QuantizationParameters(scale, zero, result)
    byte = quantize(Input(1), GIVEN[given])
    expression = quantize(function(dequantize(byte, GIVEN[given])), into)
    found = tabulated(expression, 5, {})
    assert found is not None and found[0] == apply(f"lookup_{result}", byte, Input(5))
    _, values = real_values(GIVEN[given])
    check(found[1], reference(values).numpy() / scale, zero, result)
    if name == "cut off at both ends":
        assert {found[1].min(), found[1].max()} == set(expressions.LIMITS[result])


def silu_in_two_steps(byte: Expression, into: QuantizationParameters) -> Apply:
    """As quantized files have it: its sigmoid becomes a byte by itself."""
    value = dequantize(byte, GIVEN["uint8"])
    gate = dequantize(quantize(apply("sigmoid", value), BETWEEN), BETWEEN)
    product = quantize(apply("multiply", value, gate), into)
    assert isinstance(product, Apply)
    return product


def test_rounding_in_between_is_kept() -> None:
    into = QuantizationParameters(0.0321, 9)
    found = tabulated(silu_in_two_steps(SELF, into), 1, {0: "uint8"})
    assert found is not None and found[0] == apply("lookup_uint8", SELF, Input(1))
    _, values = real_values(GIVEN["uint8"])
    gate = torch.round(torch.sigmoid(values) * 255).clamp(0, 255) / 255
    check(found[1], (values * gate).numpy() / into.scale, into.zero_point, "uint8")
    once = tabulated(
        quantize(expressions.silu(dequantize(SELF, GIVEN["uint8"])), into), 1, {0: "uint8"}
    )
    assert once is not None and (once[1] != found[1]).any()


def test_ties_go_to_even_before_the_zero_point() -> None:
    """As ONNX says: 0.5 is 0, whatever integer stands for zero."""
    given, into = QuantizationParameters(0.5, 0), QuantizationParameters(1.0, 101)
    found = tabulated(quantize(dequantize(SELF, given), into), 1, {0: "uint8"})
    assert found is not None
    assert found[1][:8].tolist() == [101, 101, 102, 103, 103, 103, 104, 105]


def test_what_is_no_function_of_one_byte() -> None:
    into = QuantizationParameters(0.03, 9)
    one, other = (dequantize(Input(place), GIVEN["uint8"]) for place in (0, 1))
    summed = quantize(apply("add", one, other), into)
    assert tabulated(summed, 2, {0: "uint8", 1: "uint8"}) is None
    assert tabulated(quantize(expressions.silu(SELF), into), 1, {}) is None, "of a real number"
    assert tabulated(expressions.silu(one), 1, {0: "uint8"}) is None, "a real number"
