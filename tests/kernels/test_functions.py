"""The vector units' functions against exact values: as far off as each says, at most."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import tvm
import tvm_ffi
from numpy.typing import NDArray
from tvm.ir import Call, Expr
from tvm.script import tirx as T

from tvm_mobilenet.compiler.cpu.vector_functions import spelled_out
from tvm_mobilenet.hardware import target
from tvm_mobilenet.kernels.cpu import expressions, functions
from tvm_mobilenet.kernels.cpu.expressions import SELF, Expression, apply

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


def test_log() -> None:
    x = np.concatenate([points(0.5, 2), np.logspace(-37.9, 38.5, COUNT, dtype=np.float32)])[::2]
    exact = np.log(x.astype(np.float64))
    assert np.max(np.abs(computed(functions.log, x) - exact) / np.maximum(np.abs(exact), 1)) <= 2e-7


def test_log_of_what_has_none() -> None:
    x = np.resize(np.array([0, 1e-40, -1, np.nan], np.float32), COUNT)
    np.testing.assert_array_equal(computed(functions.log, x)[:4], [-np.inf, -np.inf] + [np.nan] * 2)


def test_log1p() -> None:
    x = np.concatenate([points(-0.5, 2), np.logspace(-37, 37, COUNT, dtype=np.float32)])[::2]
    x = x[x != 0]
    exact = np.log1p(x.astype(np.float64))
    found = computed(functions.log1p, np.resize(x, COUNT))[: x.size]
    assert np.max(np.abs(found - exact) / np.abs(exact)) <= 4e-7


def softplus(x: Doubles) -> Doubles:
    found: Doubles = np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))
    return found


def gelu_tanh(x: Doubles) -> Doubles:
    found: Doubles = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    return found


@pytest.mark.parametrize(
    ("expression", "exact", "most"),
    [
        (expressions.gelu_tanh, gelu_tanh, 3e-7),
        (expressions.softplus, softplus, 3e-7),
        (
            lambda x: apply("multiply", x, expressions.mish_gate(x)),
            lambda x: x * np.tanh(softplus(x)),
            3e-7,
        ),
        (lambda x: expressions.power(x, 7), lambda x: x**7, 5e-7),
        (lambda x: expressions.power(x, -2), lambda x: x**-2.0, 3e-7),
    ],
    ids=["gelu_tanh", "softplus", "mish", "x^7", "x^-2"],
)
def test_an_activation_is_off_by_this_much_of_itself_or_of_1(
    expression: Callable[[Expression], Expression], exact: Callable[[Doubles], Doubles], most: float
) -> None:
    """As kernels have it in their epilogues."""
    whole = expression(expressions.SELF)

    def function(x: Expr) -> Expr:
        spelled = expressions.lower(whole, [x])
        return tvm_ffi.structural_map(spelled, (Call, spelled_out))

    for x in (points(-90, 90), points(-3, 3), points(0.01, 1)):
        right = exact(x.astype(np.float64))
        error = np.abs(computed(function, x) - right) / np.maximum(np.abs(right), 1)
        assert np.max(error) <= most


def log(x: Expression) -> Expression:
    return apply("log", x)


ONE_MORE = apply("add", apply("exp", SELF), 1.0)


@pytest.mark.parametrize(
    ("spelled", "simple"),
    [
        (log(ONE_MORE), expressions.softplus(SELF)),
        (log(apply("add", 1.0, apply("exp", SELF))), expressions.softplus(SELF)),
        (apply("tanh", log(ONE_MORE)), expressions.mish_gate(SELF)),
        (apply("tanh", expressions.softplus(SELF)), expressions.mish_gate(SELF)),
        (log(apply("add", 2.0, SELF)), log(apply("add", 2.0, SELF))),
    ],
)
def test_what_exporters_spell_out_is_one_function(spelled: Expression, simple: Expression) -> None:
    assert expressions.simplified(spelled) == simple


def test_no_function_calls_libm() -> None:
    """That would be a call for each lane."""

    @T.prim_func(s_tir=True)
    def main(a: T.Buffer(SHAPE, DTYPE), b: T.Buffer(SHAPE, DTYPE)) -> None:
        for i in T.serial(COUNT // 16):
            for j in T.vectorized(16):
                b[i * 16 + j] = functions.log1p(
                    functions.sigmoid(functions.tanh(functions.erf(functions.exp(a[i * 16 + j]))))
                )

    spec = {"kind": "llvm", "mcpu": "znver4", "mtriple": "x86_64-linux-gnu"}
    module = tvm.compile(tvm.IRModule({"main": main}), spec)
    text = module.mod.inspect_source("s")
    assert "vrndscaleps" in text
    for name in ("expf", "logf", "log1pf", "tanhf", "erff", "floorf"):
        assert name not in text
