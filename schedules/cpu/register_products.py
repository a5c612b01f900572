"""Steps of a convolution over bytes that take whole registers, as TVM tensor intrinsics.

For ARM cores with int8 matrices (``matrices``), and for those without dot products (``parts``,
whose sums ``folds`` adds up, and ``taps``). Each is NEON's instructions, or where a target has none
of them plain arithmetic, which is as exact.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from tvm import tirx
from tvm.ir import Expr
from tvm.script import tirx as T
from tvm.target import Target

from schedules.cpu.step_intrinsics import Intrinsic, Operand, Step, intrinsic_of
from schedules.cpu.vectors import shuffled

MATRIX_DEPTH = 8
LANES = 8  # channels of a step of taps
# mark the block of sums: 16 bits hold those of so many steps, and a table has their order
IN_WORDS, IN_ORDER = "in_words", "in_order"
REGISTER, PARTS = 16, 4  # bytes of a step without dot products, and the sums that share them
SMULL, SADDLP, ADDP = (
    "llvm.aarch64.neon.smull.v8i16",
    "llvm.aarch64.neon.saddlp.v4i32.v8i16",
    "llvm.aarch64.neon.addp.v4i32",
)
SMMLA = "llvm.aarch64.neon.smmla.v4i32.v16i8"


def spelled_out(target: Target | None) -> bool:
    """Whether a target has none of NEON's instructions, and steps are plain arithmetic.

    Those of 32 bits are others (compiler/cpu/neon_32.py).
    """
    return target is None or not str(target.attrs.get("mtriple", "")).startswith(("aarch64", "arm"))


def product_of(data: Expr, weight: Expr) -> Expr:
    return T.cast(data, "int32") * T.cast(weight, "int32")


@functools.cache
def of_parts(_: int, *, plain: bool) -> Intrinsic:
    """``smull`` and ``smlal2`` sum two products in 16 bits, ``sadalp`` adds neighbours to the sums.

    So each part has two neighbouring channels of either half of the register.
    """

    def product(data: tirx.Buffer, weight: tirx.Buffer, axes: Sequence[Expr]) -> Expr:
        part, i, j = axes
        return product_of(data[i * 8 + part * 2 + j], weight[i * 8 + part * 2 + j])

    def compute(sums: Expr, data: tirx.Buffer, weight: tirx.Buffer) -> Expr:
        whole = [one.vload([0], f"int8x{REGISTER}") for one in (data, weight)]
        low, high = range(REGISTER // 2), range(REGISTER // 2, REGISTER)
        halves = [[shuffled(one, half) for one in whole] for half in (low, high)]
        if plain:
            for half in halves:
                one, other = (T.cast(side, "int32x8") for side in half)
                pairs = one * other
                for place in (0, 1):
                    sums = sums + shuffled(pairs, range(place, REGISTER // 2, 2))
            return sums
        first, second = (T.call_llvm_pure_intrin(SMULL, *half, dtype="int16x8") for half in halves)
        return sums + T.call_llvm_pure_intrin(SADDLP, first + second, dtype="int32x4")

    bytes_ = Operand((REGISTER,), "int8")
    sums = Operand((PARTS,), "int32")
    return intrinsic_of(Step(bytes_, bytes_, sums, (PARTS, 2, 2), "SRR", product, compute))


@functools.cache
def of_taps(count: int, *, plain: bool) -> Intrinsic:
    """A row of a depthwise filter: ``smull`` and ``smlal`` sum the products of two taps in 16 bits,
    ``saddw`` adds them to the sums.
    """

    def product(data: tirx.Buffer, weight: tirx.Buffer, axes: Sequence[Expr]) -> Expr:
        lane, tap = axes
        return product_of(data[tap, lane], weight[tap, lane])

    def compute(sums: Expr, data: tirx.Buffer, weight: tirx.Buffer) -> Expr:
        rows = [
            tuple(one.vload([tap, 0], f"int8x{LANES}") for one in (data, weight))
            for tap in range(count)
        ]
        if plain:
            for one, other in rows:
                sums = sums + T.cast(one, f"int32x{LANES}") * T.cast(other, f"int32x{LANES}")
            return sums
        products = [T.call_llvm_pure_intrin(SMULL, *row, dtype=f"int16x{LANES}") for row in rows]
        for first in range(0, count, 2):
            pair = products[first : first + 2]
            sums = sums + T.cast(pair[0] if len(pair) == 1 else pair[0] + pair[1], f"int32x{LANES}")
        return sums

    rows = Operand((count, LANES), "int8", apart=True)
    sums = Operand((LANES,), "int32")
    return intrinsic_of(Step(rows, rows, sums, (LANES, count), "SR", product, compute))


@functools.cache
def of_matrices(depth: int, *, plain: bool) -> Intrinsic:
    """``smmla`` multiplies a matrix of two pixels by a transposed one of two output channels."""

    def product(data: tirx.Buffer, weight: tirx.Buffer, axes: Sequence[Expr]) -> Expr:
        pixel, lane, i = axes
        return product_of(data[pixel, i], weight[lane, i])

    def compute(sums: Expr, data: tirx.Buffer, weight: tirx.Buffer) -> Expr:
        left, right = (one.vload([0, 0], "int8x16") for one in (data, weight))
        if not plain:
            return T.call_llvm_pure_intrin(SMMLA, sums, left, right, dtype="int32x4")
        for i in range(depth):
            columns = [i + depth * row for row in (0, 1)]
            pixels = shuffled(left, [column for column in columns for _ in (0, 1)])
            sums = sums + T.cast(pixels, "int32x4") * T.cast(
                shuffled(right, columns * 2), "int32x4"
            )
        return sums

    matrix = Operand((2, depth), "int8")
    sums = Operand((2, 2), "int32")
    return intrinsic_of(Step(matrix, matrix, sums, (2, 2, depth), "SSR", product, compute))


@functools.cache
def of_folds(_: int, *, plain: bool) -> Intrinsic:
    """Adds up the PARTS sums of each of as many channels: neighbours, twice."""

    @T.prim_func(s_tir=True)
    def description(a: T.handle, b: T.handle) -> None:
        acc = T.match_buffer(a, (PARTS, PARTS), "int32", offset_factor=1)
        sums = T.match_buffer(b, (PARTS,), "int32", offset_factor=1)
        with T.sblock("root"):
            T.reads(acc[0:PARTS, 0:PARTS])
            T.writes(sums[0:PARTS])
            for lane in T.grid(PARTS):
                with T.sblock("add"):
                    vl = T.axis.remap("S", [lane])
                    sums[vl] = acc[vl, 0] + acc[vl, 1] + (acc[vl, 2] + acc[vl, 3])

    def added(acc: tirx.Buffer) -> Expr:
        rows = [acc.vload([row, 0], "int32x4") for row in range(PARTS)]
        if plain:
            whole = tirx.Shuffle(rows, [tirx.IntImm("int32", place) for place in range(REGISTER)])
            columns = [shuffled(whole, range(place, REGISTER, PARTS)) for place in range(PARTS)]
            return columns[0] + columns[1] + (columns[2] + columns[3])
        pairs = [
            T.call_llvm_pure_intrin(ADDP, *rows[place : place + 2], dtype="int32x4")
            for place in (0, 2)
        ]
        return T.call_llvm_pure_intrin(ADDP, *pairs, dtype="int32x4")

    @T.prim_func(s_tir=True)
    def implementation(a: T.handle, b: T.handle) -> None:
        acc = T.match_buffer(a, (PARTS, PARTS), "int32", offset_factor=1)
        sums = T.match_buffer(b, (PARTS,), "int32", offset_factor=1)
        with T.sblock("root"):
            T.reads(acc[0:PARTS, 0:PARTS])
            T.writes(sums[0:PARTS])
            sums[T.ramp(0, 1, PARTS)] = added(acc)

    return description, implementation


# by operand: of so many lanes, taps or bytes, which ``parts`` and ``folds`` have but one of
REGISTER_STEPS: dict[str, Callable[..., Intrinsic]] = {
    "matrices": of_matrices,
    "parts": of_parts,
    "folds": of_folds,
    "taps": of_taps,
}
