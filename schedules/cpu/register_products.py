"""Steps of a dense convolution over bytes that take a whole register, as TVM tensor intrinsics.

For ARM cores with int8 matrices (``matrices``), and for those without dot products (``parts``,
whose sums ``folds`` adds up). Each is NEON's instructions, or where a target has none of them
plain arithmetic, which is as exact.
"""

from __future__ import annotations

from tvm import tirx
from tvm.ir import Expr
from tvm.script import tirx as T
from tvm.target import Target

from schedules.cpu.vectors import shuffled

MATRIX_DEPTH = 8
LANES = 8  # channels of a step of taps
REGISTER, PARTS = 16, 4  # bytes of a step without dot products, and the sums that share them
SMULL, SADDLP, ADDP = (
    "llvm.aarch64.neon.smull.v8i16",
    "llvm.aarch64.neon.saddlp.v4i32.v8i16",
    "llvm.aarch64.neon.addp.v4i32",
)
SMMLA = "llvm.aarch64.neon.smmla.v4i32.v16i8"


def spelled_out(target: Target | None) -> bool:
    """Whether a target has none of NEON's instructions, and steps are plain arithmetic."""
    return target is None or not str(target.attrs.get("mtriple", "")).startswith(
        ("aarch64", "arm64")
    )


def of_parts(*, plain: bool) -> tuple[tirx.PrimFunc, tirx.PrimFunc]:
    """What a step is, and how it is done: ``smull`` and ``smlal2`` sum two products in 16 bits,
    ``sadalp`` adds neighbours to the sums."""

    @T.prim_func(s_tir=True)
    def description(a: T.handle, b: T.handle, c: T.handle) -> None:
        data = T.match_buffer(a, (REGISTER,), "int8", offset_factor=1)
        weight = T.match_buffer(b, (REGISTER,), "int8", offset_factor=1)
        acc = T.match_buffer(c, (PARTS,), "int32", offset_factor=1)
        with T.sblock("root"):
            T.reads(acc[0:PARTS], data[0:REGISTER], weight[0:REGISTER])
            T.writes(acc[0:PARTS])
            for part, i, j in T.grid(PARTS, 2, 2):
                with T.sblock("update"):
                    vp, vi, vj = T.axis.remap("SRR", [part, i, j])
                    acc[vp] = acc[vp] + T.cast(data[vi * 8 + vp * 2 + vj], "int32") * T.cast(
                        weight[vi * 8 + vp * 2 + vj], "int32"
                    )

    def step(sums: Expr, data: Expr, weight: Expr) -> Expr:
        low, high = range(REGISTER // 2), range(REGISTER // 2, REGISTER)
        halves = [(shuffled(data, half), shuffled(weight, half)) for half in (low, high)]
        if plain:
            for half in halves:
                one, other = (T.cast(side, "int32x8") for side in half)
                pairs = one * other
                for place in (0, 1):
                    sums = sums + shuffled(pairs, range(place, REGISTER // 2, 2))
            return sums
        first, second = (T.call_llvm_pure_intrin(SMULL, *half, dtype="int16x8") for half in halves)
        return sums + T.call_llvm_pure_intrin(SADDLP, first + second, dtype="int32x4")

    @T.prim_func(s_tir=True)
    def implementation(a: T.handle, b: T.handle, c: T.handle) -> None:
        data = T.match_buffer(a, (REGISTER,), "int8", offset_factor=1)
        weight = T.match_buffer(b, (REGISTER,), "int8", offset_factor=1)
        acc = T.match_buffer(c, (PARTS,), "int32", offset_factor=1)
        with T.sblock("root"):
            T.reads(acc[0:PARTS], data[0:REGISTER], weight[0:REGISTER])
            T.writes(acc[0:PARTS])
            acc[T.ramp(0, 1, PARTS)] = step(
                acc[T.ramp(0, 1, PARTS)],
                data[T.ramp(0, 1, REGISTER)],
                weight[T.ramp(0, 1, REGISTER)],
            )

    return description, implementation


def of_taps(count: int, *, plain: bool) -> tuple[tirx.PrimFunc, tirx.PrimFunc]:
    """What a row of a depthwise filter is, and how it is done: ``smull`` and ``smlal`` sum the
    products of two taps in 16 bits, ``saddw`` adds them to the sums.
    """

    def step(sums: Expr, data: list[Expr], weight: list[Expr]) -> Expr:
        if plain:
            for one, other in zip(data, weight, strict=True):
                sums = sums + T.cast(one, f"int32x{LANES}") * T.cast(other, f"int32x{LANES}")
            return sums
        products = [
            T.call_llvm_pure_intrin(SMULL, one, other, dtype=f"int16x{LANES}")
            for one, other in zip(data, weight, strict=True)
        ]
        for first in range(0, count, 2):
            pair = products[first : first + 2]
            sums = sums + T.cast(pair[0] if len(pair) == 1 else pair[0] + pair[1], f"int32x{LANES}")
        return sums

    @T.prim_func(s_tir=True)
    def description(a: T.handle, b: T.handle, c: T.handle) -> None:
        apart, between = T.int32(), T.int32()
        data = T.match_buffer(a, (count, LANES), "int8", strides=[apart, 1], offset_factor=1)
        weight = T.match_buffer(b, (count, LANES), "int8", strides=[between, 1], offset_factor=1)
        acc = T.match_buffer(c, (LANES,), "int32", offset_factor=1)
        with T.sblock("root"):
            T.reads(acc[0:LANES], data[0:count, 0:LANES], weight[0:count, 0:LANES])
            T.writes(acc[0:LANES])
            for lane, tap in T.grid(LANES, count):
                with T.sblock("update"):
                    vl, vt = T.axis.remap("SR", [lane, tap])
                    acc[vl] = acc[vl] + T.cast(data[vt, vl], "int32") * T.cast(
                        weight[vt, vl], "int32"
                    )

    @T.prim_func(s_tir=True)
    def implementation(a: T.handle, b: T.handle, c: T.handle) -> None:
        apart, between = T.int32(), T.int32()
        data = T.match_buffer(a, (count, LANES), "int8", strides=[apart, 1], offset_factor=1)
        weight = T.match_buffer(b, (count, LANES), "int8", strides=[between, 1], offset_factor=1)
        acc = T.match_buffer(c, (LANES,), "int32", offset_factor=1)
        with T.sblock("root"):
            T.reads(acc[0:LANES], data[0:count, 0:LANES], weight[0:count, 0:LANES])
            T.writes(acc[0:LANES])
            acc[T.ramp(0, 1, LANES)] = step(
                acc[T.ramp(0, 1, LANES)],
                [data.vload([tap, 0], f"int8x{LANES}") for tap in range(count)],
                [weight.vload([tap, 0], f"int8x{LANES}") for tap in range(count)],
            )

    return description, implementation


def of_folds(*, plain: bool) -> tuple[tirx.PrimFunc, tirx.PrimFunc]:
    """What is added up, and how: neighbours, twice."""

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


def of_matrices(*, plain: bool) -> tuple[tirx.PrimFunc, tirx.PrimFunc]:
    """What a step is, and how it is done: ``smmla`` multiplies a matrix by a transposed one."""
    depth = MATRIX_DEPTH

    def step(sums: Expr, data: Expr, weight: Expr) -> Expr:
        if not plain:
            return T.call_llvm_pure_intrin(SMMLA, sums, data, weight, dtype="int32x4")
        for i in range(depth):
            columns = [i + depth * row for row in (0, 1)]
            pixels = shuffled(data, [column for column in columns for _ in (0, 1)])
            sums = sums + T.cast(pixels, "int32x4") * T.cast(
                shuffled(weight, columns * 2), "int32x4"
            )
        return sums

    @T.prim_func(s_tir=True)
    def description(a: T.handle, b: T.handle, c: T.handle) -> None:
        data = T.match_buffer(a, (2, depth), "int8", offset_factor=1)
        weight = T.match_buffer(b, (2, depth), "int8", offset_factor=1)
        acc = T.match_buffer(c, (2, 2), "int32", offset_factor=1)
        with T.sblock("root"):
            T.reads(acc[0:2, 0:2], data[0:2, 0:depth], weight[0:2, 0:depth])
            T.writes(acc[0:2, 0:2])
            for pixel, lane, i in T.grid(2, 2, depth):
                with T.sblock("update"):
                    vp, vl, vi = T.axis.remap("SSR", [pixel, lane, i])
                    acc[vp, vl] = acc[vp, vl] + T.cast(data[vp, vi], "int32") * T.cast(
                        weight[vl, vi], "int32"
                    )

    @T.prim_func(s_tir=True)
    def implementation(a: T.handle, b: T.handle, c: T.handle) -> None:
        data = T.match_buffer(a, (2, depth), "int8", offset_factor=1)
        weight = T.match_buffer(b, (2, depth), "int8", offset_factor=1)
        acc = T.match_buffer(c, (2, 2), "int32", offset_factor=1)
        with T.sblock("root"):
            T.reads(acc[0:2, 0:2], data[0:2, 0:depth], weight[0:2, 0:depth])
            T.writes(acc[0:2, 0:2])
            acc.vstore(
                [0, 0],
                step(
                    acc.vload([0, 0], "int32x4"),
                    data.vload([0, 0], "int8x16"),
                    weight.vload([0, 0], "int8x16"),
                ),
            )

    return description, implementation


WHOLE = {"matrices": of_matrices, "parts": of_parts, "folds": of_folds}
