"""Products of two matrices of bfloat16 into 2x2 sums.

Two pixels by two output channels, of DEPTH input channels: one ``bfmmla`` where an ARM core has
BF16. Elsewhere a step is made of products of pairs (pair_products.py).
"""

from __future__ import annotations

from collections.abc import Sequence

from tvm import tirx
from tvm.ir import Expr
from tvm.script import tirx as T

from schedules.cpu.step_intrinsics import Dot, Intrinsic, Operand, Step, intrinsic_of
from schedules.cpu.vectors import shuffled

DEPTH = 4  # input channels of a step
SIDE = 2  # pixels, and output channels
SUMS = SIDE * SIDE
MATRIX = "tvm_mobilenet_matrix_bf16_4"  # (sums, pixels, weights), both as int32


def bfmmla(sums: Expr, pixels: Expr, weights: Expr) -> Expr:
    """Rounds to odd after each pair of products, and takes what is no normal number for zero."""
    return T.call_extern(f"float32x{SUMS}", MATRIX, sums, pixels, weights)


def by_pairs(dot: Dot) -> Dot:
    """The same by a product of pairs: the first two input channels of each, then the others."""

    def multiply(sums: Expr, pixels: Expr, weights: Expr) -> Expr:
        for pair in (0, 1):
            sums = dot(
                sums,
                shuffled(pixels, [pair, pair, pair + SIDE, pair + SIDE]),
                shuffled(weights, [pair, pair + SIDE, pair, pair + SIDE]),
            )
        return sums

    return multiply


def of_matrices(multiply: Dot, *, words: bool = False) -> Intrinsic:
    """``words``: a pixel's channels lie in an int64."""

    def product(data: tirx.Buffer, weight: tirx.Buffer, axes: Sequence[Expr]) -> Expr:
        pixel, lane, i = axes
        factor = number_in(data[pixel], i) if words else T.cast(data[pixel, i], "float32")
        return factor * T.cast(weight[lane, i], "float32")

    def compute(sums: Expr, data: tirx.Buffer, weight: tirx.Buffer) -> Expr:
        numbers = f"bfloat16x{SIDE * DEPTH}"
        read = data.vload([0], f"int64x{SIDE}") if words else data.vload([0, 0], numbers)
        pixels, weights = (
            T.reinterpret(one, dtype=f"int32x{SUMS}")
            for one in (read, weight.vload([0, 0], numbers))
        )
        return multiply(sums, pixels, weights)

    matrix, sums = Operand((SIDE, DEPTH), "bfloat16"), Operand((SIDE, SIDE), "float32")
    data = Operand((SIDE,), "int64") if words else matrix
    return intrinsic_of(Step(data, matrix, sums, (SIDE, SIDE, DEPTH), "SSR", product, compute))


def number_in(word: Expr, place: Expr) -> Expr:
    """That of an int64 of bfloat16, the lowest first, as a float32."""
    bits = T.cast(T.shift_right(word, T.cast(place * 16, "int64")), "int32")
    return T.reinterpret("float32", T.shift_left(bits, 16))
