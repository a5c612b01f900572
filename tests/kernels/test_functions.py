"""The vector units' functions against exact values: as far off as each says, at most."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import tvm
from numpy.typing import NDArray
from tvm.ir import Expr
from tvm.script import tirx as T

from tvm_mobilenet.hardware import target
from tvm_mobilenet.kernels.cpu import functions

DTYPE, COUNT = "float32", 1 << 16
SHAPE = (COUNT,)
FLOAT_MIN = float(np.finfo(np.float32).tiny)
Doubles = NDArray[np.float64]


def computed(function: Callable[[Expr], Expr], x: NDArray[np.float32]) -> Doubles:
    """``function`` in vectors, compiled for this machine."""

    @T.prim_func(s_tir=True)
    def main(a: T.Buffer(SHAPE, DTYPE), b: T.Buffer(SHAPE, DTYPE)) -> None:
        for i in T.serial(COUNT // 16):
            for j in T.vectorized(16):
                b[i * 16 + j] = function(a[i * 16 + j])

    module = tvm.compile(tvm.IRModule({"main": main}), target.resolve("x86").tvm_target())
    out = tvm.runtime.tensor(np.full(COUNT, np.nan, np.float32))
    module["main"](tvm.runtime.tensor(x), out)
    found: Doubles = out.numpy().astype(np.float64)
    return found


def points(low: float, high: float) -> NDArray[np.float32]:
    """Evenly between the bounds, and both of them."""
    return np.linspace(low, high, COUNT).astype(np.float32)


def relative(found: Doubles, exact: Doubles) -> float:
    return float(np.max(np.abs(found - exact) / exact))


def test_exp() -> None:
    x = points(-87.3, 88.3)
    assert relative(computed(functions.exp, x), np.exp(x.astype(np.float64))) <= 2e-7


def test_exp_of_what_no_float_holds_is_the_nearest_normal_one() -> None:
    found = computed(functions.exp, points(-1000, 1000))
    assert found.min() == pytest.approx(FLOAT_MIN, rel=1e-5)
    assert found.max() == pytest.approx(np.exp(88.37626), rel=1e-5)
    assert np.all(np.diff(found) >= 0)


def test_sigmoid() -> None:
    x = points(-87, 87)
    exact = 1 / (1 + np.exp(-x.astype(np.float64)))
    assert relative(computed(functions.sigmoid, x), exact) <= 3e-7


def test_sigmoid_far_below_zero() -> None:
    found = computed(functions.sigmoid, points(-2000, -87))
    assert found.min() >= 0
    assert found.max() <= 2e-38


@pytest.mark.parametrize(
    ("function", "exact", "most"),
    [(functions.tanh, math.tanh, 3e-7), (functions.erf, math.erf, 4e-7)],
    ids=["tanh", "erf"],
)
def test_odd_functions(
    function: Callable[[Expr], Expr], exact: Callable[[float], float], most: float
) -> None:
    for x in (points(-12, 12), points(-0.01, 0.01), points(-1e4, 1e4)):
        found = computed(function, x)
        wanted = np.array([exact(float(value)) for value in x])
        assert np.max(np.abs(found - wanted)) <= most
        np.testing.assert_array_equal(found, -computed(function, -x))


def test_no_function_calls_libm() -> None:
    """That would be a call for each lane."""

    @T.prim_func(s_tir=True)
    def main(a: T.Buffer(SHAPE, DTYPE), b: T.Buffer(SHAPE, DTYPE)) -> None:
        for i in T.serial(COUNT // 16):
            for j in T.vectorized(16):
                b[i * 16 + j] = functions.sigmoid(
                    functions.tanh(functions.erf(functions.exp(a[i * 16 + j])))
                )

    spec = {"kind": "llvm", "mcpu": "znver4", "mtriple": "x86_64-linux-gnu"}
    module = tvm.compile(tvm.IRModule({"main": main}), spec)
    text = module.mod.inspect_source("s")
    assert "vrndscaleps" in text
    for name in ("expf", "tanhf", "erff", "floorf"):
        assert name not in text
