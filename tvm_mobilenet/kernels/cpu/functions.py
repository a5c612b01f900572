"""Functions of one float32, made of what every vector unit has: no call into libm, no branch.

TVM's own ``exp``, ``tanh`` and ``erf`` become a call of libm for every single lane. Each function
here says how far it may lie from the exact value; tests/kernels/test_functions.py holds it to that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from tvm import tirx
from tvm.ir import Expr
from tvm.script import tirx as T

DTYPE = "float32"
# The natural logarithm of 2 in two parts: a multiple of the first is exact.
LN2_HIGH, LN2_LOW = 0.693359375, -2.12194440e-4
LOG2_E = 1.44269504088896341
# Where exp is the smallest and the largest normal float32.
EXP_MIN, EXP_MAX = -87.33654, 88.37626
EXPONENT_BIAS, MANTISSA_BITS = 127, 23
# exp(r) = 1 + r + r^2 P(r) on [-ln 2 / 2, ln 2 / 2], from Cephes' expf
EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 0.5)
# log(1 + r) = r - r^2 / 2 + r^3 P(r) on [sqrt(1/2) - 1, sqrt(2) - 1], from Cephes' logf
LOG = (
    7.0376836292e-2,
    -1.1514610310e-1,
    1.1676998740e-1,
    -1.2420140846e-1,
    1.4249322787e-1,
    -1.6668057665e-1,
    2.0000714765e-1,
    -2.4999993993e-1,
    3.3333331174e-1,
)
SQRT_HALF_BITS = 0x3F3504F3  # of sqrt(1/2), from which on a mantissa goes to sqrt(2)
MANTISSA = (1 << MANTISSA_BITS) - 1
SMALLEST = 1.17549435e-38  # normal float32
# Rational approximations in x^2 from Eigen: tanh on [-9, 9], erf on [-4, 4]
TANH_MAX = 7.90531110763549805
TANH_ABOVE = (
    -2.76076847742355e-16,
    2.00018790482477e-13,
    -8.60467152213735e-11,
    5.12229709037114e-08,
    1.48572235717979e-05,
    6.37261928875436e-04,
    4.89352455891786e-03,
)
TANH_BELOW = (
    1.19825839466702e-06,
    1.18534705686654e-04,
    2.26843463243900e-03,
    4.89352518554385e-03,
)
ERF_MAX = 4.0
ERF_ABOVE = (
    -2.72614225801306e-10,
    2.77068142495902e-08,
    -2.10102402082508e-06,
    -5.69250639462346e-05,
    -7.34990630326855e-04,
    -2.95459980854025e-03,
    -1.60960333262415e-02,
)
ERF_BELOW = (
    -1.45660718464996e-05,
    -2.13374055278905e-04,
    -1.68282697438203e-03,
    -7.37332916720468e-03,
    -1.42647390514189e-02,
)


def exp(x: Expr) -> Expr:
    """e to the x: relative error at most 2e-7; what would be no normal number is the nearest."""
    clamped = T.max(T.min(x, number(EXP_MAX)), number(EXP_MIN))
    return bind(clamped, lambda c: bind(T.floor(c * LOG2_E + 0.5), lambda n: _exp(c, n)))


def _exp(x: Expr, n: Expr) -> Expr:
    """exp(x) = 2^n exp(x - n ln 2)."""
    bits = (T.Cast("int32", n) + EXPONENT_BIAS) << MANTISSA_BITS
    power = T.reinterpret(DTYPE, bits)
    reduced = x - n * LN2_HIGH - n * LN2_LOW
    return bind(reduced, lambda r: (polynomial(r, EXP) * (r * r) + r + 1) * power)


def log(x: Expr) -> Expr:
    """Natural logarithm of a finite number: error at most 2e-7, of the result or of 1.

    Minus infinity of zero and of what is no normal number, NaN of what is negative.
    """

    def of(c: Expr) -> Expr:
        none = tirx.Select(c > -SMALLEST, number(-math.inf), number(math.nan))
        return tirx.Select(c >= SMALLEST, _log(c), none)

    return bind(x, of)


def _log(x: Expr) -> Expr:
    """log(2^n m) = n ln 2 + log(m)."""
    bits = T.reinterpret("int32", x) - SQRT_HALF_BITS
    mantissa = T.reinterpret(DTYPE, (bits & MANTISSA) + SQRT_HALF_BITS)

    def summed(n: Expr, r: Expr) -> Expr:
        square = r * r
        small = polynomial(r, LOG) * r * square + n * LN2_LOW - square * 0.5
        return (r + small) + n * LN2_HIGH

    n = T.Cast(DTYPE, bits >> MANTISSA_BITS)
    return bind(n, lambda n: bind(mantissa - 1, lambda r: summed(n, r)))


def log1p(x: Expr) -> Expr:
    """log(1 + x): relative error at most 4e-7 for x > -0.5.

    What 1 + x is rounded by is made good by the ratio of x to what was really added.
    """

    def of(c: Expr, whole: Expr) -> Expr:
        added = whole - 1
        return tirx.Select(tirx.EQ(added, number(0)), c, log(whole) * (c / added))

    return bind(x, lambda c: bind(c + 1, lambda whole: of(c, whole)))


def sigmoid(x: Expr) -> Expr:
    """1 / (1 + exp(-x)): relative error at most 3e-7 for x > -87, absolute 2e-38 below."""
    return number(1) / (exp(-x) + 1)


def tanh(x: Expr) -> Expr:
    """Hyperbolic tangent: absolute error at most 3e-7."""
    clamped = T.max(T.min(x, number(TANH_MAX)), number(-TANH_MAX))
    return bind(clamped, lambda c: odd_ratio(c, TANH_ABOVE, TANH_BELOW))


def erf(x: Expr) -> Expr:
    """Gauss's error function: absolute error at most 4e-7."""
    clamped = T.max(T.min(x, number(ERF_MAX)), number(-ERF_MAX))
    return bind(clamped, lambda c: odd_ratio(c, ERF_ABOVE, ERF_BELOW))


def odd_ratio(x: Expr, above: Sequence[float], below: Sequence[float]) -> Expr:
    """x P(x^2) / Q(x^2)."""
    return bind(x * x, lambda square: x * polynomial(square, above) / polynomial(square, below))


def polynomial(x: Expr, coefficients: Sequence[float]) -> Expr:
    """By Horner's rule, the highest power's coefficient first."""
    value: Expr = number(coefficients[0])
    for coefficient in coefficients[1:]:
        value = value * x + coefficient
    return value


def bind(value: Expr, body: Callable[[Expr], Expr]) -> Expr:
    """``body`` of a variable that holds ``value``, which is computed once."""
    variable = tirx.Var("t", DTYPE)
    return tirx.Let(variable, value, body(variable))


def number(value: float) -> tirx.FloatImm:
    return tirx.FloatImm(DTYPE, value)
